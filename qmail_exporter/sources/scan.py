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
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations, islice
from typing import Any, NamedTuple

from qmail_exporter.formats.envelope import (
    ChannelFile,
    Glance,
    Message,
    Sender,
    State,
    message_id,
    sender_kind,
    state_of,
)
from qmail_exporter.sources.glance import FAR, glances
from qmail_exporter.sources.layout import DIRECTORY, Absent, Layout, Place

__all__ = ["Absent", "Found", "Scanned", "Tree", "messages"]

_STEP = 256  # messages: about 4 ms
_STEP_CONTENT = 1 << 18  # bytes of channels' files
_LISTED = 4096  # names: about 2 ms
_YOUNG = 2  # seconds, for a file system whose clock is coarse
_TODO_HEAD = 4096
# Digits can be taken in one way only: where there are several, an expression tries all of them before it gives up.
_NUMBERS = re.compile("[1-9][0-9]{0,17}(?: [1-9][0-9]{0,17})*", re.ASCII)
# As many bytes of the sender as tell its kind: a bounce's has fewer than five.
_TODO_SENDER = re.compile(rb"(?:[a-z][^\0]*\0){0,8}F([^\0]{0,4}\0|[^\0]{5})")
_SENDERS: dict[int | None, Sender | None] = {None: None, **{sender.value: sender for sender in Sender}}
_tuple: Any = tuple.__new__  # past the constructors of named tuples, which take twice as long


class Found(NamedTuple):
    """One step of a walk: messages that a glance at their file in a channel saw, those looked at, and the progress, 0 to 1."""

    channel: str
    glances: list[Glance]
    looked: list[tuple[int, State]]
    progress: float


class Scanned(NamedTuple):
    """One step of a scan: what was found, and how much of the whole is done, from 0 to 1."""

    found: list[tuple[int, Message]]
    progress: float


_NOTHING = Found("", [], [], 0.0)


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
        for step in self.walk(range(self.split), known):
            glances = [(one[0], state_of(one, step.channel)) for one in step.glances]
            yield Scanned(messages(glances + step.looked), step.progress)

    def walk(
        self,
        numbers: Sequence[int],
        known: Callable[[int], bool] | None = None,
        admit: Callable[[int], object] | None = None,
    ) -> Iterator[Found]:
        """Scan some of the numbered directories as `scan` does, giving plain tuples, which `marshal` takes.

        Args:
            numbers: those of the directories.
            known: whether a message, by its number, is to be left out.
            admit: called before the directories of a number are listed.
        """
        since = int(time.time()) - _YOUNG
        odd = yield from self._every_name("todo")
        odd |= yield from self._every_name("bounce")
        for before, number in enumerate(numbers):
            if admit is not None:
                admit(number)
            for found in self._in_directory(number, known, odd, since):
                yield found._replace(progress=(before + found.progress) / len(numbers))

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

    def _in_directory(
        self, number: int, known: Callable[[int], bool] | None, odd: set[str], since: int
    ) -> Iterator[Found]:
        """Look at the messages of one numbered directory, in steps: a glance where that is enough, but never at `odd` ones."""
        with ExitStack() as stack:
            mess, info, *channels = (
                stack.enter_context(self._open(area, f"{area}/{number}"))
                for area in ("mess", "info", *self.channels)
            )
            names = yield from self._names(mess)
            count, done, rest = max(len(names), 1), 0, names
            if mess and info:
                plain, rest = yield from self._sorted_out(channels, names, odd)
                for place, of_channel in plain:
                    for begin in range(0, len(of_channel), _STEP):
                        wanted = self._wanted(of_channel[begin : begin + _STEP], number, known)
                        seen, left = glances(wanted, mess, info, place, since)
                        rest += map(str, left)
                        done += _STEP
                        yield Found(place.area, seen, [], min(done / count, 1.0))
        for begin in range(0, len(rest), _STEP):
            done += _STEP
            wanted = self._wanted(rest[begin : begin + _STEP], number, known)
            for looked in self._looks(wanted):
                yield Found("", [], looked, min(done / count, 1.0))
        yield Found("", [], [], 1.0)

    def _sorted_out(
        self, channels: list[Place | None], names: list[str], odd: set[str]
    ) -> Generator[Found, None, tuple[list[tuple[Place, list[str]]], list[str]]]:
        """Tell messages that have a file in just one channel, by channel, from all others; `odd` are among the others."""
        places = [place for place in channels if place is not None]
        listed = []
        for place in places:
            listed.append((yield from self._names(place)))
            yield _NOTHING
        present, met = set(names), set(odd)
        for one, other in combinations(listed, 2):
            met.update(set(one).intersection(other))
        plain = [
            (place, [name for name in of_channel if name in present and name not in met])
            for place, of_channel in zip(places, listed, strict=True)
        ]
        present.difference_update(*[of_channel for _, of_channel in plain])
        return plain, list(present)

    def _wanted(self, names: list[str], number: int, known: Callable[[int], bool] | None) -> dict[int, bytes]:
        """Return the message numbers that names are, each with its name; what does not belong there, or is known, is left out."""
        ids = _numbers(names)
        if {msg % self.split for msg in ids} != {number} or known is not None:
            ids = {
                msg: name
                for msg, name in ids.items()
                if msg % self.split == number and (known is None or not known(msg))
            }
        return ids

    def _looks(self, ids: Iterable[int]) -> Iterator[list[tuple[int, State]]]:
        """Look at messages, in steps that do not hold too much."""
        looked, content = [], 0
        for msg in ids:
            if state := self._look(msg):
                looked.append((msg, state))
                content += sum([len(file[1]) for file in state[6]])
            if content > _STEP_CONTENT:
                yield looked
                looked, content = [], 0
        yield looked

    def _every_name(self, area: str) -> Generator[Found, None, set[str]]:
        """List all directories of an area, in steps."""
        every: set[str] = set()
        for directory in self.directories(area):
            with self._open(area, directory) as place:
                names = yield from self._names(place)
            every.update(names)
        return every

    def _names(self, place: Place | None) -> Generator[Found, None, list[str]]:
        """List what is in a directory, in steps; what is no regular file a look, or a glance, will find out."""
        names: list[str] = []
        if place is None:
            return names
        try:
            with os.scandir(place.fd) as entries:
                while chunk := list(islice(entries, _LISTED)):
                    names += [entry.name for entry in chunk]
                    if len(chunk) == _LISTED:
                        yield _NOTHING
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


def _numbers(names: list[str]) -> dict[int, bytes]:
    """Return the message numbers that names are, each with its name; what is no number is left out."""
    raw = [name.encode("utf-8", "surrogateescape") for name in names]
    text = " ".join(names)
    if _NUMBERS.fullmatch(text) and text.count(" ") == len(names) - 1:
        return dict(zip(map(int, names), raw, strict=True))
    return {msg: name for name in raw if (msg := message_id(name)) is not None}


def _arrival(mess: Any) -> int:
    arrival: int = mess.st_mtime_ns
    return max(-FAR * 10**9, min(arrival, FAR * 10**9))


def _near(moment: int) -> int:
    return max(-FAR, min(moment, FAR))
