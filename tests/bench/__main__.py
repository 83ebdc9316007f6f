"""`python -m bench`: measure, print the table, and write it down."""

import argparse
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import events, fill, logs, queues, report

_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main() -> int:
    """Run all benchmarks; returns the exit status, 1 if a goal was missed."""
    options = _options()
    if lack := _lack(options.dir, options.messages):
        report.progress(f"bench: {lack}")
        return 2
    with TemporaryDirectory(prefix="qmail-exporter-bench-", dir=options.dir) as directory:
        place = Path(directory)
        rows = [
            *events.measure(place),
            *logs.measure(place, options.lines, options.runs),
            *queues.measure(place, options.messages, options.runs),
        ]
        report.progress("removing the queue")
    print(report.table(rows))  # noqa: T201 - what it is for
    sizes = f"{options.messages:,} messages, {options.lines:,} log lines, {options.runs} runs"
    options.output.write_text(report.document(rows, sizes), encoding="utf-8")
    return 0 if all(row.met for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="in the large queue (%(default)s)")
    parser.add_argument("--lines", type=int, default=2_000_000, help="of the log (%(default)s)")
    parser.add_argument(
        "--runs", type=int, default=3, help="of all that is measured by the clock (%(default)s)"
    )
    parser.add_argument("--dir", type=Path, default=Path("/dev/shm"), help="on a tmpfs (%(default)s)")  # noqa: S108
    parser.add_argument("--output", type=Path, default=_PAGE, help="the page to write (%(default)s)")
    return parser.parse_args()


def _lack(place: Path, messages: int) -> str | None:
    """Tell what there is too little of for so many messages, if anything."""
    needed = messages * fill.BYTES_A_MESSAGE + (1 << 30)
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name, there in ((str(place), shutil.disk_usage(place).free), ("memory", memory)):
        if there < needed:
            return f"{needed >> 20} MiB of {name} are needed and {there >> 20} are free; see --messages and --dir"
    return None


if __name__ == "__main__":
    sys.exit(main())
