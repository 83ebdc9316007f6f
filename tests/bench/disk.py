"""Where queues can be made on a disk."""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import psutil

from bench import fill

NONE = "none"
"""What is given for a directory to leave the disk out."""
KINDS = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "reiserfs", "xfs", "zfs"})
"""File systems of which nobody needs to say that they are on a disk."""


class Disk(NamedTuple):
    """A directory on a disk, None if there is none, and words on it for the document."""

    directory: Path | None
    words: str


def choose(asked: str | None, messages: int) -> Disk:
    """Return the directory that was asked for, or else the one for temporary files if it is on a disk.

    Raises:
        ValueError: what was asked for is no directory, or has not the space or the inodes for so many messages.
    """
    if asked == NONE:
        return Disk(None, "no queue on a disk, as was asked for")
    place = Path(asked or tempfile.gettempdir())
    if not place.is_dir():
        raise ValueError(f"{place} is no directory; see --disk")
    kind = file_system(place)
    if asked is None and kind not in KINDS:
        return Disk(
            None, f"no queue on a disk: {place} is on {kind}, and no other directory was named by --disk"
        )
    lack = lacking(place, messages)
    if not lack:
        return Disk(place, f"disk: {kind}, {place}")
    if asked is not None:
        raise ValueError(f"{lack}; see --disk and --messages")
    return Disk(None, f"no queue on a disk: {lack}")


def file_system(place: Path) -> str:
    """Return the type of the file system that a directory is on."""
    path = place.resolve()
    # Of two that are mounted at the same place, the later one hides the other.
    mounted = reversed(psutil.disk_partitions(all=True))
    holding = [each for each in mounted if path.is_relative_to(each.mountpoint)]
    return max(holding, key=lambda each: len(each.mountpoint)).fstype


def lacking(place: Path, messages: int) -> str | None:
    """Tell what a directory has too little of for so many messages, if anything."""
    space, files = messages * fill.BYTES_A_MESSAGE + (1 << 30), 3 * messages + 1000
    there = os.statvfs(place)
    # Where the kernel tells of no inodes at all, there are as many as there is space for.
    if there.f_bavail * there.f_frsize < space or (there.f_files > 0 and there.f_favail < files):
        return f"{space >> 20:,} MiB and {files:,} inodes are needed in {place}"
    return None
