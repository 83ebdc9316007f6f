"""Facts for the status page, made by hand: a queue of which all is known and nothing is wrong, and what a test changes."""

from dataclasses import replace
from typing import Any

from qmail_exporter.status.facts import (
    Ages,
    Destination,
    Expiring,
    Facts,
    Network,
    Own,
    QueueFacts,
    Room,
    Source,
    Timeouts,
    Use,
    Waiting,
)
from qmail_exporter.status.history import Point, Rate
from qmail_exporter.status.text import Speech

NOW = 1_800_000_000.0
OWN = Own(None, False, False, 1.0, 0, 0.0, 0, 0, 0, 0, 0)
NETWORK = Network("clear", 0, None, None, (), None, False)
SOURCES = tuple(
    Source(name, True, f"/var/qmail/queue/{name}")
    for name in ("mess", "todo", "info", "local", "remote", "bounce", "inotify", "log", "tcpto", "control", "filesystem", "processes")
)  # fmt: skip
_ENDED = {"success": 30, "deferral": 10, "failure": 2}

CALM = QueueFacts(
    name="default",
    path="/var/qmail/queue",
    messages=12,
    todo=0,
    size=34_567,
    oldest=NOW - 7200,
    ages=Ages((60, 3600), (3, 8, 0), (0, 1, 0)),
    expiring=Expiring(0, 0, 0, 0),
    lifetime=604_800,
    overdue=0,
    waiting=Waiting((), 0, 0),
    use=(Use("local", 0, 10), Use("remote", 3, 20)),
    rate=Rate(60.0, _ENDED),
    points=tuple(Point(NOW - 60 + 10 * place, 10 + place, (0, 0, 0)) for place in range(7)),
    minutes=(None,) * 59 + (_ENDED,),
    timeouts=Timeouts((), 0, 64),
    network=NETWORK,
    doubles=None,
    sending=True,
    room=Room(10**9, 5 * 10**8, 10**6, 9 * 10**5),
    alerts=(),
    heard=NOW - 3,
    sources=SOURCES,
    own=OWN,
)


def queue(**given: Any) -> QueueFacts:
    """Return the calm queue with other values in it."""
    return replace(CALM, **given)


def page(*queues: QueueFacts) -> Facts:
    """Return the facts of a page with these queues."""
    return Facts(NOW, "mx1.example.com", "0.1.0", NOW - 600, "/metrics", queues)


def down(name: str, why: str = "Permission denied", *, denied: bool = True) -> tuple[Source, ...]:
    """Return all sources, with one that cannot be read."""
    return tuple(
        source._replace(up=False, why=why, denied=denied) if source.name == name else source
        for source in SOURCES
    )


def destination(name: str = "x.example", deferred: int = 150, **given: Any) -> Destination:
    """Return a domain that defers."""
    words = Speech("192.0.2.1 does not like recipient.", "451 4.7.1 Greylisted")
    found = Destination(name, deferred, deferred, NOW - 5400, (("greylist", deferred),), words, NOW - 30)
    return found._replace(**given)
