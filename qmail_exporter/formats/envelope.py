"""Names and contents of the queue's envelope files: `mess`, `todo`, `info`, `local`, `remote`, `bounce`.

An envelope file is a run of records, each ended by a NUL whose first byte is its kind: `u` and `p` (uid and pid of
qmail-queue, decimal), `F` (sender), `T` (recipient to do), `D` (recipient done). An address is any bytes but NUL, and
may be empty. The formats are those of qmail's INTERNALS, qmail-queue.c and qmail-send.c.

qmail-send marks a recipient done by writing a `D` over its `T`, so a file read at any moment is valid, except
while `todo/ID` exists: then `info`, `local` and `remote` are still being written. A last record without its NUL is
therefore a `FormatError`: the file was caught in the middle of being written, and is to be read again.
"""

import enum
import re
from collections import Counter
from typing import NamedTuple, TypeAlias

from qmail_exporter.formats import FormatError

MAX_MESSAGE_ID = 2**63 - 1
NO_DOMAIN = "(none)"
"""What `domain` gives where there is no domain to count under."""
MAX_DOMAIN = 253
"""Characters of a domain that are kept: the longest name that DNS can hold (RFC 1035, 2.3.4)."""


class Sender(enum.IntEnum):
    """What the sender says of a message: mail, or one of the two kinds of bounces."""

    MAIL = 0
    BOUNCE = 1
    DOUBLE = 2


class ChannelFile(NamedTuple):
    """One of a message's `local`, `remote` … files: the channel's name, the bytes, the mtime in Unix seconds.

    The mtime is no age: a qmail-send that exits leaves the time of the next attempt in it, perhaps in the future.
    """

    channel: str
    content: bytes
    mtime: int


class Message(NamedTuple):
    """The whole present state of one queued message, as its files show it.

    Attributes:
        arrival_ns: mtime of the `mess` file in Unix nanoseconds: when the message was queued.
        size: size of the `mess` file in bytes.
        todo: a `todo` file exists: qmail-send has not preprocessed the message.
        sender: None if neither `info` nor `todo` tells.
        birth: mtime of the `info` file in Unix seconds, from which qmail-send counts the message's age. None while
            there is no valid `info`: it is absent, or `todo` exists.
        info_changed: ctime of the `info` file in Unix seconds; 0 if `birth` is None.
        channels: one for each channel that has a file.
        failed: a `bounce` file exists: some recipients have failed, and the sender will be told.
    """

    arrival_ns: int
    size: int
    todo: bool
    sender: Sender | None
    birth: int | None
    info_changed: int
    channels: tuple[ChannelFile, ...]
    failed: bool


State: TypeAlias = tuple[
    int, int, bool, int | None, int | None, int, tuple[tuple[str, bytes, int], ...], bool
]
"""A `Message` as a tuple of plain values, the sender by its number, in which form it goes from one process to another."""

Glance: TypeAlias = tuple[int, int, int, int, int, int, int, bytes]
"""A preprocessed message with a file in one channel: its number, then as a `Message` has them arrival, size, sender by
its number, birth and change of the `info` file, and as a `ChannelFile` has them mtime and content."""


class Todo(NamedTuple):
    """A `todo` file: uid and pid of the qmail-queue that wrote it, sender and recipients as it was given them."""

    uid: int
    pid: int
    sender: bytes
    recipients: tuple[bytes, ...]


class Recipient(NamedTuple):
    """One record of a channel's file."""

    address: bytes
    done: bool


class ChannelCount(NamedTuple):
    """What `count_channel` counts: recipients to do, recipients done, and those to do for each `domain`."""

    pending: int
    done: int
    domains: dict[str, int]


def state_of(glance: Glance, channel: str) -> State:
    """Return the state of a message that has a file in that channel."""
    _, arrival_ns, size, sender, birth, changed, mtime, content = glance
    return arrival_ns, size, False, sender, birth, changed, ((channel, content, mtime),), False


def sender_kind(sender: bytes) -> Sender:
    """Tell mail from a bounce (empty sender) and a double bounce (`#@[]`), as qmail-send.c does."""
    if not sender:
        return Sender.BOUNCE
    return Sender.DOUBLE if sender == b"#@[]" else Sender.MAIL


def message_id(name: bytes) -> int | None:
    """Return the message number that a file's name stands for, or None if qmail would not write that name."""
    # bytes.isdigit knows the ASCII digits only; 20 digits are beyond the limit whatever they are.
    if name.isdigit() and name[0] != 48 and len(name) < 20:
        number = int(name)
        if number <= MAX_MESSAGE_ID:
            return number
    return None


def parse_info(content: bytes) -> bytes:
    """Return the sender that an `info` file names.

    Bytes after the first record are not looked at, as in qmail-send's getinfo(): indimail keeps header fields there.

    Raises:
        FormatError: the first record is no `F` record, or has no end yet.
    """
    end = content.find(b"\0")
    if end < 0:
        raise FormatError("info: the record has no end")
    if content[:1] != b"F":
        raise FormatError("info: the first record is no sender")
    return content[1:end]


