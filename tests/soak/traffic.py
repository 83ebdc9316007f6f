"""Mail as a host sees it in days: many domains, lists, bounces of bounces, strange addresses, outages, restarts of qmail-send.

Everything follows from the seed: the same attempt, by recipient and time, gets the same answer, and message numbers are
given out from 1000 on, so that they do not depend on the file system.
"""

import heapq
import random
import zlib
from collections.abc import Callable
from math import pi, sin
from pathlib import Path
from typing import TYPE_CHECKING

from qmail_exporter.demo.qmail import Clock, Outcome, Qmail, run
from qmail_exporter.demo.scenario import STRANGE
from qmail_exporter.demo.world import World

if TYPE_CHECKING:
    from qmail_exporter.demo.host import Steps

DAY = 86400.0
_SENDERS = (b"", b"#@[]", b"nobody@mail.test", b"list-return-@mail.test-@[]", b"forged@tpyo.example")
_FURTHER = 300  # domains, served by the hosts of the world's
_MANGLED = 0.002  # the share of attempts whose report is mangled
_SAID = {
    b"Greylisted": "greylist",
    b"Mailbox full": "mailbox_full",
    b"Too many connections": "rate_limit",
    b"connection died": "connection_died",
    b"CNAME lookup failed": "dns",
    b"SMTP connection": "connect",
}


def why(_address: bytes, said: bytes) -> str:
    """Return the reason of a deferral that a host of the world gave; a mangled report says nothing."""
    return next((reason for words, reason in _SAID.items() if words in said), "system")


