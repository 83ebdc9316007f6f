"""A log that is one plain file, rotated by logrotate or its like."""

import os
import re
from typing import TYPE_CHECKING

from qmail_exporter.sources.logs.archive import Archive

if TYPE_CHECKING:
    from collections import Counter

    from qmail_exporter.sources.logs.tail import Tail

# "maillog.1", "maillog-20261122", "maillog-20261122-1795344341", each perhaps compressed.
_ROTATED = re.compile(r"([-.]\d[-\d.]*?)(\.(?:gz|xz|bz2|zst|lz4|Z))?")


class File:
    """What there is to read of a plain file and its rotated siblings, and in which order.

    Args:
        path: The file; a symbolic link's siblings are looked for beside its target.
        losses: Counts `unreadable`: the siblings cannot be listed.
    """

    def __init__(self, path: str, losses: "Counter[str]") -> None:
        self.live = path
        self._losses = losses
        self._known: set[str] = set()

    def archives(self) -> list[Archive]:
        """Return the rotated siblings, oldest first."""
        # Ordered by modification time: renaming and gzip keep it, and numbers and dates need no interpretation.
        directory, name = os.path.split(os.path.realpath(self.live))
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError:
            self._losses["unreadable"] += 1
            return []
        found: dict[str, Archive] = {}
        # Longest first, so that "maillog.1" replaces the "maillog.1.gz" that gzip has not finished.
        for sibling in sorted(names, key=len, reverse=True):
            match = _ROTATED.fullmatch(sibling, len(name)) if sibling.startswith(name) else None
            if match:
                path = os.path.join(directory, sibling)
                try:
                    status = os.stat(path)
                except FileNotFoundError:
                    continue
                found[match[1]] = Archive(_key(status), path, status.st_ino, status.st_size)
        return sorted(found.values(), key=lambda archive: archive.key)

    def again(self, archive: Archive) -> Archive | None:
        """Return how a file listed before is listed now, or None if it is not."""
        listed = self.archives()
        same = [other for other in listed if other.key == archive.key]
        return next(iter(same or [other for other in listed if other.inode == archive.inode]), None)

    def unseen(self, held: "Tail | None", archives: list[Archive]) -> list[Archive]:
        """Return those of `archives` that came after the file `held`."""
        # What was there before is known by its time, which no change of name and no compression changes: if the clock
        # was set back, it would seem to have come after our file.
        new = [archive for archive in archives if archive.key not in self._known]
        if held is None:
            return new
        # Rotated more than once since: our old file is among the siblings, and the newer ones were never seen. If it
        # was deleted or compressed, the newer ones are those written to after its last write.
        inodes = [archive.inode for archive in new]
        if held.identity[1] in inodes:
            return new[inodes.index(held.identity[1]) + 1 :]
        return [archive for archive in new if archive.key > _key(held.stat())]

    def adopt(self, archives: list[Archive]) -> None:
        """From now on the file itself is read; what `archives` lists is accounted for."""
        self._known = {archive.key for archive in archives}

    def left(self, _old: os.stat_result, new: os.stat_result) -> bool:
        """Whether the writer is done with the old file, given its status and that of the new one."""
        # logrotate makes the new file before it tells the writer, which goes on with the old one meanwhile, under its
        # new name. The first byte in the new file shows that it has changed over.
        return new.st_size > 0

    def continues(self, _mode: int) -> bool:
        """Whether a line unfinished at the end of a file goes on in the next one: no."""
        return False


def _key(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:020d}"
