"""The work of `bounce`, `rejuvenate` and `expire-bounces`: to each message its new age, and a word on what came of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from qmail_exporter.actions import ActionError, Letter, NoMessageError, Spool
from qmail_exporter.commands import audit
from qmail_exporter.commands.output import NOTHING, Output, age, decoded, reason_of
from qmail_exporter.commands.selection import Criteria, matching
from qmail_exporter.config import QueueSpec
from qmail_exporter.formats.control import QUEUE_LIFETIME
from qmail_exporter.sources.host import ControlFiles

MARGIN = 86400.0
"""Seconds by which a message that is to bounce is made older than it need be, so that no clock saves it."""


class Aging:
    """One run of a command.

    Args:
        output: takes what came of each message.
        control: the directory of the control files.
        now: Unix seconds.
        old: make messages too old to be tried again, else as young as can be.
        dry_run: change nothing.

    Attributes:
        changed: names of the queues in which a message was changed, or would have been.
    """

    def __init__(self, output: Output, control: Path, now: float, *, old: bool, dry_run: bool) -> None:
        self.changed: set[str] = set()
        self._output = output
        self._control = control
        self._now = now
        self._old = old
        self._dry_run = dry_run

    def named(self, queues: Iterable[QueueSpec], ids: Iterable[int]) -> None:
        """Change the messages with these numbers, each in the one queue that has it."""
        spools = {queue.name: spool for queue in queues if (spool := self._spool(queue)) is not None}
        chosen: dict[str, list[Letter]] = {name: [] for name in spools}
        for msg in dict.fromkeys(ids):
            self._find(msg, spools, chosen)
        for name, letters in chosen.items():
            if letters:
                self._change(name, spools[name], letters)

    def matching(self, queue: QueueSpec, criteria: Criteria) -> int:
        """Change the messages of a queue that fit; returns how many there were."""
        spool = self._spool(queue)
        if spool is None:
            return 0
        found = matching(spool, criteria, self._now, partial(self._left_out, queue.name))
        try:
            return self._change(queue.name, spool, found)
        except OSError as error:
            self._output.failed(reason_of(error), queue=queue.name)
            return 0

    def _spool(self, queue: QueueSpec) -> Spool | None:
        try:
            return Spool(str(queue.path))
        except OSError as error:
            self._output.failed(reason_of(error), queue=queue.name)
            return None

    def _find(self, msg: int, spools: dict[str, Spool], chosen: dict[str, list[Letter]]) -> None:
        found: list[tuple[str, Letter]] = []
        for name, spool in spools.items():
            try:
                with suppress(NoMessageError):
                    found.append((name, spool.read(msg)))
            except (ActionError, OSError) as error:  # noqa: PERF203 - one is enough
                self._output.failed(reason_of(error), queue=name, id=msg)
                return
        if len(found) > 1:
            names = " and ".join(name for name, _ in found)
            self._output.failed(f"the queues {names} both have it: name one with --qmail.queue", id=msg)
        elif found:
            chosen[found[0][0]].append(found[0][1])
        else:
            self._output.failed("no such message", NOTHING, id=msg)

    def _left_out(self, queue: str, msg: int | None, why: str) -> None:
        fields = {} if msg is None else {"id": msg}
        self._output.failed(why, queue=queue, **fields)

    def _change(self, queue: str, spool: Spool, letters: Iterable[Letter]) -> int:
        """Change messages; returns how many there were."""
        birth = self._birth(queue)
        if birth is None:
            return 0
        count = 0
        with self._trail(queue, birth) as changed:
            for letter in letters:
                count += 1
                if self._change_one(queue, spool, letter, birth):
                    changed.append(letter.msg)
                    self.changed.add(queue)
        return count

    def _change_one(self, queue: str, spool: Spool, letter: Letter, birth: float) -> bool:
        needed = not self._old or letter.birth > birth
        try:
            if needed and not self._dry_run:
                spool.set_birth(letter, birth)
        except NoMessageError as error:
            self._output.failed(str(error), NOTHING, queue=queue, id=letter.msg)
            return False
        except (ActionError, OSError) as error:
            self._output.failed(reason_of(error), queue=queue, id=letter.msg)
            return False
        self._tell(queue, letter, birth, needed=needed)
        return needed

    def _tell(self, queue: str, letter: Letter, birth: float, *, needed: bool) -> None:
        sender = decoded(letter.sender)
        if not needed:
            done = "is that old already"
        elif self._dry_run:
            done = "would be tried once more" if self._old else "would be young again"
        else:
            done = "will be tried once more" if self._old else "is young again"
        self._output.result(
            f"{queue} {letter.msg}: {done} (from <{sender}>, age {age(self._now - letter.birth)})",
            queue=queue,
            id=letter.msg,
            sender=sender,
            birth=letter.birth,
            new_birth=birth if needed else letter.birth,
            changed=needed and not self._dry_run,
            dry_run=self._dry_run,
        )

    def _birth(self, queue: str) -> float | None:
        """Return the time of birth to give: now, or one that is past every queuelifetime that qmail-send may go by.

        qmail-send reads queuelifetime when it starts, so it may go by an older value than the file has; the default
        is the most likely one.
        """
        if not self._old:
            return self._now
        try:
            lifetime = ControlFiles(str(self._control)).read().queuelifetime
        except OSError as error:
            self._output.failed(f"queuelifetime is not known: {reason_of(error)}", queue=queue)
            return None
        return max(self._now - max(lifetime, QUEUE_LIFETIME) - MARGIN, 1.0)

    @contextmanager
    def _trail(self, queue: str, birth: float) -> Iterator[list[int]]:
        if self._dry_run:
            yield []
            return
        with audit.trail("bounce" if self._old else "rejuvenate", queue, birth=int(birth)) as changed:
            yield changed
