"""Which messages a command is about: those named, or those that fit what is asked for."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from qmail_exporter.actions import ActionError, Letter, NoMessageError, Spool
from qmail_exporter.commands.output import reason_of
from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import Sender, count_channel, log_safe, sender_kind
from qmail_exporter.sources.scan import Tree

Report = Callable[[int | None, str], None]
"""Takes the number of a message, None for the queue itself, and why it was left out."""


@dataclass(frozen=True)
class Criteria:
    """What a message must be; those that are empty or None do not count.

    Attributes:
        domains: all its pending recipients are at one of these, in lower case; `.example.com` stands for everything
            below example.com. As `envelope.domain` writes them.
        any_recipient: one such recipient is enough.
        senders: its sender is one of these, or is at one if that begins with `@`. In the log's form, in lower case.
        older_than: its age in seconds is greater.
        bounces: it is a bounce or a double bounce.
    """

    domains: tuple[str, ...] = ()
    any_recipient: bool = False
    senders: tuple[bytes, ...] = ()
    older_than: float | None = None
    bounces: bool = False

    def fits(self, letter: Letter, now: float) -> bool:
        """Tell whether a message fits, but for its recipients."""
        if self.older_than is not None and now - letter.birth <= self.older_than:
            return False
        if self.bounces and sender_kind(letter.sender) == Sender.MAIL:
            return False
        return not self.senders or any(_is_from(letter.sender, each) for each in self.senders)

    def fits_domains(self, pending: dict[str, int]) -> bool:
        """Tell whether a message whose pending recipients are at these domains fits."""
        inside = [any(_is_at(name, each) for each in self.domains) for name in pending]
        return any(inside) if self.any_recipient else bool(inside) and all(inside)


def sender_criterion(text: str) -> bytes:
    """Return what `Criteria.senders` takes for an address, `@domain`, or `<>` for bounces."""
    return log_safe(b"" if text == "<>" else text.encode("utf-8", "surrogateescape")).lower()


def matching(spool: Spool, criteria: Criteria, now: float, report: Report) -> Iterator[Letter]:
    """Yield the messages that fit. Those that end meanwhile, or are not preprocessed, are no messages here."""
    with closing(Tree(spool.path)) as tree:
        if criteria.domains and tree.broken:
            report(None, reason_of(next(iter(tree.broken.values()))))
            return
        for msg in spool.messages():
            try:
                letter = spool.read(msg)
                if not criteria.fits(letter, now):
                    continue
                if not criteria.domains or criteria.fits_domains(_pending(tree, msg)):
                    yield letter
            except NoMessageError:
                continue
            except (ActionError, FormatError, OSError) as error:
                report(msg, reason_of(error))
    for broken in spool.broken:
        report(None, reason_of(broken))


def _pending(tree: Tree, msg: int) -> dict[str, int]:
    """Return pending recipients by domain, over all channels."""
    message = tree.look(msg)
    found: dict[str, int] = {}
    for file in message.channels if message else ():
        for name, count in count_channel(file.content).domains.items():
            found[name] = found.get(name, 0) + count
    return found


def _is_from(sender: bytes, criterion: bytes) -> bool:
    sender = log_safe(sender).lower()
    if criterion.startswith(b"@"):
        return b"@" + sender.rpartition(b"@")[2] == criterion if b"@" in sender else False
    return sender == criterion


def _is_at(name: str, criterion: str) -> bool:
    return name.endswith(criterion) if criterion.startswith(".") else name == criterion
