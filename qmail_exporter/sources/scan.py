"""The queue directory: a look at one message, or at all of them in steps.

A look reads the present state of one message whole; it needs no other state, so it may come late, twice or for nothing.
It stats `mess`, `info` and `bounce`, reads the channels' files and the head of `todo`, and opens nothing else: opening a
`mess` file to read it would change the access time by which qmail-send finds orphans.

What cannot be read makes its area broken, and a look goes on without it; whoever asks must then treat what depends on
that area as unknown.  What is no regular file is not there.

A bounce is told by the size of its `info`.  Where indimail keeps header fields behind the sender, it counts as mail.
"""

import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from qmail_exporter.formats.envelope import ChannelFile, Message, Sender, State, message_id, sender_kind
from qmail_exporter.sources.layout import DIRECTORY, FILE, Absent, Layout, Place

__all__ = ["Absent", "Found", "Scanned", "Tree", "messages"]

_STEP = 256  # messages: about 4 ms
_STEP_CONTENT = 1 << 18  # bytes of channels' files
_LISTED = 4096  # names: about 2 ms
_FAR = (1 << 62) // 10**9  # seconds; a hostile time must fit where times are kept, in nanoseconds
_YOUNG = 2  # seconds, for a file system whose clock is coarse
_TODO_HEAD = 4096
_SMALL = 4096  # bytes of a channel's file: that of a list is longer
_NUMBERS = re.compile("(?:[1-9][0-9]{0,17} ?)+", re.ASCII)
_KIND, _REGULAR = 0o170000, 0o100000  # S_IFMT and S_IFREG
# As many bytes of the sender as tell its kind: a bounce's has fewer than five.
_TODO_SENDER = re.compile(rb"(?:[a-z][^\0]*\0){0,8}F([^\0]{0,4}\0|[^\0]{5})")
_SENDERS: dict[int | None, Sender | None] = {None: None, **{sender.value: sender for sender in Sender}}
_tuple: Any = tuple.__new__  # past the constructors of named tuples, which take twice as long

Found: TypeAlias = tuple[list[tuple[int, State]], float]
"""A `Scanned` with such tuples."""


class Scanned(NamedTuple):
    """One step of a scan: what was found, and how much of the whole is done, from 0 to 1."""

    found: list[tuple[int, Message]]
    progress: float


class _Listed(NamedTuple):
    """What listing directories told before their messages are looked at."""

    todo: set[str]
    failed: set[bytes]
    since: int  # before todo was listed, Unix seconds


def message(state: State) -> Message:
    """Return the message that is in this state."""
    arrival_ns, size, todo, sender, birth, changed, files, failed = state
    channels = tuple([_tuple(ChannelFile, file) for file in files])
    made: Message = _tuple(
        Message, (arrival_ns, size, todo, _SENDERS[sender], birth, changed, channels, failed)
    )
    return made


def messages(found: list[tuple[int, State]]) -> list[tuple[int, Message]]:
    """Return the messages that are in these states."""
    return [(msg, message(state)) for msg, state in found]


