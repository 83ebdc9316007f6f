"""What a look found, checked for what the model can hold."""

from qmail_exporter.formats import FormatError
from qmail_exporter.formats.envelope import ChannelFile, Message
from qmail_exporter.queue.table import FAILED, NEVER, TODO, UNKNOWN_SENDER, Row

_EARLY, _LATE = -(1 << 62), 1 << 62  # beyond these a row could not hold a time, or what follows from it
_TO_DO, _DONE = b"TD"


def valid_files(message: Message) -> tuple[ChannelFile, ...]:
    """The channels' files that are neither empty nor, as there is no birth, not valid yet.

    Raises:
        FormatError: a time is absurd.
    """
    arrival_ns, _, _, _, birth, _, files, _ = message
    if not _EARLY < arrival_ns < _LATE:
        raise FormatError("mess: a time out of range")
    if birth is None:
        return ()
    if not _EARLY < birth < _LATE:
        raise FormatError("info: a time out of range")
    for _, _, mtime in files:
        if not _EARLY < mtime < _LATE:
            raise FormatError("channel: a time out of range")
    return files if len(files) == 1 and files[0].content else tuple([file for file in files if file.content])


def only_recipient(content: bytes) -> tuple[bool, bytes]:
    """Whether the one recipient in a file of one record is done, and the address.

    Raises:
        FormatError: it is no such file.
    """
    first = content[0]
    if content[-1] or (first != _TO_DO and first != _DONE):  # noqa: PLR1714 - as fast as can be
        raise FormatError("channel: not one record, to do or done")
    return first == _DONE, content[1:-1]


def row_without_recipient(message: Message, flags: int) -> Row:
    """The row of a message that has no recipient yet or no longer, or more than a row holds."""
    arrival_ns, size, todo, sender, birth, changed, _, failed = message
    return Row(
        arrival_ns=arrival_ns,
        size=size,
        birth=NEVER if birth is None else birth,
        changed=changed,
        flags=flags | (TODO if todo else 0) | (FAILED if failed else 0),
        sender=UNKNOWN_SENDER if sender is None else sender,
    )
