"""What a queue costs, from ten thousand messages to a million: the first scan, memory, scrapes."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

from bench import fill
from bench.process import Exporter, run_timed
from bench.report import Figure, Goal, Row, progress

SMALL = 1000
SCRAPES = 200
BARE = 1_000_000
"""Messages from which on the goals count: of a small queue, the start of the process is the most."""
_SECONDS, _MILLISECONDS, _BYTES, _MEGABYTES = "{:.2f} s", "{:.2f} ms", "{:.0f} bytes", "{:.1f} MB"


def measure(place: Path, sizes: Sequence[int], runs: int) -> Iterator[Row]:
    """Make queues of these sizes in `place`, a directory on a tmpfs, and yield the rows."""
    fill.fill(place / "small" / "queue", SMALL)
    fill.write_log(place / "small.log", SMALL)
    empty = empty_exporter(place)
    for messages in sizes:
        home = place / f"{messages}"
        progress(f"making a queue of {messages:,} messages")
        fill.fill(home / "queue", messages)
        yield from scans(home / "queue", messages, runs, "tmpfs", empty)
        yield from _scrapes(place, home / "queue", messages, empty)
        shutil.rmtree(home)


def scans(queue: Path, messages: int, runs: int, medium: str, empty: int) -> Iterator[Row]:
    """Yield what the first scan of a queue costs; its memory is beside that of an exporter of an `empty` one, in bytes."""
    no_log = queue.parent / "no-log"
    peers = _peers(queue)
    took: list[float] = []
    waits, sizes = [], []
    beside: dict[str, list[float]] = {name: [] for name in peers}
    for run in range(runs):
        progress(f"first scan of {messages:,} messages, {medium}, run {run + 1} of {runs}")
        with closing(Exporter(queue, no_log)) as exporter:
            took.append(exporter.wait(scraping=True))
            waits += exporter.waits
            sizes.append(exporter.memory())
        for name, (argv, _) in peers.items():
            progress(f"{name}, run {run + 1} of {runs}")
            beside[name].append(run_timed(argv)[0])
    whole = messages >= BARE
    what = f"first scan, {messages:,} messages, {medium}"
    for name, (_, goal) in peers.items():
        yield Row(what, Figure(took, _SECONDS), name, Figure(beside[name], _SECONDS), goal if whole else None)
    if waits:
        slowest = Figure([max(waits)], "{:.3f} s")
        yield Row("slowest scrape meanwhile", slowest, "limit", Figure([0.1], "{:.1f} s"), ("≤", 1))
    memory = Figure([size / 1e6 for size in sizes], _MEGABYTES)
    yield Row(
        f"resident then, {messages:,} messages, {medium}",
        memory,
        "empty queue",
        Figure([empty / 1e6], _MEGABYTES),
    )
    if whole:
        yield _memory(
            f"memory a message, one recipient, {medium}", [size - empty for size in sizes], messages
        )


def _scrapes(place: Path, queue: Path, messages: int, empty: int) -> Iterator[Row]:
    progress("reading back a log that tells of a deferral of each message")
    log = queue.parent / "log"
    fill.write_log(log, messages)
    with (
        closing(Exporter(queue, log)) as large,
        closing(Exporter(place / "small" / "queue", place / "small.log")) as small,
    ):
        large.wait(scraping=False)
        small.wait(scraping=False)
        large.settle()
        deferred = large.memory() - empty
        progress(f"scraping, {SCRAPES} times each")
        pairs = [(small.scrape() * 1e3, large.scrape() * 1e3) for _ in range(SCRAPES)]
        plain = [large.scrape(Accept="text/plain") * 1e3 for _ in range(SCRAPES)]
        progress(f"asking for the status page, {SCRAPES} times")
        pages = [large.page() for _ in range(SCRAPES)]
    of_small, of_large = (_inner(values) for values in zip(*pairs, strict=True))
    if messages >= BARE:
        yield _memory("the same, all deferred", [deferred], messages)
    what = f"scrape, {messages:,} messages, {fill.DOMAINS} domains"
    yield Row(what, of_large, "limit", Figure([8.0], "{:.0f} ms"), ("≤", 1))
    yield Row(what, of_large, f"{SMALL:,} messages", of_small, ("≤", 1.2))
    yield Row(
        "the same in the text format, of which nothing is remembered", _inner(plain), "OpenMetrics", of_large
    )
    yield from _qstat(what, queue, median(of_large.values), messages)
    took = _inner([seconds * 1e3 for seconds, _ in pages])
    what = f"status page, {messages:,} messages, {fill.DOMAINS} domains"
    yield Row(what, took, "limit", Figure([50.0], "{:.0f} ms"), ("≤", 1))
    largest = max(size for _, size in pages) / 1000
    yield Row("its size", Figure([largest], "{:.1f} kB"), "limit", Figure([200.0], "{:.0f} kB"), ("≤", 1))


def _qstat(what: str, queue: Path, scrape: float, messages: int) -> Iterator[Row]:
    """qmail-qstat counts what a scrape tells among other things."""
    argv = bound(queue, "qmail-qstat")
    if argv is not None:
        took = [run_timed(argv)[0] * 1e3 for _ in range(3)]
        goal: Goal | None = ("≤", 0.01) if messages >= BARE else None
        yield Row(what, Figure([scrape], _MILLISECONDS), "qmail-qstat", Figure(took, _MILLISECONDS), goal)


def empty_exporter(place: Path) -> int:
    """Return the memory of an exporter that watches an empty queue, in bytes."""
    fill.fill(place / "empty" / "queue", 0)
    with closing(Exporter(place / "empty" / "queue", place / "no-log")) as exporter:
        exporter.wait(scraping=False)
        return exporter.memory()


def _inner(values: Sequence[float]) -> Figure:
    """What was measured, less the upper and lower twentieth, in milliseconds."""
    cut = len(values) // 20
    return Figure(sorted(values)[cut : len(values) - cut], _MILLISECONDS)


def _memory(what: str, sizes: list[int], messages: int) -> Row:
    figure = Figure([size / messages for size in sizes], _BYTES)
    return Row(what, figure, "limit", Figure([130.0], _BYTES), ("≤", 1))


def _peers(queue: Path) -> dict[str, tuple[list[str], Goal]]:
    """Name what the scan is held against, and the commands: qmail's own list of the queue if there is a qmail, and find."""
    peers: dict[str, tuple[list[str], Goal]] = {}
    if (argv := bound(queue, "qmail-qread")) is not None:
        peers["qmail-qread"] = argv, ("≤", 0.5)
    count = ["sh", "-c", 'find "$1/mess" -type f | wc -l', "sh", str(queue)]
    peers["find queue/mess, wc -l"] = count, ("≤", 12)
    return peers


def bound(queue: Path, program: str) -> list[str] | None:
    """Return the command that runs a program of the installed qmail's on this queue; None where that cannot be had."""
    home = os.environ.get("QMAIL_HOME", "/var/qmail")
    if os.geteuid() != 0 or not shutil.which("unshare") or not os.access(f"{home}/bin/{program}", os.X_OK):
        return None
    script = 'mount --bind "$1" "$2/queue" && exec "$2/bin/$3"'
    return ["unshare", "-m", "sh", "-c", script, "sh", str(queue), home, program]
