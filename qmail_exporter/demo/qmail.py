"""The simulated qmail, as its users see it: a queue, and programs that work on it, step by step.

Guaranteed, as on a real qmail (INTERNALS in qmail's sources):

- Every call that changes the queue or `lock/tcpto` is made, on the same file and in the same order as by qmail, so
  whoever watches the directory sees the same events for each message. A message's number is the inode number of its
  `mess` file (unless `reuse_numbers`). On ext4 the number is free again, and taken again, at once; tmpfs counts on.
- The log has qmail-send's lines, in its order, each written at the point where qmail-send writes it.
- A program can be left, or killed, between any two of its calls; the next start goes on from the files.
- `ledger` says at each such point what has happened and what is in the queue, without reading it back.

Not so: nothing is fsynced; files belong to whoever runs this; reads are larger than qmail's, and descriptors that only
read are closed sooner; locking `lock/tcpto` and letting it go is one step; what a killed qmail-queue left in `pid` is
never removed. With `stamp_files` each file that is written is also given the clock's time, which watchers see as ATTRIB.
"""

import math
import os
import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from pathlib import Path

from qmail_exporter.demo import tcpto
from qmail_exporter.demo.bounce import Names
from qmail_exporter.demo.deliveries import Log, Respond
from qmail_exporter.demo.enqueue import enqueue
from qmail_exporter.demo.host import Host, Steps, run
from qmail_exporter.demo.ledger import Ledger
from qmail_exporter.demo.preprocess import rewrite
from qmail_exporter.demo.report import Outcome
from qmail_exporter.demo.send import Send, Settings

__all__ = ["BODY", "Clock", "Outcome", "Qmail", "run"]

BODY = b"From: a@mail.test\nTo: b@mail.test\nSubject: hello\n\nHello.\n"
_DEFAULT_CONCURRENCY = {"local": 10, "remote": 20}
_COMPLAINT = re.compile(rb"(warning|alert): ")


class Clock:
    """A clock that stands still until it is set: `now` in Unix seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the present time."""
        return self.now