def parse_todo(content: bytes) -> Todo:
    """Read a `todo` file.

    Records of another kind are passed over: indimail adds `e` and `h` with header fields.

    Raises:
        FormatError: a record has no end yet; there is not exactly one sender; uid or pid are missing or no numbers.
    """
    records = _records(content, "todo")
    senders = [record[1:] for record in records if record[:1] == b"F"]
    if len(senders) != 1:
        raise FormatError(f"todo: {len(senders)} senders")
    recipients = tuple(record[1:] for record in records if record[:1] == b"T")
    return Todo(_number(records, b"u"), _number(records, b"p"), senders[0], recipients)


def parse_channel(content: bytes) -> list[Recipient]:
    """Read a `local` or `remote` file, in its order.

    Raises:
        FormatError: a record has no end yet, or is neither `T` nor `D`.
    """
    _check_channel(content)
    return [Recipient(record[1:], record[:1] == b"D") for record in _records(content, "channel")]


def count_channel(content: bytes) -> ChannelCount:
    """Count a `local` or `remote` file's recipients without making an object of each: the file of a list is large.

    Equal to counting what `parse_channel` returns, and raises what that raises.
    """
    pending, done = _check_channel(content)
    text = (b"\0" + content).translate(_DOMAIN).decode("ascii") if pending else ""
    names = _PENDING_DOMAINS.findall(text)
    domains: Counter[str] = Counter()
    for name, count in Counter(names).items():
        domains[_key(name)] += count
    if without := pending - len(names):
        domains[NO_DOMAIN] += without
    return ChannelCount(pending, done, dict(domains))


def pending_addresses(content: bytes) -> list[bytes]:
    """Return the addresses still to do as `log_safe` writes them, in the file's order, duplicates kept.

    Raises what `parse_channel` raises.
    """
    _check_channel(content)
    return _PENDING_ADDRESSES.findall((b"\0" + content).translate(_SAFE_RECORDS))


def log_safe(raw: bytes) -> bytes:
    """Return an address or a report as qmail-send logs it (logsafe() in qsutil.c).

    A newline becomes `/`; every other byte that is below 33, above 126 or `%` becomes `_`.
    """
    return raw.translate(_SAFE)


def domain(address: bytes) -> str:
    """Return the key under which a recipient's domain is counted: 1 to 253 characters, each in 33 … 126.

    It is what follows the last `@` of the address in its log form, in ASCII lower case, less one dot at the end, cut
    to `MAX_DOMAIN`. An address in its log form gives the same key as the address itself. Where nothing remains, and for
    a name that begins with `(`, it is `NO_DOMAIN`: so nobody's mail can pose as a name that the exporter gives,
    such as `(other)`.
    """
    _, at, name = address.rpartition(b"@")
    return _key(name.translate(_NAME).decode("ascii")) if at else NO_DOMAIN


def _key(name: str) -> str:
    """Finish the key of a name that `_NAME` or `_DOMAIN` has translated."""
    name = name.removesuffix(".")
    return NO_DOMAIN if not name or name[0] == "(" else name[:MAX_DOMAIN]


def _records(content: bytes, what: str) -> list[bytes]:
    """Split the content at its NULs."""
    *records, rest = content.split(b"\0")
    if rest:
        raise FormatError(f"{what}: the last record has no end")
    return records


def _number(records: list[bytes], kind: bytes) -> int:
    """Return the number in the first record of that kind."""
    digits = next((record[1:] for record in records if record[:1] == kind), b"")
    if not digits.isdigit() or len(digits) > 20:
        raise FormatError(f"todo: no number in record {kind.decode('ascii')}")
    return int(digits)


def _check_channel(content: bytes) -> tuple[int, int]:
    """Return how many `T` and `D` records there are, or raise FormatError if there is anything else.

    Every record ends in a NUL and no address holds one, so a record starts at the beginning and after each NUL.
    """
    if content and content[-1]:
        raise FormatError("channel: the last record has no end")
    pending = content.count(b"\0T") + content.startswith(b"T")
    done = content.count(b"\0D") + content.startswith(b"D")
    if pending + done != content.count(b"\0"):
        raise FormatError("channel: a record is neither to do nor done")
    return pending, done


_SAFE = bytes(
    ord("/") if byte == 10 else byte if 33 <= byte <= 126 and byte != ord("%") else ord("_")
    for byte in range(256)
)
# The same for a whole file at once: its NULs stay. The second table also makes lower case of what is to become a key,
# and with it of the letters that begin a record.
_SAFE_RECORDS = b"\0" + _SAFE[1:]
_DOMAIN = _SAFE_RECORDS.lower()
_NAME = _SAFE.lower()

# Both are linear: a record is entered at its NUL only, and given back at most once to find its last "@".
_PENDING_ADDRESSES = re.compile(rb"\0T([^\0]*)")
_PENDING_DOMAINS = re.compile(r"\0t[^\0]*@([^\0@]*)")
