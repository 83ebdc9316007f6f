"""A look at everything: at the messages that are held, then at every other that is there."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from qmail_exporter import logfmt
from qmail_exporter.collect.sweeps import AUDIT
from qmail_exporter.formats.envelope import Message
from qmail_exporter.sources.apart import ApartError, scan_apart
from qmail_exporter.sources.scan import Tree

if TYPE_CHECKING:
    from qmail_exporter.collect.directory import QueueWatch

logger = logfmt.get_logger(__name__)

_STEP = 256


def everywhere(watch: "QueueWatch", tree: Tree, reason: str) -> Iterator[float]:
    """Bring the whole model up to date, in steps of some milliseconds; yields the progress, 0 to 1.

    Other processes do it where nothing is held.  An audit is to compare, and of what they find nothing is compared.
    """
    held = len(watch.queue)
    if not held and reason != AUDIT:
        try:
            yield from _apart(watch, tree)
        except ApartError as error:
            logger.info("scanning in one process", queue=watch.name, why=error.strerror)
            held = len(watch.queue)
        else:
            return
    for _ in watch.cover(tree):
        yield 0.0
    looked = 0
    for part in watch.queue.parts():
        for msg in part:
            _check(watch, tree, msg, tree.look(msg), reason)
            looked += 1
            if looked % _STEP == 0 and held:
                yield min(looked / held, 1.0) / 2
    begun = 0.5 if held else 0.0
    for step in tree.scan(watch.queue.__contains__):
        for msg, message in step.found:
            _check(watch, tree, msg, message, reason)
        yield begun + step.progress * (1.0 - begun)


def _apart(watch: "QueueWatch", tree: Tree) -> Iterator[float]:
    """Take what other processes find.  It may be old: messages nominated meanwhile are looked at when it is all here.

    Raises:
        ApartError: there are no other processes, or they did not come to the end.
    """
    queue, whole = watch.queue, False
    terms = queue.log_since, queue.send_since
    watch.apart = True
    try:
        yield from _taken(watch, tree)
        for _ in queue.sort():
            yield 1.0
        whole = True
        if terms != (queue.log_since, queue.send_since):
            for _ in queue.reschedule():
                yield 1.0
    finally:
        if not whole:  # the model is gone on with, or emptied message by message
            for _ in queue.sort():
                pass
        watch.waiting = watch.apart = False


def _taken(watch: "QueueWatch", tree: Tree) -> Iterator[float]:
    """Begin the watches while other processes scan what is watched, and take what they find."""
    progress = 0.0
    with closing(scan_apart(tree, watch.queue.share)) as steps:
        covered = watch.cover(tree)
        for step in steps:
            number = next(covered, None)
            if number is not None:
                steps.admit(number)
            watch.waiting = step is None and number is None
            if step is not None:
                progress = step.progress
                if step.gathered is not None:
                    watch.queue.absorb(step.gathered)
                for msg, message in step.found:
                    watch.take(msg, message)
            yield progress


def _check(watch: "QueueWatch", tree: Tree, msg: int, message: Message | None, reason: str) -> None:
    """Take in what a sweep found.

    An audit should find only what an event has told of.  A message that qmail-queue still receives is excepted: it
    grows without an event.  So is what an area that cannot be read hides.
    """
    receiving = message is not None and not message.todo and message.birth is None
    if not watch.take(msg, message) or reason != AUDIT or msg in watch.pending:
        return
    if not (receiving or tree.broken):
        watch.sweeps.differs(msg)
