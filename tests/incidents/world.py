"""The hosts that mail goes to, and the mail: what is usual, and what an incident makes of it."""

import random
import zlib
from collections.abc import Callable

from qmail_exporter.demo import report
from qmail_exporter.demo.qmail import Outcome

Behaviour = Callable[[bytes, float], Outcome]
"""How a domain's host answers an attempt for a recipient at a time, Unix seconds."""
GOOD = ("big", "post", "webmail", "inbox", "uni", "city", "bank", "shop", "press", "hotel")
TIMEOUT = 60.0
GREYLISTED = 300.0


def address(domain: str) -> str:
    """The IPv4 address of a domain's host, always the same."""
    number = zlib.crc32(domain.encode())
    return f"198.18.{number >> 8 & 255}.{number & 255}"


class World:
    """Every domain that mail goes to.

    Args:
        greylisted: the share of the mail that goes to hosts which greylist.

    Attributes:
        behaviours: by domain, in place of the usual one.
        dark: no host answers.
        held_until: no remote delivery ends before, Unix seconds.
    """

    def __init__(self, *, greylisted: float = 0.03) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.dark = False
        self.held_until = 0.0
        self._greylisted = greylisted
        self._seen: dict[bytes, float] = {}
        self._serial = 0

    def respond(self, channel: str, recipient: bytes, now: float) -> Outcome:
        """How an attempt goes."""
        outcome = self._respond(channel, recipient, now)
        if channel == "local":
            return outcome
        return outcome._replace(duration=max(outcome.duration, self.held_until - now))

    def _respond(self, channel: str, recipient: bytes, now: float) -> Outcome:
        box, _, name = recipient.rpartition(b"@")
        domain = name.decode("ascii", "replace")
        chance = random.Random(zlib.crc32(b"%b %f" % (recipient, now)))
        took = 0.2 + chance.expovariate(2)
        host = address(domain)
        if channel == "local":
            return report.no_mailbox() if box.startswith(b"nobody") else report.delivered()
        if self.dark:
            return report.timed_out(host, TIMEOUT)
        if domain in self.behaviours:
            return self.behaviours[domain](recipient, now)
        kind = domain.partition(".")[0].rstrip("0123456789")
        if kind == "grey" and now - self._seen.setdefault(recipient, now) < GREYLISTED:
            return report.recipient_refused(host, "451 4.7.1 Greylisted, try again in 300 seconds", took)
        return self._usual(kind, domain, took)

    def _usual(self, kind: str, domain: str, took: float) -> Outcome:
        host = address(domain)
        outcomes = {
            "gone": report.dns_permanent(domain, 0.1),
            "hole": report.timed_out(host, TIMEOUT),
            "full": report.recipient_refused(host, "452 4.2.2 Mailbox full", took),
        }
        return outcomes.get(kind) or report.accepted(host, "250 2.0.0 Ok: queued as 4F2A", took)

    def reachable(self, host: str, _now: float) -> bool:
        """Whether a host takes a connection."""
        return not self.dark and host not in {address(f"hole{n}.example") for n in range(4)}

    def mail(self, chance: random.Random) -> tuple[list[bytes], bytes]:
        """Draw a message: its recipients, and its sender."""
        self._serial += 1
        box = b"user%d" % chance.randrange(5000)
        draw = chance.random()
        sender = b"joe%d@mail.test" % chance.randrange(50)
        if draw < 0.15:
            return [box + b"@mail.test"], b"them%d@big.example" % chance.randrange(500)
        if draw < 0.16:
            return [b"%b@gone%d.example" % (box, chance.randrange(3))], sender
        if draw < 0.163:
            return [b"%b@hole%d.example" % (box, chance.randrange(4))], sender
        if draw < 0.17:
            return [b"%b@full%d.example" % (box, chance.randrange(2))], sender
        if chance.random() < self._greylisted:
            return [b"n%d-%b@grey%d.example" % (self._serial, box, chance.randrange(3))], sender
        name = chance.choices(GOOD, [1 / (rank + 1) for rank in range(len(GOOD))])[0]
        return [b"%b@%b.example" % (box, name.encode())], sender