class Traffic:
    """A qmail, and all that is sent through it.

    Args:
        home: of the qmail.
        clock: which `run` moves.
        log: takes the lines of the log.
        seed: of everything that is left to chance.
        messages: a day, about, but for bounces.
        lifetime: queuelifetime, in seconds.

    Attributes:
        lifetime: as given.
        refused: messages that qmail-queue could not take.
    """

    def __init__(
        self,
        home: Path,
        clock: Clock,
        log: Callable[[bytes], None],
        *,
        seed: int,
        messages: int,
        lifetime: int,
    ) -> None:
        self.clock = clock
        self.chance = random.Random(f"traffic {seed}")
        self.world = World(seed)
        self.qmail = Qmail(
            home,
            clock=clock,
            respond=self._respond,
            log=log,
            split=7,
            concurrency={"local": 5, "remote": 40},
            lifetime=lifetime,
            stamp_files=True,
            reuse_numbers=True,
        )
        self.qmail.host._free = list(range(1000, 100_000))
        self.lifetime = lifetime
        self.refused = 0
        self._rate = messages / DAY
        self._receiving: list[Steps[int]] = []
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0
        self.qmail.start()
        for act in (self._mail, self._list, self._strange, self._receive, self._outage, self._restart):
            self.plan(self.chance.random() * 3600, act)

    # --- time

    def plan(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something done in so many seconds."""
        self._planned += 1
        heapq.heappush(self._plans, (self.clock.now + seconds, self._planned, act))

    def run(self, until: float, between: Callable[[], None], calls: int) -> None:
        """Let all happen until a moment, and `between` after every so many of qmail-send's calls."""
        while True:
            while self._plans and self._plans[0][0] <= self.clock.now:
                heapq.heappop(self._plans)[2]()
            while self.qmail.pump(calls):
                between()
            send = self.qmail._send
            due = min(self._plans[0][0], send.wakeup() if send is not None else until)
            if due >= until:
                break
            self.clock.now = max(self.clock.now, due)
        self.clock.now = max(self.clock.now, until)

    def start(self) -> None:
        """Start qmail-send, when the one that runs has exited if it is to; the model goes by whole seconds, as qmail does."""
        send = self.qmail._send
        if send is None:
            self.clock.now += 1
            self.qmail.start()
        elif send.stopping:
            self.plan(5, self.start)

    def kill(self, down: float) -> None:
        """Kill qmail-send, and start it so many seconds later."""
        if self.qmail.running:
            self.qmail.kill()
            self.plan(down, self.start)

    def drop_connections(self) -> None:
        """End every qmail-queue that still receives a message: its file in `mess` is left behind."""
        while self._receiving:
            self._receiving.pop().close()

    # --- mail

    def _send(self, recipients: list[bytes], sender: bytes | None = None) -> None:
        if sender is None:
            sender = b"user%d@mail.test" % self.chance.randrange(200)
        body = b"Subject: soak\n\n" + b"All is well.\n" * int(self.chance.paretovariate(0.9) * 20 % 200)
        try:
            run(self.qmail.inject(sender, recipients, body))
        except FileExistsError:
            self.refused += 1

    def _domain(self) -> bytes:
        if self.chance.random() < 0.7:
            return self.world.pick().name.encode()
        return b"d%d.example" % int(_FURTHER * self.chance.random() ** 2)

    def _recipient(self) -> bytes:
        draw = self.chance.random()
        if draw < 0.15:
            return b"user%d@mail.test" % self.chance.randrange(400)
        if draw < 0.18:
            return b"nobody@mail.test"
        if draw < 0.2:
            return b"moving@mail.test"
        return b"user%d@%b" % (self.chance.randrange(400), self._domain())

    def _mail(self) -> None:
        count = 1 if self.chance.random() < 0.93 else self.chance.randrange(2, 12)
        sender = self.chance.choice(_SENDERS) if self.chance.random() < 0.06 else None
        self._send([self._recipient() for _ in range(count)], sender)
        of_day = 1 + 0.8 * sin(2 * pi * self.clock.now / DAY)
        self.plan(self.chance.expovariate(self._rate * of_day), self._mail)

    def _list(self) -> None:
        size = int(self._rate * DAY * self.chance.uniform(0.02, 0.2)) + 10
        sender = b"list-return-@mail.test-@[]"
        self._send([b"reader%d@%b" % (number, self._domain()) for number in range(size)], sender)
        self.plan(DAY * self.chance.uniform(0.2, 0.5), self._list)

    def _strange(self) -> None:
        self._send([self.chance.choice(STRANGE)])
        self.plan(DAY / 24 * self.chance.random(), self._strange)

    def _receive(self) -> None:
        """Let a qmail-queue that is slow to receive its message go on; some never come to the end."""
        if len(self._receiving) < 3:
            self._receiving.append(self.qmail.inject(b"slow@mail.test", [self._recipient()]))
        program = self.chance.choice(self._receiving)
        try:
            for _ in range(self.chance.randrange(1, 6)):
                next(program)
        except (StopIteration, FileExistsError):
            self._receiving.remove(program)
        if self.chance.random() < 0.1:
            self.drop_connections()
        self.plan(DAY / 100 * self.chance.random(), self._receive)

    # --- what goes wrong in the world

    def _respond(self, channel: str, recipient: bytes, now: float) -> Outcome:
        box, _, name = recipient.rpartition(b"@")
        if name.startswith(b"d") and name[1:].removesuffix(b".example").isdigit():
            served_by = self.world.domains[zlib.crc32(name) % len(self.world.domains)].name.encode()
            recipient = b"%b@%b" % (box, served_by)
        outcome = self.world.respond(channel, recipient, now)
        mangled = zlib.crc32(b"%b %f" % (recipient, now)) % 10_000 < 10_000 * _MANGLED
        return Outcome("?", b"", outcome.duration) if mangled else outcome

    def _outage(self) -> None:
        now, seconds = self.clock.now, self.chance.choice((120.0, 900.0, 5000.0))
        self.world.set_outage(now, now + seconds, self.chance.choice((0.3, 1.0)))
        self.plan(seconds, self._after_outage)
        self.plan(DAY * self.chance.uniform(0.1, 0.6), self._outage)

    def _after_outage(self) -> None:
        """An admin may empty tcpto, and have qmail-send try everything."""
        if self.chance.random() < 0.5:
            self.qmail.tcpok()
            self.qmail.alarm()

    def _restart(self) -> None:
        self.qmail.stop()
        self.plan(self.chance.choice((1.0, 5.0, 400.0)), self.start)
        self.plan(DAY * self.chance.uniform(0.1, 0.5), self._restart)
