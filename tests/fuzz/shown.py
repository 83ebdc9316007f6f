"""From a log's lines through the model to what is shown of them: the metrics in both formats, and the status page."""

import math
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from fuzz import seeds
from fuzz.target import Target, is_label
from qmail_exporter.collect import Collection, HostWatch, LogWatch, QueueWatch
from qmail_exporter.formats.envelope import ChannelFile, Message, Sender
from qmail_exporter.metrics import QmailCollector
from qmail_exporter.sources.logs import Batch
from qmail_exporter.status import Status

NOW = 1_795_344_342.5
BORN = 1_795_340_000
MESSAGES = (1467088, 1467089, 1467090, 7)


def shown(data: bytes) -> None:
    """Whatever the log says, every sample is a number with labels that are text, and nothing shown moves a terminal.

    The first half is what was there when the exporter started. The rest comes in one read or line by line, and shows the same.
    """
    lines = data.split(b"\n")
    half = len(lines) // 2
    collection = _watch(lines[:half], [lines[half:]])
    samples = _samples(collection)
    assert _samples(_watch(lines[:half], [[line] for line in lines[half:]])) == samples
    text = _texts(collection)[len(data) % 3]()
    assert all(line.isprintable() for line in text.split("\n"))


def _texts(collection: Collection) -> list[Callable[[], str]]:
    """Return what makes each of the texts that are shown."""
    registry = CollectorRegistry()
    registry.register(QmailCollector(collection, lambda: NOW))
    status = Status(collection, {}, host="mail.test", clock=lambda: NOW)
    return [
        lambda: generate_latest(registry).decode("utf-8"),
        lambda: generate_openmetrics(registry).decode("utf-8"),
        status.page,
    ]


class _Feed:
    """A follower that gives the lines that it was given."""

    path = "/log"
    present = True
    behind = False

    def __init__(self, old: list[bytes], new: list[list[bytes]]) -> None:
        self.losses: Counter[str] = Counter()
        self._old = old
        self._new = new

    def backfill(self) -> Iterator[Batch]:
        """Give the lines that are there."""
        yield Batch(self._old, [NOW - 60] * len(self._old))

    def read(self, limit: int = 0) -> Batch:
        """Give the next lines."""
        del limit
        lines = self._new.pop(0) if self._new else []
        return Batch(lines, [NOW] * len(lines))

    def listen(self) -> None:
        """There is nothing to listen to."""

    def lag_bytes(self) -> int:
        """Nothing waits."""
        return 0

    def close(self) -> None:
        """Nothing is open."""


class _Watch(QueueWatch):
    """A queue all of which is known, though there is no directory."""

    whole = True

    def knows(self, *areas: str) -> bool:
        """Tell that it is."""
        del areas
        return True


def _watch(old: list[bytes], new: list[list[bytes]]) -> Collection:
    """Return a collection of one queue whose log has been read."""
    watch = _Watch("default", "/nowhere", seats=2, rescan_interval=0.0)
    for number, msg in enumerate(MESSAGES):
        content = b"Tuser@a.example\0" * (number + 1) + b"Dme\0" * number
        files = (ChannelFile("remote", content, BORN), ChannelFile("local", b"Tme\0" * (number % 2), BORN))
        watch.queue.apply(msg, Message(BORN * 10**9, 500, todo=False, sender=Sender(number % 3), birth=BORN,
                                       info_changed=BORN, channels=files, failed=number == 1))  # fmt: skip
    log = LogWatch(lambda: _Feed(old, new), {"default": watch.flow})
    collection = Collection([watch], [log], {"default": HostWatch("/nowhere", "/nowhere", alone=True)})
    log.begin()
    while not log.recall():
        pass
    list(watch.queue.reschedule())
    while new:
        log.observe(log.read())
        watch.place()
    watch.queue.settle()
    watch.queue.sums.domains.elect()
    watch.flow.traffic.domains.elect()
    return collection


def _samples(collection: Collection) -> list[tuple[str, dict[str, str], float]]:
    """Return all samples, found good."""
    families = list(QmailCollector(collection, lambda: NOW).collect())
    for family in families:
        _check(family)
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def _check(family: Metric) -> None:
    seen = set()
    for sample in family.samples:
        key = (sample.name, *sorted(sample.labels.items()))
        assert key not in seen, key
        seen.add(key)
        assert math.isfinite(sample.value), sample
        assert sample.value >= 0 or sample.name.endswith("sum") or "timestamp" in sample.name, sample
        assert all(is_label(value) for value in sample.labels.values()), sample


def _seeds() -> list[bytes]:
    lines = seeds.lines()
    return [b"\n".join(lines[at : at + 10]) for at in range(0, len(lines), 10)] + [
        (
            b"status: local 0/10 remote 0/20\nnew msg 7\ninfo msg 7: bytes 5 from <> qp 3 uid 0\nstarting delivery 1: msg 7 to remote"
            b" user@a.example\ndelivery 1: deferral: no/\nbounce msg 7 qp 9\nend msg 7\nalert: out of memory\nstatus: exiting"
        ),
        (
            b"starting delivery 1: msg 7 to slow a@b\nstarting delivery 1: msg 7 to remote user@a.example\n"
            b"delivery 1: deferral: x/\nstatus: local 1/10 slow 3/20\n@4000003afff44180ffffffff new msg 7"
        ),
    ]


TARGETS = {"shown": Target(shown, _seeds)}
