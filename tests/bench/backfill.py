"""What it costs to read a long log back at the start."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench import fill
from bench.process import Exporter
from bench.report import Figure, Row, progress

MESSAGES = 100_000
"""In the queue; the log tells of each again and again."""


def measure(place: Path, size: int, runs: int) -> Iterator[Row]:
    """Yield the rows of a log of so many bytes; `place` is on a tmpfs."""
    home = place / "backfill"
    progress(f"making a log of {size >> 20:,} MiB")
    fill.fill(home / "queue", MESSAGES)
    fill.write_log(home / "once", MESSAGES)
    once = (home / "once").read_bytes()
    with (home / "often").open("wb", buffering=0) as log:
        for _ in range(size // len(once) + 1):
            log.write(once)
    peaks, took = defaultdict(list), defaultdict(list)
    waits = []
    for run in range(runs):
        for name in ("once", "often"):
            long = (home / name).stat().st_size
            progress(f"reading back {long >> 20:,} MiB, run {run + 1} of {runs}")
            with closing(Exporter(home / "queue", home / name)) as exporter:
                took[name].append(exporter.wait(scraping=name == "often"))
                peaks[name].append(exporter.peak() / 1e6)
                waits += exporter.waits
    (home / "often").unlink()
    what = f"{size / 1e9:.1f} GB of log read back"
    beside = f"{len(once) / 1e6:.0f} MB of log"
    here, other = (Figure(peaks[name], "{:.1f} MB") for name in ("often", "once"))
    yield Row(f"peak of memory, {what}", here, beside, other, ("≤", 1.1))
    here, other = (Figure(took[name], "{:.1f} s") for name in ("often", "once"))
    yield Row(f"start until ready, {what}", here, beside, other)
    slowest = Figure([max(waits)], "{:.3f} s")
    yield Row("slowest scrape meanwhile", slowest, "limit", Figure([0.1], "{:.1f} s"), ("≤", 1))
