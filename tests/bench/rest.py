"""What the exporter costs when little happens: its start, an idle host, a list that is delivered, a log that is long."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench import fill
from bench.process import Exporter
from bench.report import Figure, Row, progress

RECIPIENTS = 100_000
MARKS_A_SECOND = RECIPIENTS / 600
"""As a list of so many recipients that is delivered in ten minutes."""
_SHARE = "{:.3f} %"


def measure(place: Path, seconds: int, runs: int) -> Iterator[Row]:
    """Yield the rows; `place` is on a tmpfs, and what takes time by itself takes so many seconds."""
    home = place / "rest"
    fill.fill(home / "queue", 1000)
    fill.write_log(home / "log", 1000)
    yield from _starts(home, max(runs, 5))
    yield from _idle(home, seconds)
    yield _list(place / "list", seconds)


def _starts(home: Path, runs: int) -> Iterator[Row]:
    progress("starting")
    took, sizes = [], []
    fill.fill(home / "empty" / "queue", 0)
    for _ in range(runs):
        with closing(Exporter(home / "empty" / "queue", home / "none")) as exporter:
            while exporter.get("/-/healthy") != 200:
                time.sleep(0.001)
            took.append(time.perf_counter() - exporter.begun)
            exporter.wait(scraping=False)
            sizes.append(exporter.memory() / 1e6)
    yield Row("start to first answer", Figure(took, "{:.2f} s"), "limit", Figure([0.5], "{:.1f} s"), ("≤", 1))
    yield Row(
        "resident, empty queue", Figure(sizes, "{:.1f} MB"), "limit", Figure([45], "{:.0f} MB"), ("≤", 1)
    )


def _idle(home: Path, seconds: int) -> Iterator[Row]:
    progress(f"doing nothing for {seconds} s")
    with closing(Exporter(home / "queue", home / "log")) as exporter:
        exporter.wait(scraping=False)
        exporter.settle()
        share = _share(exporter, seconds)
    yield Row("processor while idle", Figure([share], _SHARE), "limit", Figure([0.1], "{:.1f} %"), ("≤", 1))


def _list(home: Path, seconds: int) -> Row:
    """Have the recipients of a long list marked done one by one, as qmail-send does, and the exporter scraped twice a minute."""
    progress(f"a list of {RECIPIENTS:,} recipients, for {seconds} s")
    fill.fill(home / "queue", 0)
    number = fill.FIRST
    part = number % fill.SPLIT
    addresses = [b"Tuser%d@host%d.example\0" % (each, each % 5000) for each in range(RECIPIENTS)]
    for area, content in (("mess", b"x"), ("info", b"Flist@mail.test\0"), ("remote", b"".join(addresses))):
        (home / "queue" / area / str(part) / str(number)).write_bytes(content)
    with closing(Exporter(home / "queue", home / "none")) as exporter:
        exporter.wait(scraping=False)
        exporter.settle()
        before, begun, marked, place = exporter.cpu(), time.perf_counter(), 0, 0
        scraped = begun
        with (home / "queue" / "remote" / str(part) / str(number)).open("r+b", buffering=0) as file:
            while (now := time.perf_counter()) < begun + seconds:
                if marked < (now - begun) * MARKS_A_SECOND:
                    file.seek(place)
                    file.write(b"D")
                    place += len(addresses[marked])
                    marked += 1
                else:
                    time.sleep(0.001)
                if now > scraped + 30:
                    scraped = now
                    exporter.scrape()
        share = (exporter.cpu() - before) / (time.perf_counter() - begun) * 100
    what = f"processor while a list of {RECIPIENTS:,} is marked one by one"
    return Row(what, Figure([share], _SHARE), "limit", Figure([1.0], "{:.0f} %"), ("≤", 1))


def _share(exporter: Exporter, seconds: int) -> float:
    """Wait, and return how much of one processor it took meanwhile, in percent."""
    before, begun = exporter.cpu(), time.perf_counter()
    time.sleep(seconds)
    return (exporter.cpu() - before) / (time.perf_counter() - begun) * 100
