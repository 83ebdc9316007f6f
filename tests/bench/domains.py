"""What a queue costs whose messages are for more domains than have series of their own."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench import fill
from bench.process import Exporter
from bench.report import Figure, Goal, Row, progress

MANY = 5_000, 500_000
SCRAPES = 50


class _Costs(NamedTuple):
    scan: Figure
    resident: Figure
    scrape: Figure


_NAMES: tuple[tuple[str, Goal | None], ...] = ("first scan", None), ("resident", None), ("scrape", ("≤", 1.2))


def measure(place: Path, messages: int) -> Iterator[Row]:
    """Yield the rows; `place` is on a tmpfs."""
    few = _costs(place, messages, fill.DOMAINS)
    for count in MANY:
        many = _costs(place, messages, count)
        for (name, goal), here, beside in zip(_NAMES, many, few, strict=True):
            what = f"{name}, {messages:,} messages, {count:,} domains"
            yield Row(what, here, f"{fill.DOMAINS} domains", beside, goal)


def _costs(place: Path, messages: int, count: int) -> _Costs:
    progress(f"{messages:,} messages to {count:,} domains")
    home = place / f"domains-{count}"
    fill.fill(home / "queue", messages, count)
    with closing(Exporter(home / "queue", home / "none")) as exporter:
        scan = exporter.wait(scraping=False)
        resident = exporter.memory() / 1e6
        exporter.settle()
        scrapes = sorted(exporter.scrape() * 1e3 for _ in range(SCRAPES))
    shutil.rmtree(home)  # there is memory for one of them
    cut = SCRAPES // 20
    return _Costs(
        Figure([scan], "{:.2f} s"), Figure([resident], "{:.1f} MB"), Figure(scrapes[cut:-cut], "{:.2f} ms")
    )