class Qmail:
    """A qmail on a queue directory of its own, made if it is not there.

    Args:
        home: what /var/qmail is to a real one: `queue` and `control` are made in it.
        clock: the present time, Unix seconds.
        respond: how an attempt in a channel to reach a recipient, begun at a time, goes.
        log: takes each line of the log, without newline.
        split: directories that `mess` and the others are split into.
        queue_name: indimail's name for the queue; if given, it stands in the log's lines as indimail has it.
        concurrency: deliveries at once, by channel: `local` and `remote`.
        lifetime: queuelifetime in seconds.
        me: the host's name; its mail is local.
        local_domains: further domains whose mail is local, in lower case.
        stamp_files: give files the clock's time: for a clock that is not the kernel's.
        reuse_numbers: give numbers again at once even where the file system does not.
        queue: name of the queue directory in `home`.

    Attributes:
        host: the queue directory and what the programs share.
        ledger: what happened.
    """

    def __init__(  # noqa: PLR0913 - a qmail has many control files
        self,
        home: Path,
        *,
        clock: Callable[[], float],
        respond: Respond,
        log: Log,
        split: int = 23,
        queue_name: bytes = b"",
        concurrency: Mapping[str, int] | None = None,
        lifetime: int = 604800,
        me: bytes = b"mail.test",
        local_domains: Collection[bytes] = (),
        stamp_files: bool = False,
        reuse_numbers: bool = False,
        queue: str = "queue",
    ) -> None:
        self.clock = clock
        self.host = Host(
            home / queue, split=split, clock=clock, stamp_files=stamp_files, reuse_numbers=reuse_numbers
        )
        self._respond = respond
        self._log = _named(log, queue_name) if queue_name else log
        domains = frozenset((me, *local_domains))
        self._settings = Settings(
            concurrency=dict(concurrency or _DEFAULT_CONCURRENCY),
            lifetime=lifetime,
            bounces=Names(me),
            to_channel=lambda recipient: rewrite(recipient, me, domains),
        )
        self._send: Send | None = None
        self._turn: Generator[str, None, None] | None = None
        home.mkdir(parents=True, exist_ok=True)
        self.host.create()
        _write_control(home / "control", self._settings, me, domains)

    @property
    def ledger(self) -> Ledger:
        """What happened, and what is in the queue."""
        return self.host.ledger

    @property
    def running(self) -> bool:
        """Whether there is a qmail-send."""
        return self._send is not None

    @property
    def deliveries(self) -> dict[str, int]:
        """The number of deliveries under way, by channel."""
        return dict(self._send.deliveries.open) if self._send else {}

    def path(self, kind: str, number: int) -> Path:
        """Return the path of a message's file in `mess`, `todo`, `info`, `local`, `remote`, `bounce` or `intd`."""
        return Path(self.host.path(kind, number))

    def inject(
        self,
        sender: bytes,
        recipients: Sequence[bytes],
        body: bytes = BODY,
        *,
        age: float = 0,
        uid: int = 1000,
    ) -> Steps[int]:
        """Return a qmail-queue that queues a message; its result is the number.

        `age` in seconds makes the message look as old, to qmail as well: its files are given old times.
        """
        pid = self.host.next_pid()
        return enqueue(self.host, sender, recipients, body, pid=pid, age=age, uid=uid)

    def start(self) -> None:
        """Start qmail-send.

        Raises:
            RuntimeError: it runs.
        """
        if self._send is not None:
            raise RuntimeError("qmail-send is running")
        send = Send(self.host, self._settings, self._respond, self._log)
        run(send.begin())
        self._send = None if send.exited else send

    def stop(self) -> None:
        """Ask qmail-send to exit (SIGTERM): it does so when the open deliveries have ended; keep stepping it."""
        if self._send:
            self._send.deliveries.stopping = True

    def kill(self) -> None:
        """End qmail-send where it stands (SIGKILL), with the qmail-queue that it may be running for a bounce."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.close()
        send, self._send = self._send, None
        if send:
            send.die()

    def alarm(self) -> None:
        """Let every message be due now (SIGALRM)."""
        if self._send:
            self._send.rush = True

    def tcpok(self) -> None:
        """Empty the tcpto table (qmail-tcpok)."""
        run(tcpto.clear(self.host))

    def touch(self, number: int, birth: float) -> None:
        """Set what qmail takes for a message's birth, Unix seconds, as an admin would with touch -d."""
        os.utime(self.path("info", number), (birth, birth))
        self.ledger.messages[number].birth = math.floor(birth)

    def step(self) -> str | None:
        """Let qmail-send go on to the end of its next call and return that call's name; None if nothing is due."""
        if self._send is None:
            return None
        if self._turn is None:
            self._turn = self._loop(self._send)
        name = next(self._turn, None)
        if name is None:
            self._turn = None
        return name

    def pump(self, limit: int | None = None) -> bool:
        """Let qmail-send do all that is due now; return whether something is left, after `limit` calls."""
        while self.step() is not None:
            if limit is not None:
                limit -= 1
                if limit <= 0:
                    return True
        return False

    def run_until(self, end: float) -> None:
        """Let qmail-send work until the `Clock` says `end`, passing over the times when it sleeps.

        Raises:
            TypeError: this qmail has no `Clock`, so its time cannot be moved.
        """
        clock = self.clock
        if not isinstance(clock, Clock):
            raise TypeError("the time of this qmail cannot be moved")
        while True:
            self.pump()
            wakeup = self._send.wakeup() if self._send else end
            if wakeup >= end:
                break
            clock.now = max(clock.now, wakeup)
        clock.now = max(clock.now, end)
        self.pump()

    def preprocess(self, number: int) -> Steps[None]:
        """Return the steps in which qmail-send takes this message from `todo`, ahead of its own turn.

        Raises:
            RuntimeError: qmail-send does not run.
        """
        return self._running().take(number)

    def attempt(self, number: int, channel: str) -> Steps[None]:
        """Return the steps of a pass over this message in this channel, now, whenever its next attempt is due.

        They start its deliveries as far as the concurrency allows; `step` goes on with the rest and ends them.

        Raises:
            RuntimeError: qmail-send does not run.
            ValueError: the message does not wait in that channel.
        """
        send = self._running()
        send.schedule.make_due(number, channel)
        return self._attempt(send, channel)

    def _attempt(self, send: Send, channel: str) -> Steps[None]:
        while (yield from send.deliveries.step(channel, 0)):
            pass

    def _loop(self, send: Send) -> Steps[None]:
        while (yield from send.turn()):
            pass
        if send.exited:
            self._send = None

    def _running(self) -> Send:
        if self._send is None:
            raise RuntimeError("qmail-send is not running")
        return self._send


def _named(log: Log, name: bytes) -> Log:
    """Give the lines the queue's name where indimail-mta's qmail-send.c and qmail-todo.c do."""

    def write(line: bytes) -> None:
        if line == b"status: exiting":
            log(b"status: %b %b qmail-send exiting" % (name, name))
        elif line.endswith(b" exitasap") and line.startswith(b"status: "):
            log(line.removesuffix(b"exitasap") + name + b" exitasap")
        elif complaint := _COMPLAINT.match(line):
            log(b"%b%b: %b" % (complaint[0], name, line[complaint.end() :]))
        else:
            log(line + b" " + name)

    return write


def _write_control(directory: Path, settings: Settings, me: bytes, domains: Collection[bytes]) -> None:
    directory.mkdir(exist_ok=True)
    values = {
        "me": me,
        "locals": b"\n".join(sorted(domains)),
        "rcpthosts": b"\n".join(sorted(domains)),
        "queuelifetime": b"%d" % settings.lifetime,
        "concurrencylocal": b"%d" % settings.concurrency["local"],
        "concurrencyremote": b"%d" % settings.concurrency["remote"],
        "smtproutes": b"# domain:relay, an empty relay is the domain's own mail exchanger\npartner.example:relay.mail.test",
    }
    for name, value in values.items():
        (directory / name).write_bytes(value + b"\n")
