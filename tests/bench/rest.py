"""What the exporter costs when nothing happens: its start, and an idle host."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench import fill
from bench.process import Exporter
from bench.report import Figure, Row, progress

_STARTS = 5
"""At the least: each takes less than a second."""
_SHARE = "{:.3f} %"


def measure(place: Path, seconds: int, runs: int) -> Iterator[Row]:
    """Yield the rows; `place` is on a tmpfs, and what takes time by itself takes so many seconds."""
    home = place / "rest"
    fill.fill(home / "queue", 1000)
    fill.write_log(home / "log", 1000)
    yield from _starts(home, max(runs, _STARTS))
    yield _idle(home, seconds, runs)


def _starts(home: Path, runs: int) -> Iterator[Row]:
    progress("starting")
    took, sizes = [], []
    fill.fill(home / "empty" / "queue", 0)
    for _ in range(runs):
        with closing(Exporter(home / "empty" / "queue", home / "none")) as exporter:
            exporter.get("/-/healthy")
            took.append(time.perf_counter() - exporter.begun)
            exporter.wait(scraping=False)
            sizes.append(exporter.memory() / 1e6)
    yield Row("start to first answer", Figure(took, "{:.2f} s"), "limit", Figure([0.5], "{:.1f} s"), ("≤", 1))
    yield Row(
        "resident, empty queue", Figure(sizes, "{:.1f} MB"), "limit", Figure([45], "{:.0f} MB"), ("≤", 1)
    )


def _idle(home: Path, seconds: int, runs: int) -> Row:
    shares = []
    for run in range(runs):
        progress(f"doing nothing for {seconds} s, run {run + 1} of {runs}")
        with closing(Exporter(home / "queue", home / "log")) as exporter:
            exporter.wait(scraping=False)
            exporter.settle()
            before, begun = exporter.cpu(), time.perf_counter()
            time.sleep(seconds)
            shares.append((exporter.cpu() - before) / (time.perf_counter() - begun) * 100)
    return Row("processor while idle", Figure(shares, _SHARE), "limit", Figure([0.1], "{:.1f} %"), ("≤", 1))
