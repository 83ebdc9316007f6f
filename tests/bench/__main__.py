"""`python -m bench`: measure, print the table, and write it down."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import (
    backfill,
    disk,
    domains,
    events,
    fill,
    installed,
    logs,
    mailing_list,
    queues,
    report,
    rest,
    sidecar,
)

_APART = "QMAIL_EXPORTER_BENCH_APART"
"""Set in a mount namespace of its own: what is mounted there goes with the process, however that ends."""
_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main() -> int:
    """Run all benchmarks; returns the exit status, 1 if a goal was missed."""
    options = _options()
    own = os.geteuid() == 0 and shutil.which("unshare") is not None
    if own and not os.environ.get(_APART):
        argv = ["unshare", "--mount", sys.executable, "-m", "bench", *sys.argv[1:]]
        return subprocess.run(argv, env={**os.environ, _APART: "1"}, check=False).returncode
    with TemporaryDirectory(prefix="qmail-exporter-bench-", dir=options.dir) as directory:
        if own:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=100%,nr_inodes=0", "tmpfs", directory], check=True
            )
        try:
            return _run(Path(directory), options, own=own)
        finally:
            if own:
                subprocess.run(["umount", "--lazy", directory], check=True)


def _run(place: Path, options: argparse.Namespace, *, own: bool) -> int:
    try:
        on_disk = disk.choose(options.disk, options.messages)
    except ValueError as error:
        report.progress(f"bench: {error}")
        return 2
    if lack := _lack(place, options.messages, own=own):
        report.progress(f"bench: {lack}")
        return 2
    facts = [
        installed.described(options.qmail_version),
        on_disk.words,
        f"{options.messages:,} messages, {options.lines:,} log lines, {options.runs} runs",
    ]
    for fact in facts:
        report.progress(fact)
    rows: list[report.Row] = []
    try:
        for row in _measured(place, on_disk.directory, options, own=own):
            rows.append(row)  # noqa: PERF402 - what was measured before something failed is worth to be seen
    finally:
        print(report.table(rows))  # noqa: T201 - what it is for
    options.output.write_text(report.document(rows, facts), encoding="utf-8")
    return 0 if all(row.met for row in rows) else 1


def _measured(
    place: Path, on_disk: Path | None, options: argparse.Namespace, *, own: bool
) -> Iterator[report.Row]:
    yield from events.measure(place)
    yield from logs.measure(place, options.lines, options.runs)
    yield from backfill.measure(place, options.log_size, options.runs)
    yield from rest.measure(place, options.seconds, options.runs)
    yield from mailing_list.measure(place, options.seconds, options.runs)
    yield from sidecar.measure(place, options.seconds, options.runs, own=own)
    sizes = [*(size for size in (10_000, 100_000) if size < options.messages), options.messages]
    yield from queues.measure(place, sizes, options.runs)
    yield from domains.measure(place, options.messages, options.runs)
    if on_disk is not None:
        with TemporaryDirectory(prefix="qmail-exporter-bench-", dir=on_disk) as directory:
            yield from queues.measure_on_disk(Path(directory), sizes, options.runs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="in the large queue (%(default)s)")
    parser.add_argument("--lines", type=int, default=2_000_000, help="of the log (%(default)s)")
    parser.add_argument(
        "--runs", type=int, default=3, help="of all that is measured by the clock (%(default)s)"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for what takes time by itself (%(default)s)")
    parser.add_argument(
        "--log-size", type=int, default=10**9, help="bytes of the log that is read back (%(default)s)"
    )
    parser.add_argument(
        "--disk",
        metavar="DIR",
        help="on a disk, to scan queues there as well; none leaves them out (the one for temporary files, if that is on a disk)",
    )
    parser.add_argument(
        "--qmail-version", metavar="TEXT", help="of the installed qmail (as its manual page qmail(7) says)"
    )
    parser.add_argument("--dir", type=Path, default=Path("/dev/shm"), help="on a tmpfs (%(default)s)")  # noqa: S108
    parser.add_argument("--output", type=Path, default=_PAGE, help="the page to write (%(default)s)")
    return parser.parse_args()


def _lack(place: Path, messages: int, *, own: bool) -> str | None:
    """Tell what there is too little of for so many messages, if anything; an own tmpfs takes all memory if need be."""
    space, files = messages * fill.BYTES_A_MESSAGE + (1 << 30), 3 * messages + 1000
    memory = report.memory("MemAvailable")
    there = os.statvfs(place)
    if memory < space:
        return f"{space >> 20} MiB of memory are needed and {memory >> 20} are free; see --messages"
    if not own and (there.f_bavail * there.f_frsize < space or there.f_favail < files):
        return f"{space >> 20} MiB and {files} inodes are needed in {place.parent}; see --messages and --dir, or be root"
    return None


if __name__ == "__main__":
    sys.exit(main())