class Tree(Layout):
    """An open queue directory, and the messages in it."""

    def look(self, msg: int) -> Message | None:
        """The present state of message `msg`; None where there is no such message."""
        state = self._look(msg)
        return None if state is None else message(state)

    def scan(self, known: Callable[[int], bool]) -> Iterator[Scanned]:
        """Look at every message that is not `known` by its number, in steps of a few milliseconds.

        A message that comes after its directory was listed is not found, and one that gets a `bounce` file after those
        were listed is not found failed: both come through their events.
        """
        for found, progress in self.states(known):
            yield Scanned(messages(found), progress)

    def states(self, known: Callable[[int], bool], numbers: Sequence[int] | None = None) -> Iterator[Found]:
        """Scan as `scan` does, giving plain tuples, which `marshal` takes; or only those of the split's `numbers`."""
        since = int(time.time()) - _YOUNG
        todo = yield from self._every_name("todo")
        failed = yield from self._every_name("bounce")
        listed = _Listed(todo, {name.encode("utf-8", "surrogateescape") for name in failed}, since)
        numbers = range(self.split) if numbers is None else numbers
        for before, number in enumerate(numbers):
            for found, done in self._in_directory(number, known, listed):
                yield found, (before + done) / len(numbers)

    # --- one message

    def _look(self, msg: int) -> State | None:
        name = f"{msg % self.split}/{msg}"
        mess = self._stat(self._at("mess"), f"mess/{name}")
        if mess is None:
            return None
        failed = self._stat(self._at("bounce"), f"bounce/{msg}") is not None
        todo = f"todo/{name if self.big_todo else msg}"
        if self._stat(self._at("todo"), todo):
            return self._unprocessed(mess, todo, failed=failed)
        sender, birth, changed = self._info(f"info/{name}")
        if birth is None and "info" not in self.broken:
            return _arrival(mess), mess[6], False, None, None, 0, (), failed
        # An info that came after the look at todo is still being written.  With an info and no todo all is whole.
        if self._stat(self._at("todo"), todo):
            return self._unprocessed(mess, todo, failed=failed)
        read = [self._read(self._at(channel), f"{channel}/{name}") for channel in self.channels]
        files = tuple((channel, content, _near(mtime)) for channel, content, mtime in filter(None, read))
        return _arrival(mess), mess[6], False, sender, birth, changed, files, failed

    def _at(self, area: str) -> Place:
        return Place(area, self._root, "")

    def _unprocessed(self, mess: Any, todo: str, *, failed: bool) -> State:
        head = self._read(self._at("todo"), todo, _TODO_HEAD)
        sender = _TODO_SENDER.match(head[1]) if head else None
        kind = sender_kind(sender[1].removesuffix(b"\0")).value if sender else None
        return _arrival(mess), mess[6], True, kind, None, 0, (), failed

    def _info(self, name: str) -> tuple[int | None, int | None, int]:
        """What an `info` file tells: kind of sender, birth, last change."""
        where = self._at("info")
        info = self._stat(where, name)
        if info is None:
            return None, None, 0
        sender = Sender.MAIL
        if info[6] == 2:  # F and NUL
            sender = Sender.BOUNCE
        elif info[6] == 6 and (head := self._read(where, name, 6)):  # as long as F#@[] and NUL
            sender = sender_kind(head[1][1:-1])
        return sender.value, _near(info[8]), _near(info[9])

    # --- every message

    def _in_directory(self, number: int, known: Callable[[int], bool], listed: _Listed) -> Iterator[Found]:
        """Look at the messages of one numbered directory: a glance where that is enough, in steps."""
        with ExitStack() as stack:
            mess, info, *channels = (
                stack.enter_context(self._open(area, f"{area}/{number}"))
                for area in ("mess", "info", *self.channels)
            )
            holders: dict[str, Place | None] = {}
            for channel in filter(None, channels):
                names = yield from self._names(channel)
                several = holders.keys() & names
                holders.update(dict.fromkeys(names, channel))
                holders.update(dict.fromkeys(several))
                yield [], 0.0
            holders.update(dict.fromkeys(listed.todo & holders.keys()))
            names = yield from self._names(mess)
            for begin in range(0, len(names), _STEP):
                part = _numbered(names[begin : begin + _STEP])
                wanted = [pair for pair in part if pair[0] % self.split == number and not known(pair[0])]
                found, rest = _glances(wanted, mess, info, holders, listed)
                content = 0
                for msg in rest:
                    if state := self._look(msg):
                        found.append((msg, state))
                        content += sum([len(file[1]) for file in state[6]])
                    if content > _STEP_CONTENT:
                        yield found, begin / len(names)
                        found, content = [], 0
                yield found, min((begin + _STEP) / len(names), 1.0)
            if not names:
                yield [], 1.0

    def _every_name(self, area: str) -> Generator[Found, None, set[str]]:
        """List all directories of an area, in steps."""
        every: set[str] = set()
        for directory in self.directories(area):
            with self._open(area, directory) as place:
                names = yield from self._names(place)
            every.update(names)
        return every

    def _names(self, place: Place | None) -> Generator[Found, None, list[str]]:
        """List the files of a directory, in steps."""
        names: list[str] = []
        if place is None:
            return names
        try:
            with os.scandir(place.fd) as entries:
                while chunk := list(islice(entries, _LISTED)):
                    names += [entry.name for entry in chunk if entry.is_file(follow_symlinks=False)]
                    if len(chunk) == _LISTED:
                        yield [], 0.0
        except OSError as error:
            self._break(place.area, place.below, error)
        return names

    @contextmanager
    def _open(self, area: str, directory: str) -> Iterator[Place | None]:
        """Open a directory; None where that cannot be done."""
        try:
            fd = os.open(directory, DIRECTORY, dir_fd=self._root)
        except OSError as error:
            self._break(area, directory, error)
            yield None
            return
        try:
            yield Place(area, fd, f"{directory}/")
        finally:
            os.close(fd)


