"""What a queue costs, from ten thousand messages to a million: the first scan, memory, scrapes."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from bench import fill
from bench.installed import bound
from bench.process import Exporter, run_timed
from bench.report import Figure, Goal, Row, inner, progress

SMALL = 1000
SCRAPES = 200
"""Of each run, beside those of a small queue."""
ALONE = 50
"""Of each run, where there is nothing beside them."""
QSTATS = 3
"""Runs of qmail-qstat, however many there are of the rest."""
BARE = 1_000_000
"""Messages from which on the goals count: of a small queue, the start of the process is the most."""
_SECONDS, _MILLISECONDS, _BYTES, _MEGABYTES = "{:.2f} s", "{:.2f} ms", "{:.0f} bytes", "{:.1f} MB"


def measure(place: Path, sizes: Sequence[int], runs: int) -> Iterator[Row]:
    """Make queues of these sizes in `place`, a directory on a tmpfs, and yield the rows."""
    fill.fill(place / "small" / "queue", SMALL)
    fill.write_log(place / "small.log", SMALL)
    empty = empty_exporter(place, runs)
    for messages in sizes:
        home = place / f"{messages}"
        progress(f"making a queue of {messages:,} messages")
        fill.fill(home / "queue", messages)
        yield from _scans(home / "queue", messages, runs, "tmpfs", empty)
        yield from _scrapes(place, home / "queue", messages, runs, empty)
        shutil.rmtree(home)


def measure_on_disk(place: Path, sizes: Sequence[int], runs: int) -> Iterator[Row]:
    """The same, of the first scan only, in a directory on a disk.

    All names and inodes are in the kernel's memory, as the queues have just been made.  What scrapes cost is in the process's
    memory whatever the queue is on, so those of a queue with no log are measured, to see that nothing else is.
    """
    empty = empty_exporter(place, runs)
    for messages in sizes:
        home = place / f"{messages}"
        progress(f"making a queue of {messages:,} messages on a disk")
        fill.fill(home / "queue", messages)
        scrapes: list[float] = []
        yield from _scans(home / "queue", messages, runs, "disk", empty, scrapes)
        took = inner(scrapes)
        what = f"scrape, {messages:,} messages, no log, disk"
        yield Row(what, took, "limit", Figure([8.0], "{:.0f} ms"), ("≤", 1))
        shutil.rmtree(home)


def _scans(  # noqa: PLR0917 - what is the same for all media, and what is not
    queue: Path, messages: int, runs: int, medium: str, empty: Figure, scrapes: list[float] | None = None
) -> Iterator[Row]:
    """Yield what the first scan of a queue costs, beside an exporter of an `empty` one; adds to `scrapes`, milliseconds."""
    peers = _peers(queue)
    took: list[float] = []
    waits, sizes = [], []
    beside: dict[str, list[float]] = {name: [] for name in peers}
    for run in range(runs):
        progress(f"first scan of {messages:,} messages, {medium}, run {run + 1} of {runs}")
        with closing(Exporter(queue, queue.parent / "no-log")) as exporter:
            took.append(exporter.wait(scraping=True))
            waits += exporter.waits
            sizes.append(exporter.memory() / 1e6)
            if scrapes is not None:
                exporter.settle()
                scrapes += [exporter.scrape() * 1e3 for _ in range(ALONE)]
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
    what = f"resident then, {messages:,} messages, {medium}"
    yield Row(what, Figure(sizes, _MEGABYTES), "empty queue", empty)
    if whole:
        yield _memory(f"memory a message, one recipient, {medium}", sizes, messages, empty)


def _scrapes(place: Path, queue: Path, messages: int, runs: int, empty: Figure) -> Iterator[Row]:
    log = queue.parent / "log"
    fill.write_log(log, messages)
    sizes: list[float] = []
    pairs: list[tuple[float, float]] = []
    plain: list[float] = []
    pages: list[tuple[float, int]] = []
    for run in range(runs):
        progress(f"reading back a log that tells of a deferral of each message, run {run + 1} of {runs}")
        with (
            closing(Exporter(queue, log)) as large,
            closing(Exporter(place / "small" / "queue", place / "small.log")) as small,
        ):
            large.wait(scraping=False)
            small.wait(scraping=False)
            large.settle()
            sizes.append(large.memory() / 1e6)
            progress(f"scraping, {SCRAPES} times each, and asking for the status page")
            pairs += [(small.scrape() * 1e3, large.scrape() * 1e3) for _ in range(SCRAPES)]
            plain += [large.scrape(Accept="text/plain") * 1e3 for _ in range(SCRAPES)]
            pages += [large.page() for _ in range(SCRAPES)]
    if messages >= BARE:
        yield _memory("the same, all deferred", sizes, messages, empty)
    of_small, of_large = (inner(values) for values in zip(*pairs, strict=True))
    what = f"scrape, {messages:,} messages, {fill.DOMAINS} domains"
    yield Row(what, of_large, "limit", Figure([8.0], "{:.0f} ms"), ("≤", 1))
    yield Row(what, of_large, f"{SMALL:,} messages", of_small, ("≤", 1.2))
    text = "the same in the text format, of which nothing is remembered"
    yield Row(text, inner(plain), "OpenMetrics", of_large)
    yield from _qstat(what, queue, of_large, messages)
    yield from _pages(pages, messages)


def _pages(pages: Sequence[tuple[float, int]], messages: int) -> Iterator[Row]:
    took = inner([seconds * 1e3 for seconds, _ in pages])
    what = f"status page, {messages:,} messages, {fill.DOMAINS} domains"
    yield Row(what, took, "limit", Figure([50.0], "{:.0f} ms"), ("≤", 1))
    largest = max(size for _, size in pages) / 1000
    yield Row("its size", Figure([largest], "{:.1f} kB"), "limit", Figure([200.0], "{:.0f} kB"), ("≤", 1))


def _qstat(what: str, queue: Path, scrapes: Figure, messages: int) -> Iterator[Row]:
    """qmail-qstat counts what a scrape tells among other things."""
    argv = bound(queue, "qmail-qstat")
    if argv is not None:
        took = [run_timed(argv)[0] * 1e3 for _ in range(QSTATS)]
        goal: Goal | None = ("≤", 0.01) if messages >= BARE else None
        yield Row(what, scrapes, "qmail-qstat", Figure(took, _MILLISECONDS), goal)


def empty_exporter(place: Path, runs: int) -> Figure:
    """Return the memory of an exporter that watches an empty queue."""
    fill.fill(place / "empty" / "queue", 0)
    sizes = []
    for _ in range(runs):
        with closing(Exporter(place / "empty" / "queue", place / "no-log")) as exporter:
            exporter.wait(scraping=False)
            sizes.append(exporter.memory() / 1e6)
    return Figure(sizes, _MEGABYTES)


def _memory(what: str, megabytes: Sequence[float], messages: int, empty: Figure) -> Row:
    figure = Figure([(size - empty.median) * 1e6 / messages for size in megabytes], _BYTES)
    return Row(what, figure, "limit", Figure([130.0], _BYTES), ("≤", 1))


def _peers(queue: Path) -> dict[str, tuple[list[str], Goal]]:
    """Name what the scan is held against, and the commands: qmail's own list of the queue if there is a qmail, and find."""
    peers: dict[str, tuple[list[str], Goal]] = {}
    if (argv := bound(queue, "qmail-qread")) is not None:
        peers["qmail-qread"] = argv, ("≤", 0.5)
    count = ["sh", "-c", 'find "$1/mess" -type f | wc -l', "sh", str(queue)]
    peers["find queue/mess, wc -l"] = count, ("≤", 12)
    return peers
