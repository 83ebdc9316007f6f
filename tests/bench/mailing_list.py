"""What the exporter costs while the recipients of a long list are delivered to, one after the other."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench import fill
from bench.process import Exporter
from bench.report import Figure, Row, progress
from qmail_exporter.demo.multilog import Multilog
from qmail_exporter.demo.report import accepted
from qmail_exporter.formats.envelope import log_safe

RECIPIENTS = 100_000
RATE = RECIPIENTS / 600
"""Deliveries a second: of so many recipients, in ten minutes."""
CONCURRENCY = 20
"""Deliveries at once, as qmail has it unless it is told otherwise."""
SCRAPE_INTERVAL = 30.0
_DOMAINS = 5000
_SUCCESS = log_safe(accepted("192.0.2.1", "250 2.0.0 Ok: queued as 4XyZ0aB1c2d3e4f").report)
_SHARE = "{:.3f} %"


def measure(place: Path, seconds: int, runs: int) -> Iterator[Row]:
    """Yield the row; `place` is on a tmpfs, and each run takes so many seconds."""
    shares = []
    for run in range(runs):
        progress(f"a list of {RECIPIENTS:,} recipients, for {seconds} s, run {run + 1} of {runs}")
        with closing(_List(place / f"list{run}")) as mail:
            shares.append(_share(mail, seconds))
    what = f"processor while a list of {RECIPIENTS:,} is delivered, marked and logged one by one"
    yield Row(what, Figure(shares, _SHARE), "limit", Figure([1.0], "{:.0f} %"), ("≤", 1))


class _List:
    """A message of so many recipients, and what a qmail-send that delivers it does to its files and writes to its log."""

    def __init__(self, home: Path) -> None:
        self.queue = home / "queue"
        self.log = home / "log"
        fill.fill(self.queue, 0)
        self._addresses = [b"user%d@host%d.example" % (each, each % _DOMAINS) for each in range(RECIPIENTS)]
        records = b"".join(b"T%b\0" % address for address in self._addresses)
        for area, content in (("mess", b"x" * 2000), ("info", b"Flist@mail.test\0"), ("remote", records)):
            self._file(area).write_bytes(content)
        self._started = self._ended = self._place = 0
        self._write = Multilog(self.log, time.time, size=10_000_000)
        self._status()
        self._write(b"new msg %d" % fill.FIRST)
        self._write(b"info msg %d: bytes 2000 from <list@mail.test> qp 4711 uid 1000" % fill.FIRST)

    def close(self) -> None:
        """End the log."""
        self._write.close()

    def start(self) -> None:
        """Start the next delivery."""
        address = log_safe(self._addresses[self._started])
        self._started += 1
        self._write(b"starting delivery %d: msg %d to remote %b" % (self._started, fill.FIRST, address))
        self._status()

    def end(self) -> None:
        """End the one that was started first, with success; the file is opened for each mark, as by qmail-send."""
        self._write(b"delivery %d: success: %b" % (self._ended + 1, _SUCCESS))
        with self._file("remote").open("r+b", buffering=0) as file:
            file.seek(self._place)
            file.write(b"D")
        self._place += len(self._addresses[self._ended]) + 2
        self._ended += 1
        self._status()

    def _status(self) -> None:
        self._write(b"status: local 0/10 remote %d/%d" % (self._started - self._ended, CONCURRENCY))

    def _file(self, area: str) -> Path:
        return self.queue / area / str(fill.FIRST % fill.SPLIT) / str(fill.FIRST)


def _share(mail: _List, seconds: int) -> float:
    """Deliver so long, and return what the exporter took of a processor, in percent."""
    with closing(Exporter(mail.queue, mail.log)) as exporter:
        exporter.wait(scraping=False)
        exporter.settle()
        before, begun = exporter.cpu(), time.perf_counter()
        scraped, ended = begun - SCRAPE_INTERVAL / 2, 0
        for _ in range(CONCURRENCY):
            mail.start()
        while (now := time.perf_counter()) < begun + seconds:
            if ended < (now - begun) * RATE:
                mail.end()
                mail.start()
                ended += 1
            else:
                time.sleep(0.001)
            if now > scraped + SCRAPE_INTERVAL:
                scraped = now
                exporter.scrape()
        return (exporter.cpu() - before) / (time.perf_counter() - begun) * 100
