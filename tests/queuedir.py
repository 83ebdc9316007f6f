"""A queue directory made by hand, file by file."""

import os
import shutil
import stat
from pathlib import Path


def copy_queue(queue: Path, target: Path) -> None:
    """Copy a queue directory, its FIFO and all times included: the same names, other inodes."""
    shutil.copytree(queue, target, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    if stat.S_ISFIFO(os.lstat(source).st_mode):
        os.mkfifo(target)
        shutil.copystat(source, target)
    else:
        shutil.copy2(source, target)


class QueueDir:
    """A queue directory that no qmail has touched.

    Args:
        root: where it is made.
        split: number of directories that messages are split by.
        channels: their names.
        big_todo: split `todo` as well.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: int = 23,
        channels: tuple[str, ...] = ("local", "remote"),
        big_todo: bool = False,
    ) -> None:
        self.root = root
        self.split = split
        self.channels = channels
        self.parted = {"mess", "info", *channels, *(("todo",) if big_todo else ())}
        for area in {"mess", "info", "todo", "intd", "bounce", "lock", "pid", *channels}:
            (root / area).mkdir(parents=True)
        for area in self.parted:
            for number in range(split):
                (root / area / str(number)).mkdir()

    @property
    def path(self) -> str:
        """The directory, as sources take it."""
        return str(self.root)

    def file(self, area: str, msg: int) -> Path:
        """Where an area's file of a message belongs."""
        return self.root / area / (str(msg % self.split) if area in self.parted else "") / str(msg)

    def put(self, area: str, msg: int, content: bytes = b"", mtime: float = 1e9) -> Path:
        """Write an area's file of a message."""
        path = self.file(area, msg)
        path.write_bytes(content)
        os.utime(path, (mtime, mtime))
        return path

    def message(
        self,
        msg: int,
        sender: bytes = b"a@mail.test",
        files: dict[str, bytes] | None = None,
        mtime: float = 1e9,
    ) -> int:
        """Write a preprocessed message, with the channels' files given: one remote recipient where none are."""
        self.put("mess", msg, b"Subject: t\n", mtime)
        self.put("info", msg, b"F" + sender + b"\0", mtime)
        for area, content in ({"remote": b"Tx@y.test\0"} if files is None else files).items():
            self.put(area, msg, content, mtime)
        return msg
