"""What `qmail-exporter demo` plays: a week of mail in fast motion, then mail as it comes, in real time.

The week leaves a queue with messages of every age, the log that tells why they wait, and the time of each one's next
attempt. Then, at `rate` messages a second: mail to some forty domains, lists, bounces, strange addresses; an outage
of the network after a minute and every eight minutes from then; a restart of qmail every ten minutes.
"""

import heapq
import random
import time
from collections.abc import Callable
from pathlib import Path

from qmail_exporter.demo.multilog import Multilog
from qmail_exporter.demo.qmail import Clock, Qmail, run
from qmail_exporter.demo.world import TIMEOUT_CONNECT, World

LIFETIME = 604800
OUTAGE_FIRST = 60.0
OUTAGE_EVERY = 480.0
OUTAGE_LENGTH = 170.0
"""Seconds. qmail counts a host's time-outs 120 s apart or more: a shorter outage would leave no host dead."""
RESTART_EVERY = 600.0
LIST_FIRST = 20.0
LIST_EVERY = 420.0
STRANGE_EVERY = 25.0
_LIST_SIZE = 2000
_SEEDED = 240
_EXPIRING = 12
_CALLS_A_TICK = 400
_STUBBORN = ("full", "greeting", "dns", "hole", "refused")
_LAST_ATTEMPT = (39 * 20) ** 2  # the first of the remote schedule's squares beyond LIFETIME

STRANGE = (
    b"white space@bigmail.example",
    b'"quoted@at"@post.example',
    b"new\nline@webmail.example",
    b"caf\xc3\xa9@inbox.example",
    b"latin\xe9@mailbox.example",
    b"100%@uni.example",
    b"no-host",
    b"empty@",
    b"@city.example",
    b'brace{quote"}@bank.example',
    b"shout@GARDEN.EXAMPLE",
    b"dot@press.example.",
    b"literal@[192.0.2.1]",
    b"other@(other)",
    b"x" * 300 + b"@radio.example",
    b"red@\x1b[31m.example",
)


