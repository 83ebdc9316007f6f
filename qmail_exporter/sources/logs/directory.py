"""The directory of multilog(8) or svlogd(8): `current`, and finished files named after the time they were finished.

Formats and order of events: multilog.c of daemontools 0.76, svlogd.c of runit 2.1, and their manual pages.
"""

import os
import re
from typing import TYPE_CHECKING

from qmail_exporter.sources.logs.archive import Archive, same_head
from qmail_exporter.sources.logs.tail import Tail, open_regular

if TYPE_CHECKING:
    from collections import Counter

# "@", a TAI64N label (which sorts as the time does), and ".s", or ".u" for a file that an outage cut short or whose
# processor has not ended. ".t" is a processor's output in the making. A cron job may have compressed the file.
_FINISHED = re.compile(r"(@[0-9a-f]{24})\.([su](?:\.\w+)?)")
_NEWEST = "@~"  # sorts after every label


class Directory:
    """What there is to read in a multilog or svlogd directory, and in which order.

    Args:
        path: The directory.
        losses: Counts `gap`: files may have been deleted unread.
    """

    def __init__(self, path: str, losses: "Counter[str]") -> None:
        self._path = path
        self._losses = losses
        self._seen = ""
        self._unlisted = 1
        self.live = os.path.join(path, "current")

    def archives(self, *, patient: bool = False) -> list[Archive] | None:
        """Return the finished files, oldest first, or None if one was changing its name just now.

        Args:
            patient: Also return None if a name is seen that may be left over from a crash as well.

        Raises:
            OSError: The directory cannot be listed; the path is in it.
        """
        # multilog renames `current` to `previous`, creates the new `current`, and links `previous` to its "@" name.
        # With a processor it first writes its output to `processed`, deletes `previous` and links `processed` instead.
        # So a `previous` without an "@" name is the newest finished file. It is opened before the names are listed;
        # if it lost its last name meanwhile, or there is a `processed` alone, another look shows what becomes of it.
        previous = _open_previous(os.path.join(self._path, "previous"))
        try:
            # A listing can miss a file that gets another name meanwhile, as svlogd's do when their processor has ended: under
            # the old it is gone, under the new it was not there yet. The next listing has it.
            names = os.listdir(self._path)
            steady = set(names) == set(os.listdir(self._path))
            found = self._finished(names)
        except OSError:
            if previous:
                previous.close()
            raise
        if not steady:
            if previous:
                previous.close()
            return None
        if previous is None:
            return None if patient and "processed" in names else found
        if any(archive.inode == previous.inode for archive in found):
            previous.close()
            return found
        if previous.deleted():
            previous.close()
            return None
        return [*found, previous]

    def unseen(self, held: Tail | None, archives: list[Archive]) -> list[Archive]:
        """Return those of `archives` that came after the file `held`, which was `current` at the last `adopt`."""
        # Rotated any number of times since: whatever has our inode is the file just finished, what follows is unread.
        if held:
            inodes = [archive.inode for archive in archives]
            if held.identity[1] in inodes:
                return archives[inodes.index(held.identity[1]) + 1 :]
        new = [archive for archive in archives if archive.key > self._seen]
        if held is None:
            return new[self._unlisted - 1 :]
        # Our file has no name any more: either it was deleted because of n, or a processor's output replaced it.
        # The oldest file is always deleted first. So if one older than ours is left, ours was processed, and the
        # first new name is what became of it.
        if len(new) < len(archives):
            return new[self._unlisted :]
        for place, archive in enumerate(new):
            if same_head(archive, held):
                return new[place + 1 :]
        # Deleted, so all that is left came later; others may have been deleted after it, unread.
        self._losses["gap"] += 1
        return new

    def adopt(self, archives: list[Archive]) -> None:
        """From now on `current` is read; what `archives` lists is accounted for."""
        named = [archive.key for archive in archives if archive.key != _NEWEST]
        self._seen = max(named, default=self._seen)
        self._unlisted = 1 + len(archives) - len(named)

    def left(self, old: os.stat_result, new: os.stat_result) -> bool:
        """Whether the writer is done with the old file, given its status and that of the new one."""
        # multilog marks the old file as finished after it has made the new one, and before it writes to that.
        return self.continues(old.st_mode) or new.st_size > 0

    def continues(self, mode: int) -> bool:
        """Whether a line unfinished at the end of a file with this mode goes on in the next one."""
        # A line too long for the size limit is cut there, without a newline, and goes on in the next file. A file
        # finished in order is executable by its owner; one without that mode was cut short by an outage.
        return bool(mode & 0o100)

    def _finished(self, names: list[str]) -> list[Archive]:
        found: dict[str, Archive] = {}
        # Suffixes in ascending order: svlogd has ".s" (processed) and ".u" (as written) side by side for a moment,
        # gzip "X.s" and "X.s.gz". One is read, by preference as it was written.
        for name in sorted(names, key=lambda name: (name[:25], ".u" in name, -len(name))):
            match = _FINISHED.fullmatch(name)
            if match:
                path = os.path.join(self._path, name)
                try:
                    status = os.stat(path)
                except FileNotFoundError:
                    continue
                found[match[1]] = Archive(match[1], path, status.st_ino, status.st_size)
        return list(found.values())


def _open_previous(path: str) -> Archive | None:
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return None
    status = os.fstat(descriptor)
    return Archive(_NEWEST, path, status.st_ino, status.st_size, descriptor)
