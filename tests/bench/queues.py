"""What a queue of a million messages costs: the first scan, memory, scrapes."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench import fill
from bench.process import Exporter, run_timed
from bench.report import Figure, Goal, Row, progress

SMALL = 1000
SCRAPES = 200
_SECONDS, _MILLISECONDS, _BYTES = "{:.2f} s", "{:.2f} ms", "{:.0f} bytes"


def measure(place: Path, messages: int, runs: int) -> Iterator[Row]:
    """Make queues in `place`, a directory on a tmpfs, and yield the rows."""
    progress(f"making a queue of {messages:,} messages")
    queue = place / "large" / "queue"
    fill.fill(queue, messages)
    no_log = place / "no-log"
    peer, argv, goal = _peer(queue)
    scans, peers, waits, sizes = [], [], [], []
    for run in range(runs):
        progress(f"first scan, run {run + 1} of {runs}")
        with closing(Exporter(queue, no_log)) as exporter:
            scans.append(exporter.wait(scraping=True))
            waits += exporter.waits
            sizes.append(exporter.memory())
        progress(f"{peer}, run {run + 1} of {runs}")
        peers.append(run_timed(argv)[0])
    yield Row(
        f"first scan, {messages:,} messages", Figure(scans, _SECONDS), peer, Figure(peers, _SECONDS), goal
    )
    slowest = Figure([max(waits, default=0.0)], "{:.3f} s")
    yield Row("slowest scrape meanwhile", slowest, "scrape timeout", Figure([10.0], "{:.0f} s"), ("≤", 1))
    fill.fill(place / "empty" / "queue", 0)
    with closing(Exporter(place / "empty" / "queue", no_log)) as exporter:
        exporter.wait(scraping=False)
        empty = exporter.memory()
    yield _memory("memory a message, one recipient", [size - empty for size in sizes], messages)
    yield from _deferred(place, queue, messages, empty)


def _deferred(place: Path, queue: Path, messages: int, empty: int) -> Iterator[Row]:
    progress("reading back a log that tells of a deferral of each message")
    fill.fill(place / "small" / "queue", SMALL)
    fill.write_log(place / "small.log", SMALL)
    fill.write_log(place / "large.log", messages)
    with (
        closing(Exporter(queue, place / "large.log")) as large,
        closing(Exporter(place / "small" / "queue", place / "small.log")) as small,
    ):
        large.wait(scraping=False)
        small.wait(scraping=False)
        yield _memory("the same, all deferred", [large.memory() - empty], messages)
        progress(f"scraping, {SCRAPES} times each")
        pairs = [(small.scrape() * 1e3, large.scrape() * 1e3) for _ in range(SCRAPES)]
        progress(f"asking for the status page, {SCRAPES} times")
        pages = [large.page() for _ in range(SCRAPES)]
    of_small, of_large = (
        Figure(sorted(values)[SCRAPES // 20 : -SCRAPES // 20], _MILLISECONDS)
        for values in zip(*pairs, strict=True)
    )
    what = f"scrape, {messages:,} messages, {fill.DOMAINS} domains"
    yield Row(what, of_large, "limit", Figure([10.0], "{:.0f} ms"), ("≤", 1))
    yield Row(what, of_large, f"{SMALL:,} messages", of_small, ("≤", 1.3))
    yield from _page(f"status page, {messages:,} messages, {fill.DOMAINS} domains", pages)


def _page(what: str, pages: list[tuple[float, int]]) -> Iterator[Row]:
    took = sorted(seconds * 1e3 for seconds, _ in pages)[SCRAPES // 20 : -SCRAPES // 20]
    yield Row(what, Figure(took, _MILLISECONDS), "limit", Figure([50.0], "{:.0f} ms"), ("≤", 1))
    largest = max(size for _, size in pages) / 1000
    yield Row("its size", Figure([largest], "{:.1f} kB"), "limit", Figure([200.0], "{:.0f} kB"), ("≤", 1))


def _memory(what: str, sizes: list[int], messages: int) -> Row:
    return Row(
        what, Figure([size / messages for size in sizes], _BYTES), "limit", Figure([150.0], _BYTES), ("≤", 1)
    )


def _peer(queue: Path) -> tuple[str, list[str], Goal]:
    """Name what the scan is held against, and the command: qmail's own list of the queue if there is a qmail, else find."""
    home = os.environ.get("QMAIL_HOME", "/var/qmail")
    if os.access(f"{home}/bin/qmail-qread", os.X_OK) and os.geteuid() == 0 and shutil.which("unshare"):
        script = 'mount --bind "$1" "$2/queue" && exec "$2/bin/qmail-qread"'
        return "qmail-qread", ["unshare", "-m", "sh", "-c", script, "sh", str(queue), home], ("≤", 0.8)
    count = ["sh", "-c", 'find "$1/mess" -type f | wc -l', "sh", str(queue)]
    return "find queue/mess -type f", count, ("≤", 20)