class Scenario:
    """A qmail with a life of its own.

    Args:
        home: what /var/qmail is to a real one.
        log_dir: the multilog directory that its log goes to.
        now: when it begins, Unix seconds; the present time if not given.
        seed: of everything that is left to chance.
        rate: messages a second.
        stamp_files: give files the time that `tick` is given: for a caller whose time is not the kernel's.
    """

    def __init__(  # noqa: PLR0913 - all but two have defaults
        self,
        home: Path,
        log_dir: Path,
        *,
        now: float | None = None,
        seed: int = 0,
        rate: float = 3.0,
        stamp_files: bool = False,
    ) -> None:
        now = time.time() if now is None else now
        self._random = random.Random(seed)  # noqa: S311 - a show, no secret
        self._clock = Clock(now - LIFETIME - 6000)
        self._rate = rate
        self.world = World(seed)
        self.log = Multilog(log_dir, self._clock, size=1_000_000)
        self.qmail = Qmail(
            home,
            clock=self._clock,
            respond=self.world.respond,
            log=self.log,
            concurrency={"local": 10, "remote": 40},
            lifetime=LIFETIME,
            stamp_files=True,
        )
        (home / "control" / "timeoutconnect").write_text(f"{TIMEOUT_CONNECT:.0f}\n")
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._planned = 0
        self._play_the_week(now)
        self.qmail.host.stamp_files = stamp_files
        self._plan(now, self._mail)
        self._plan(now + OUTAGE_FIRST, self._outage)
        self._plan(now + LIST_FIRST, self._list)
        self._plan(now + RESTART_EVERY, self._restart)
        self._plan(now + STRANGE_EVERY, self._strange)

    def tick(self, now: float) -> None:
        """Do what is due at `now`, Unix seconds; what takes too long is left to the next tick."""
        self._clock.now = max(now, self._clock.now)
        while self._events and self._events[0][0] <= now:
            due, _, act = heapq.heappop(self._events)
            act(due)
        self.qmail.pump(_CALLS_A_TICK)

    def close(self) -> None:
        """End as at a power cut, but with the log complete."""
        self.qmail.kill()
        self.log.close()

    def describe(self) -> list[str]:
        """Return what there is to see, a line each, with the times in seconds from the start."""
        queued = len(self.qmail.ledger.messages)
        return [
            f"at once: {queued} messages in the queue, up to a week old; some expire as you watch",
            f"after {LIST_FIRST:.0f} s, every {LIST_EVERY:.0f} s: a list message to {_LIST_SIZE} recipients",
            f"after {OUTAGE_FIRST:.0f} s, every {OUTAGE_EVERY:.0f} s: no host answers for {OUTAGE_LENGTH:.0f} s",
            "after an outage: hosts that timed out twice stay dead to qmail; retries are long in coming",
            f"every {RESTART_EVERY:.0f} s: qmail-send exits and starts again, which empties tcpto",
            f"all the while: {self._rate:g} messages a second, greylisting, full mailboxes, bounces",
        ]

    def _plan(self, when: float, act: Callable[[float], None]) -> None:
        self._planned += 1
        heapq.heappush(self._events, (when, self._planned, act))

    def _play_the_week(self, now: float) -> None:
        """Queue mail that cannot be delivered, spread over the lifetime, and let qmail try and try again."""
        self.qmail.start()
        births = [now - LIFETIME * self._random.random() ** 1.5 for _ in range(_SEEDED)]
        births += [now - _LAST_ATTEMPT + 60 + 100 * place for place in range(_EXPIRING)]
        stubborn = [domain.name for domain in self.world.domains if domain.behaviour in _STUBBORN]
        for birth in sorted(births):
            self.qmail.run_until(birth)
            self._send([b"someone%d@%b" % (self._planned, self._random.choice(stubborn).encode())])
            self._planned += 1
        self.qmail.run_until(now)

    def _send(self, recipients: list[bytes], sender: bytes | None = None) -> None:
        if sender is None:
            sender = b"user%d@mail.test" % self._random.randrange(200)
        body = b"Subject: demo\n\n" + b"All is well.\n" * int(self._random.paretovariate(0.9) * 20 % 2000)
        run(self.qmail.inject(sender, recipients, body))

    def _mail(self, due: float) -> None:
        draw = self._random.random()
        box = b"user%d" % self._random.randrange(400)
        if draw < 0.15:
            self._send([box + b"@mail.test"])
        elif draw < 0.17:
            self._send([b"nobody@mail.test"], b"forged%d@tpyo.example" % self._random.randrange(50))
        elif draw < 0.19:
            self._send([b"moving@mail.test"])
        elif draw < 0.24:
            names = [self.world.pick().name.encode() for _ in range(self._random.randrange(2, 12))]
            self._send([b"%b@%b" % (box, name) for name in names])
        else:
            self._send([box + b"@" + self.world.pick().name.encode()])
        self._plan(due + self._random.expovariate(self._rate), self._mail)

    def _list(self, due: float) -> None:
        names = [self.world.pick().name.encode() for _ in range(_LIST_SIZE)]
        self._send(
            [b"reader%d@%b" % (n, name) for n, name in enumerate(names)], b"list-return-@mail.test-@[]"
        )
        self._plan(due + LIST_EVERY, self._list)

    def _strange(self, due: float) -> None:
        self._send([self._random.choice(STRANGE)])
        self._plan(due + STRANGE_EVERY, self._strange)

    def _outage(self, due: float) -> None:
        self.world.set_outage(due, due + OUTAGE_LENGTH)
        self._plan(due + OUTAGE_EVERY, self._outage)

    def _restart(self, due: float) -> None:
        self.qmail.stop()
        self._plan(due + 1, self._start_again)
        self._plan(due + RESTART_EVERY, self._restart)

    def _start_again(self, due: float) -> None:
        if self.qmail.running:
            self._plan(due + 1, self._start_again)
        else:
            self.qmail.start()
