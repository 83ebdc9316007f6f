"""The hosts that the demo's mail goes to: some forty domains, each with its own way to take mail, or not to.

Names and addresses are those that RFC 2606 and RFC 5737 keep for examples. What happens is drawn from a seed: the same
attempt, by recipient and time, gets the same answer. Only greylisting hosts remember who came before.
"""

import random
import zlib
from typing import NamedTuple

from qmail_exporter.demo import report
from qmail_exporter.demo.report import Outcome

TIMEOUT_CONNECT = 15.0
"""Seconds until a connection times out; qmail's default, 60, would make for a slow show."""
GREYLISTED = 240.0
"""Seconds for which a greylisting host turns a recipient away."""
_REMEMBERED = 10_000


class Domain(NamedTuple):
    """A mail domain: its name, how often it is written to, its host's IPv4 address, and how that behaves."""

    name: str
    weight: float
    host: str
    behaviour: str


_WAYS = {
    "accept": (
        "bigmail.example", "post.example", "webmail.example", "inbox.example", "mailbox.example", "uni.example",
        "city.example", "bank.example", "shop.example", "news.example", "museum.example", "clinic.example",
        "garden.example", "press.example", "radio.example", "travel.example", "hotel.example", "school.example",
        "library.example", "theatre.example", "xn--bcher-kva.example", "a.very.deep.sub.domain.example",
    ),
    "users": ("company.example", "agency.example", "office.example"),
    "greylist": ("careful.example", "slowstart.example", "grey.example"),
    "full": ("attic.example", "archive.example"),
    "policy": ("strict.example", "fortress.example"),
    "greeting": ("busy.example", "crowded.example"),
    "dies": ("shaky.example",),
    "dns": ("lostzone.example", "nameless.example"),
    "unknown": ("tpyo.example",),
    "hole": ("blackhole.example", "firewalled.example"),
    "refused": ("closed.example",),
}  # fmt: skip
_DELIVERED = ("250 2.0.0 Ok: queued as 4F2A", "250 2.0.0 OK 1795344341 gsmtp", "250 ok 1795344341 qp 4711")
_FULL = "452 4.2.2 Mailbox full"
_NO_USER = "550 5.1.1 No such user here"
_POLICY = "550 5.7.1 Message rejected due to local policy"
_BUSY = "421 4.3.2 Too many connections, try again later"
_GREY = "451 4.7.1 Greylisted, please try again in 240 seconds"


class World:
    """All that can be mailed to.

    Args:
        seed: of everything that is left to chance.

    Attributes:
        domains: the remote domains.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._random = _chance(seed)
        names = [(name, way) for way, group in _WAYS.items() for name in group]
        self._random.shuffle(names)
        self.domains = [
            Domain(name, 1 / (rank + 1), f"198.51.100.{rank + 10}", way)
            for rank, (name, way) in enumerate(names)
        ]
        self._by_name = {domain.name.encode(): domain for domain in self.domains}
        self._outage = (0.0, 0.0, 0.0)
        self._seen: dict[bytes, float] = {}

    def set_outage(self, start: float, end: float, share: float = 1.0) -> None:
        """Make a share of all hosts, always the same ones, unreachable from `start` to `end`, Unix seconds."""
        self._outage = (start, end, share)

    def pick(self) -> Domain:
        """Draw a domain, the frequent ones more often."""
        return self._random.choices(self.domains, [domain.weight for domain in self.domains])[0]

    def respond(self, channel: str, recipient: bytes, now: float) -> Outcome:
        """Decide how an attempt that begins at `now` goes."""
        box, _, name = recipient.rpartition(b"@")
        chance = _chance(zlib.crc32(b"%d %f %b" % (self._seed, now, recipient)))
        if channel == "local":
            return _local(box, chance)
        domain = self._by_name.get(name.lower())
        if domain is None:
            return report.dns_permanent(name.decode("ascii", "replace"), _delay(chance))
        if domain.behaviour not in ("unknown", "dns") and self._is_out(domain, now):
            return report.timed_out(domain.host, TIMEOUT_CONNECT)
        if domain.behaviour == "greylist" and self._is_new(recipient, now):
            return report.recipient_refused(domain.host, _GREY, _delay(chance))
        return _remote(domain, recipient, chance)

    def _is_out(self, domain: Domain, now: float) -> bool:
        start, end, share = self._outage
        return start <= now < end and zlib.crc32(domain.name.encode()) % 1000 < share * 1000

    def _is_new(self, recipient: bytes, now: float) -> bool:
        first = self._seen.setdefault(recipient, now)
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return now - first < GREYLISTED


def _local(box: bytes, chance: random.Random) -> Outcome:
    if box.startswith(b"nobody"):
        return report.no_mailbox()
    if box.startswith(b"moving"):
        return report.mailbox_unready()
    return report.delivered(0.01 + chance.random() / 20)


def _remote(domain: Domain, recipient: bytes, chance: random.Random) -> Outcome:
    host, delay = domain.host, _delay(chance)
    outcome = report.accepted(host, chance.choice(_DELIVERED), delay)
    if domain.behaviour == "full":
        outcome = report.recipient_refused(host, _FULL, delay)
    elif domain.behaviour == "policy":
        outcome = report.message_refused(host, _POLICY, delay)
    elif domain.behaviour == "greeting":
        outcome = report.greeting_failed(host, _BUSY, delay)
    elif domain.behaviour == "dns":
        outcome = report.dns_temporary(5 + delay)
    elif domain.behaviour == "unknown":
        outcome = report.dns_permanent(domain.name, delay)
    elif domain.behaviour == "hole":
        outcome = report.timed_out(host, TIMEOUT_CONNECT)
    elif domain.behaviour == "refused":
        outcome = report.refused(host)
    elif domain.behaviour == "users" and zlib.crc32(recipient) % 3 == 0:
        outcome = report.recipient_refused(host, _NO_USER, delay)
    elif domain.behaviour == "dies" and chance.random() < 0.7:
        outcome = report.connection_died(host, delay, critical=chance.random() < 0.1)
    return outcome


def _delay(chance: random.Random) -> float:
    """Draw how long a host takes: mostly half a second, now and then ten times that."""
    return min(chance.lognormvariate(-0.7, 0.8), 20.0)


def _chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a show, no secret
