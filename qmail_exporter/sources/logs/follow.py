"""Following log files on disk through every kind of rotation."""

import os
import stat
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from qmail_exporter.sources.bell import Belfry, Bell
from qmail_exporter.sources.logs.archive import Archive, ArchiveReader, CompressedError, open_same
from qmail_exporter.sources.logs.directory import Directory
from qmail_exporter.sources.logs.file import File
from qmail_exporter.sources.logs.lines import Batch, Lines
from qmail_exporter.sources.logs.tail import Tail, identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BLOCK = 128 * 1024  # of a backfill, a batch: a scrape waits for what is made of one
_TRIES = 3
_PATIENCE = 30


class _Look(NamedTuple):
    """What one look found: the kind of log, the file written to, the finished files; all of one moment."""

    layout: Directory | File
    live: Tail | None
    archives: list[Archive]


class LogFiles:
    """A `Follower` of a multilog or svlogd directory or of a plain file: whichever is at `path` at the moment.

    What is there is one stream: the finished files in order, then the file written to. That file is held open, so
    its end is read whatever becomes of its name; when the path shows another file, the files that were finished
    between the two are read, then the new one from its first byte. Every line is given out once, in order.
    What is missing when the backfill begins and appears later is new from its first byte.

    Kinds of `losses`: `rotated_away` (a file was deleted before it was read), `gap` (so many rotations between two
    reads that files may have been), `truncated` (what was written between the last read and the truncation is lost),
    `long_line`, `cut_line` (the end of a line is missing), `compressed` (a file that is not gzip, or broken),
    `unreadable` (a finished file, or the list of them).

    Args:
        path: The directory or file. It need not exist.
        backfill_bytes: How much a backfill reads at most; the oldest files are left out.
    """

    def __init__(self, path: str, *, backfill_bytes: int = 1 << 30) -> None:
        self.path = path
        self.losses: Counter[str] = Counter()
        self.present = False
        self.behind = False
        self._backfill_bytes = backfill_bytes
        self._lines = Lines(self.losses)
        self._belfry = Belfry()
        self._layout: Directory | File = File(path, self.losses)
        self._live: Tail | None = None
        self._between: deque[Archive] = deque()
        self._reader: ArchiveReader | None = None
        self._begun = False
        self._backfilling = False
        self._superseded = False

    def backfill(self) -> "Iterator[Batch]":
        """Return what the log holds at this moment, oldest first, in batches of about 128 KiB.

        Until the iterator is exhausted or closed, `read` gives nothing; then it goes on where the iterator stopped.
        Once a backfill or a read has begun, there is nothing left to fill back.

        Raises:
            OSError: The log is there and cannot be read. Another call may then succeed.
        """
        if self._begun:
            return iter(())
        found = next(filter(None, (self._look() for _ in range(_PATIENCE))), None)
        if found is None:
            return iter(())
        self._begin(found)
        self._between.extend(self._affordable(found))
        return self._fill(found.live.waiting() if found.live else 0)

    def read(self, limit: int = 1 << 20) -> Batch:
        """Return the lines that came since, from about `limit` bytes at most; `behind` says whether more may wait.

        Without a backfill before it, the first call returns nothing and the log is followed from its present end.

        Raises:
            OSError: The log is there and cannot be read; the path is in it. What was read before is not lost.
        """
        if self._backfilling:
            return Batch([])
        if not self._begun:
            self._begin_at_end()
            return Batch([])
        lines: list[bytes] = []
        left = limit
        try:
            while left > 0 and (data := self._next(min(left, _BLOCK))):
                left -= len(data)
                lines += self._lines.feed(data)
        except OSError:
            if not lines:  # else it is raised by the next call, which meets it again
                raise
        self.behind = left <= 0
        return Batch(lines)

    def listen(self) -> Bell | None:
        """Return what rings when something happens to the directory or file; None unless it is there, and is what is read."""
        bell = self._belfry.hang(self.path)
        if bell and (self._live is None or identity(self._layout.live) != self._live.identity):
            bell.close()
            return None
        return bell

    def lag_bytes(self) -> int:
        """Return how many bytes are known to wait, compressed ones as they are on disk."""
        waiting = self._live.waiting() if self._live else 0
        return waiting + sum(archive.size for archive in self._between)

    def close(self) -> None:
        """Let all files go. The object is of no use afterwards."""
        self._belfry.close()
        _close([self._reader, self._live, *self._between])
        self._reader = self._live = None
        self._between.clear()

    def _look(self) -> _Look | None:
        # The file written to is opened, the finished ones are listed, and if the first is still what the path shows,
        # no rotation came between and the two belong together. A look that does not succeed is left to the next poll.
        for _ in range(_TRIES):
            layout = self._layout_now()
            live = _open_if_there(layout.live)
            archives: list[Archive] | None = None
            try:
                archives = layout.archives()
                if archives is not None and identity(layout.live) == (live.identity if live else None):
                    return _Look(layout, live, archives)
            except OSError:
                _close([live, *(archives or [])])
                raise
            _close([live, *(archives or [])])
        return None

    def _layout_now(self) -> Directory | File:
        kind = Directory if os.path.isdir(self.path) else File
        return self._layout if isinstance(self._layout, kind) else kind(self.path, self.losses)

    def _begin(self, found: _Look) -> None:
        self._layout, self._live = found.layout, found.live
        self._layout.adopt(found.archives)
        self._belfry.build()
        self.present = found.live is not None
        self._begun = True

    def _begin_at_end(self) -> None:
        found = self._look()
        if found is None:
            return
        _close(found.archives)
        self._begin(found)
        if self._live and self._live.to_end():
            self._lines.skip()

    def _affordable(self, found: _Look) -> list[Archive]:
        # What a compressed file expands to is not known before it is read: ten times its size is usual for a log.
        budget = self._backfill_bytes - (found.live.waiting() if found.live else 0)
        for place in range(len(found.archives), 0, -1):
            archive = found.archives[place - 1]
            budget -= archive.size * (10 if archive.path.endswith(".gz") else 1)
            if budget < 0:
                _close(found.archives[:place])
                return found.archives[place:]
        return found.archives

    def _fill(self, end: int) -> "Iterator[Batch]":
        self._backfilling = True
        try:
            while data := self._finished_bytes(_BLOCK):
                yield Batch(self._lines.feed(data))
            while self._live and self._live.offset < end:
                block = self._live.read(min(_BLOCK, end - self._live.offset))
                if block is None:
                    self._was_truncated()  # and what it holds now is new
                if not block:
                    break
                yield Batch(self._lines.feed(block))
        finally:
            self._backfilling = False

    def _next(self, size: int) -> bytes:
        """Return the next bytes of the stream, b"" if there are none for now."""
        while True:
            data = self._finished_bytes(size)
            if not data and self._live:
                data = self._live_bytes(self._live, size)
            if data or not self._moved_on():
                return data

    def _finished_bytes(self, size: int) -> bytes:
        while self._reader or self._between:
            if self._reader is None:
                self._reader = self._open(self._between.popleft())
                continue
            try:
                data = self._reader.read(size)
            except (CompressedError, OSError) as error:
                self.losses["compressed" if isinstance(error, CompressedError) else "unreadable"] += 1
                data = b""
            if data:
                return data
            self._end_of_file(self._reader.mode)
            self._reader.close()
            self._reader = None
        return b""

    def _live_bytes(self, live: Tail, size: int) -> bytes:
        data = live.read(size)
        if data is None:
            self._was_truncated()
            data = live.read(size)
        return data or b""

    def _was_truncated(self) -> None:
        self.losses["truncated"] += 1
        self._lines.cut()

    def _moved_on(self) -> bool:
        """Whether there may be more to read because the path shows another file than the one read to its end."""
        layout = self._layout_now()
        try:
            found = os.stat(layout.live)
        except (FileNotFoundError, NotADirectoryError):
            # Between the rename and the new file, or deleted: what was open may still be written to.
            self.present = isinstance(layout, Directory) and self._live is not None
            return False
        self.present = True
        if self._live is None:
            return self._change_over()
        if (found.st_dev, found.st_ino) == self._live.identity:
            self._superseded = False
            return False
        if stat.S_ISREG(found.st_mode) and not layout.left(self._live.stat(), found):
            return False
        if self._superseded:
            return self._change_over()
        # The old file was read to its end, but perhaps before its last line was written. Now that the writer has left
        # it, one more read finds all of it.
        self._superseded = True
        return True

    def _change_over(self) -> bool:
        found = self._look()
        if found is None:
            return False
        if found.live is None:
            _close(found.archives)
            return False
        same_kind = found.layout is self._layout
        unseen = found.layout.unseen(self._live if same_kind else None, found.archives)
        kept = {id(archive) for archive in unseen}
        _close(archive for archive in found.archives if id(archive) not in kept)
        if self._live:
            self._end_of_file(self._live.stat().st_mode)
            self._live.close()
        self._between.extend(unseen)
        self._superseded = False
        self._begin(found)
        return True

    def _end_of_file(self, mode: int) -> None:
        if not self._layout.continues(mode):
            self._lines.cut()

    def _open(self, archive: Archive) -> ArchiveReader | None:
        # Between the listing and now the file may have been renamed, compressed, replaced by its processed form, or
        # deleted, and another may have its old name.
        try:
            if archive.descriptor is not None:  # multilog is about to mark it as finished, if it has not yet
                return ArchiveReader(archive.descriptor, mode=0o744)
            return open_same(archive.path, archive.inode) or self._open_renamed(archive)
        except CompressedError:
            self.losses["compressed"] += 1
        except OSError:
            self.losses["unreadable"] += 1
        return None

    def _open_renamed(self, archive: Archive) -> ArchiveReader | None:
        found = self._layout.again(archive)
        reader = open_same(found.path, found.inode) if found else None
        if reader is None:
            self.losses["rotated_away"] += 1
        return reader


def _open_if_there(path: str) -> Tail | None:
    try:
        return Tail(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _close(files: "Iterable[Archive | Tail | ArchiveReader | None]") -> None:
    for file in files:
        if file:
            file.close()
