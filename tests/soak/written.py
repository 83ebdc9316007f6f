"""qmail-send's log as it is written, and a copy for each exporter of what of it that exporter could read."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from qmail_exporter.demo.multilog import Multilog, Style, stamped
from qmail_exporter.formats.prefix import Prefixes


class Told:
    """A file of the lines that an exporter has been told: those retained when it began, and all since that were not lost.

    Attributes:
        path: the file, with the lines as they stand in the log.
        since: from then on it lacks nothing, Unix seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.since = 0.0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._marks: list[tuple[float, int]] = []

    def write(self, entry: bytes) -> None:
        """Add a line, with its newline."""
        os.write(self._file, entry)

    def mark(self) -> int:
        """Return where its end is now."""
        return os.fstat(self._file).st_size

    def lose(self, mark: int, now: float) -> None:
        """Take out what has come since `mark`: it cannot be read any more."""
        os.ftruncate(self._file, mark)
        self.since = now

    def begin(self, files: list[Path], since: float) -> None:
        """Begin anew, with what these files hold."""
        os.ftruncate(self._file, 0)
        for file in files:
            os.write(self._file, file.read_bytes())
        self.since = since
        self._marks.clear()

    def trim(self, now: float, oldest: float) -> None:
        """Forget what was told before `oldest`, as far as it is known where that ends."""
        usable = [mark for mark in self._marks if mark[0] < oldest]
        self._marks.append((now, self.mark()))
        if not usable:
            return
        since, offset = usable[-1]
        rest = self.path.read_bytes()[offset:]
        os.ftruncate(self._file, 0)
        os.write(self._file, rest)
        self.since = max(self.since, since)
        self._marks = [(when, at - offset) for when, at in self._marks if at >= offset]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class Maillog:
    """A plain file as syslog writes it and logrotate rotates it, by renaming or by copying.

    Args:
        path: the file.
        clock: the present time, Unix seconds.
        size: bytes from which on it is rotated, by renaming.
        count: rotated files that are kept.

    Attributes:
        rotations: how often a new file was begun.
    """

    def __init__(self, path: Path, clock: Callable[[], float], *, size: int, count: int) -> None:
        self.path = path
        self.rotations = 0
        self._clock = clock
        self._size = size
        self._count = count
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()

    def __call__(self, line: bytes) -> None:
        """Write a line, given without its newline."""
        for entry in stamped("iso", self._clock(), line):
            os.write(self._file, entry)
        if os.fstat(self._file).st_size >= self._size:
            self.rotate()

    def rotate(self) -> None:
        """Rename it and begin a new one."""
        self.rename()
        self.reopen()

    def rename(self) -> None:
        """Rename it and make a new one; its writer goes on with the old one until `reopen`."""
        self._make_room()
        self.rotations += 1
        os.rename(self.path, f"{self.path}.1")
        os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))

    def reopen(self) -> None:
        """Go on with the file that has the name now."""
        os.close(self._file)
        self._file = self._open()

    def truncate(self) -> None:
        """Copy it and truncate it, as logrotate's copytruncate does."""
        self._make_room()
        shutil.copy2(self.path, f"{self.path}.1")
        os.truncate(self.path, 0)

    def close(self) -> None:
        """End."""
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _make_room(self) -> None:
        for number in range(self._count, 0, -1):
            if os.path.exists(f"{self.path}.{number}"):
                os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        Path(f"{self.path}.{self._count + 1}").unlink(missing_ok=True)


class Log:
    """The log: what is written goes to its files, and to all that are told.

    Args:
        place: a directory for it.
        clock: the present time, Unix seconds.
        plain: one file that logrotate rotates, and not a multilog directory.
        size: bytes of one of its files.
        count: files that are kept.

    Attributes:
        path: what an exporter follows.
        began: when that was, Unix seconds.
        lines: how many were written.
        owing: the last delivery's line is not yet followed by its status line.
        told: who gets what is written.
    """

    def __init__(
        self, place: Path, clock: Callable[[], float], *, plain: bool, size: int, count: int
    ) -> None:
        self.path = place / ("maillog" if plain else "log")
        self.lines = 0
        self.owing = False
        self.told: list[Told] = []
        self.writer: Maillog | Multilog
        if plain:
            self.writer = Maillog(self.path, clock, size=size, count=count)
        else:
            self.writer = Multilog(self.path, clock, size=size, count=count)
        self._style: Style = "iso" if plain else "multilog"
        self._clock = clock
        self.began = clock()
        self._count = count

    def __call__(self, line: bytes) -> None:
        """Write a line, given without its newline."""
        self.lines += 1
        if line.startswith(b"status:"):
            self.owing = False
        elif line.startswith((b"starting delivery ", b"delivery ")):
            self.owing = True
        entry = b"".join(stamped(self._style, self._clock(), line))
        for told in self.told:
            told.write(entry)
        self.writer(line)

    def files(self) -> list[Path]:
        """Return the files that there are, oldest first."""
        if isinstance(self.writer, Multilog):
            return [*sorted(self.path.glob("@*")), self.path / "current"]
        rotated = [Path(f"{self.path}.{number}") for number in range(self._count + 1, 0, -1)]
        return [path for path in (*rotated, self.path) if path.exists()]

    def since(self) -> float:
        """Return from when on the files hold every line, Unix seconds."""
        files = self.files()
        with files[0].open("rb") as oldest:
            first = list(Prefixes().strip(oldest.readlines(1), None, self.began))
        return first[0][1] if first and len(files) >= self._count else self.began

    def close(self) -> None:
        """End."""
        self.writer.close()
        for told in self.told:
            told.close()