def _numbered(names: list[str]) -> list[tuple[int, str]]:
    """Return the message numbers that names are, and the names; what is no number is left out."""
    if _NUMBERS.fullmatch(" ".join(names)):
        return list(zip(map(int, names), names, strict=True))
    ids = [message_id(name.encode()) if name.isascii() else None for name in names]
    return [(msg, name) for msg, name in zip(ids, names, strict=True) if msg is not None]


def _glances(
    wanted: list[tuple[int, str]],
    mess: Place | None,
    info: Place | None,
    holders: dict[str, Place | None],
    listed: _Listed,
) -> tuple[list[tuple[int, State]], list[int]]:
    """Look at messages in the way that is enough for most; this is where a scan spends its time.

    Enough it is for a message that was preprocessed a while ago, has a small file in one channel, which `holders` tells,
    and is no double bounce.  Returns the states of these, and the numbers of all others, or of those of which something
    failed: they take a look.
    """
    found: list[tuple[int, State]] = []
    plain, rest = [], []
    for msg, name in wanted:
        if channel := holders.get(name):
            plain.append((msg, name.encode(), channel))
        else:
            rest.append(msg)
    if mess is None or info is None:
        return found, [msg for msg, _ in wanted]
    # One kind of call after the other takes less time than to take turns.
    try:
        of_mess = [os.stat(name, dir_fd=mess.fd, follow_symlinks=False) for _, name, _ in plain]
        of_info = [os.stat(name, dir_fd=info.fd, follow_symlinks=False) for _, name, _ in plain]
    except OSError:
        return found, [msg for msg, _ in wanted]
    for (msg, raw, holder), m, i in zip(plain, of_mess, of_info, strict=True):
        state = _glance(raw, holder, m, i, listed)
        if state is None:
            rest.append(msg)
        else:
            found.append((msg, state))
    return found, rest


def _glance(name: bytes, channel: Place, mess: Any, info: Any, listed: _Listed) -> State | None:
    """Return the state of a message, of whose `mess` and `info` file `os.stat` tells this; None where it takes a look."""
    arrival, birth = mess[8], info[8]
    # A message younger than the list of todo may be missing there, and its info and channel's file be incomplete.
    if info[6] == 6 or not 0 <= arrival < listed.since or not 0 <= birth < _FAR:
        return None
    try:
        fd = os.open(name, FILE, dir_fd=channel.fd)
    except OSError:
        return None
    try:
        file: Any = os.fstat(fd)
        content = os.read(fd, _SMALL)
    except OSError:
        return None
    finally:
        os.close(fd)
    mtime = file[8]
    if (
        (file[0] | info[0] | mess[0]) & _KIND != _REGULAR  # no other kind has just that bit
        or len(content) == _SMALL
        or not 0 <= mtime < _FAR
    ):
        return None
    sender = 1 if info[6] == 2 else 0
    files = ((channel.area, content, mtime),)
    return mess.st_mtime_ns, mess[6], False, sender, birth, info[9], files, name in listed.failed


def _arrival(mess: Any) -> int:
    arrival: int = mess.st_mtime_ns
    return max(-_FAR * 10**9, min(arrival, _FAR * 10**9))


def _near(moment: int) -> int:
    return max(-_FAR, min(moment, _FAR))
