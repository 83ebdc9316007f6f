"""What the status page tells: plain values, read once, so that the page can be made of them, and tested, without a queue.

Pure.  Times are Unix seconds, sizes bytes.  What is not known is `Unknown`, with the reason, and never a 0.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar, Union

from qmail_exporter.status.history import Point, Rate
from qmail_exporter.status.text import Speech


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that is not known, and why."""

    why: str


_T = TypeVar("_T")
Fact = Union[_T, Unknown]  # noqa: UP007 - a generic alias needs it in Python 3.10


class Source(NamedTuple):
    """One source of the picture: whether it can be read, where it is, why it cannot, and whether for lack of permission."""

    name: str
    up: bool
    path: str
    why: str = ""
    denied: bool = False


class Destination(NamedTuple):
    """A domain that mail waits for after a deferral.

    Attributes:
        deferred: recipients whose last attempt was deferred.
        pending: recipients to do, those among them.
        oldest: birth of the oldest message among the deferred.
        reasons: of the deferrals, with their counts, the most frequent first.
        words: what was said last; None where the log has not told.
        said: when.
        earlier: what the remote host itself said last, if that was before those words.
        spoken: when.
    """

    name: str
    deferred: int
    pending: int
    oldest: float | None
    reasons: tuple[tuple[str, int], ...]
    words: Speech | None = None
    said: float | None = None
    earlier: Speech | None = None
    spoken: float | None = None


class Waiting(NamedTuple):
    """The domains that most deferred recipients wait for, how many recipients wait for others, and how many in all."""

    destinations: tuple[Destination, ...]
    elsewhere: int
    deferred: int


class DeadHost(NamedTuple):
    """A host that qmail passes over, the last time-out, and between when and when qmail-remote will try it again."""

    address: str
    timeouts: int
    last: float
    earliest: float
    latest: float


class Timeouts(NamedTuple):
    """tcpto: the hosts that are passed over now, how many others have timed out, and the room in the table."""

    dead: tuple[DeadHost, ...]
    suspects: int
    slots: int


class Ages(NamedTuple):
    """Messages by age: counts up to each bound and beyond the last, of mail and of bounces."""

    bounds: tuple[int, ...]
    mail: tuple[int, ...]
    bounces: tuple[int, ...]


class Expiring(NamedTuple):
    """Messages that pass queuelifetime: have passed it, will within 1, 6, 24 hours (each counts those before it)."""

    past: int
    hour: int
    six: int
    day: int


class Use(NamedTuple):
    """Deliveries of a channel: in progress, and allowed."""

    channel: str
    used: int
    limit: int


class Run(NamedTuple):
    """An action of the hook: when it was run last, and how that ended; None for never, and for not yet."""

    action: str
    time: float | None
    result: str | None


class Network(NamedTuple):
    """What the outage hook knows and did."""

    state: str
    outages: int
    started: float | None
    cleared: float | None
    runs: tuple[Run, ...]
    skip: tuple[float, str] | None
    dry_run: bool


class Doubles(NamedTuple):
    """Recorded double bounces since the exporter's start: all, repeated ones, the last, and the domains with most."""

    total: int
    duplicates: int
    last: float | None
    domains: tuple[tuple[str, int], ...]


class Room(NamedTuple):
    """The queue's file system: bytes and inodes, in all and free."""

    size: int
    free: int
    inodes: int
    free_inodes: int


class Own(NamedTuple):
    """The exporter's own work on a queue.

    Attributes:
        scan: how much of the sweep under way is done, 0 to 1; None when none is.
        in_doubt: the picture may be wrong until a sweep has ended.
        recalling: the retained log is still to be read.
        recalled: how much of it has been, 0 to 1; None where that cannot be told.
        pending: messages that have changed and were not looked at.
        lag: seconds that the log is ahead of what was read.
        overflows, drift, unparsed, malformed, lost: as the metrics count them; lost are log lines or files.
    """

    scan: float | None
    in_doubt: bool
    recalling: bool
    recalled: float | None
    pending: int
    lag: float
    overflows: int
    drift: int
    unparsed: int
    malformed: int
    lost: int


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """One queue.  `alerts` are what qmail-send has logged of that kind since the exporter's start."""

    name: str
    path: str
    messages: Fact[int]
    todo: Fact[int]
    size: Fact[int]
    oldest: Fact[float | None]
    ages: Fact[Ages]
    expiring: Fact[Expiring]
    lifetime: Fact[int]
    overdue: Fact[int]
    waiting: Fact[Waiting]
    use: Fact[tuple[Use, ...]]
    rate: Fact[Rate]
    points: tuple[Point, ...]
    minutes: tuple[dict[str, int] | None, ...]
    timeouts: Fact[Timeouts]
    network: Fact[Network]
    doubles: Doubles | None
    sending: Fact[bool]
    room: Fact[Room]
    alerts: tuple[tuple[str, int], ...]
    heard: float | None  # the newest line of the log
    sources: tuple[Source, ...]
    own: Own


@dataclass(frozen=True, slots=True)
class Facts:
    """The whole page: when, of which host, by which version, since when, where the metrics are; and the queues."""

    now: float
    host: str
    version: str
    started: float
    telemetry_path: str
    queues: tuple[QueueFacts, ...]
