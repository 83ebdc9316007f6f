"""What a queue costs whose messages are for more domains than have series of their own."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench import fill
from bench.process import Exporter
from bench.report import Figure, Goal, Row, inner, progress

MANY = 5_000, 500_000
SCRAPES = 50


class _Costs(NamedTuple):
    scan: Figure
    resident: Figure
    scrape: Figure


_NAMES: tuple[tuple[str, Goal | None], ...] = ("first scan", None), ("resident", None), ("scrape", ("≤", 1.2))


def measure(place: Path, messages: int, runs: int) -> Iterator[Row]:
    """Yield the rows; `place` is on a tmpfs."""
    few = _costs(place, messages, fill.DOMAINS, runs)
    for count in MANY:
        many = _costs(place, messages, count, runs)
        for (name, goal), here, beside in zip(_NAMES, many, few, strict=True):
            what = f"{name}, {messages:,} messages, {count:,} domains"
            yield Row(what, here, f"{fill.DOMAINS} domains", beside, goal)


def _costs(place: Path, messages: int, count: int, runs: int) -> _Costs:
    home = place / f"domains-{count}"
    progress(f"making a queue of {messages:,} messages to {count:,} domains")
    fill.fill(home / "queue", messages, count)
    scans, sizes, scrapes = [], [], []
    for run in range(runs):
        progress(f"{messages:,} messages to {count:,} domains, run {run + 1} of {runs}")
        with closing(Exporter(home / "queue", home / "none")) as exporter:
            scans.append(exporter.wait(scraping=False))
            sizes.append(exporter.memory() / 1e6)
            exporter.settle()
            scrapes += [exporter.scrape() * 1e3 for _ in range(SCRAPES)]
    shutil.rmtree(home)  # there is memory for one of them
    return _Costs(Figure(scans, "{:.2f} s"), Figure(sizes, "{:.1f} MB"), inner(scrapes))
