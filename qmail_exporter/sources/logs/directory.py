"""The directory of multilog(8) or svlogd(8): `current`, and finished files named after the time they were finished.

Formats and order of events: multilog.c of daemontools 0.76, svlogd.c of runit 2.1, and their manual pages.
"""

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from qmail_exporter.sources.logs.archive import Archive, same_head
from qmail_exporter.sources.logs.tail import Tail, open_regular

if TYPE_CHECKING:
    from collections import Counter

# "@", a TAI64N label (which sorts as the time does), and ".s", or ".u" for a file that an outage cut short or whose
# processor has not ended. ".t" is a processor's output in the making. A cron job may have compressed the file.
_FINISHED = re.compile(r"@[0-9a-f]{24}\.[su](?:\.\w+)?")
_UNNAMED = "@~"  # begins a key that sorts after every label
_PATIENCE = 30
_REMEMBERED = 10_000


class Directory:
    """What there is to read in a multilog or svlogd directory, and in which order.

    Args:
        path: The directory.
        losses: Counts `gap`: files may have been deleted unread.
    """

    def __init__(self, path: str, losses: "Counter[str]") -> None:
        self._path = path
        self._losses = losses
        self._known: set[str] = set()
        self._unnamed = ""
        self.live = os.path.join(path, "current")

    def archives(self) -> list[Archive] | None:
        """Return the finished files, oldest first, or None if one was changing its name just now.

        Raises:
            OSError: The directory cannot be listed; the path is in it.
        """
        # A list of names can miss a file that gets another name meanwhile, as svlogd's do when their processor has ended:
        # under the old it is gone, under the new it was not there yet. Nor does a name say that the file is still there
        # when it is looked at. So the names are listed again after all was looked at, and must be the same: what was
        # missed the first time is there the second, and what went away is not.
        unnamed = self._open_unnamed()
        try:
            names = self._names()
            found = self._finished(names)
            steady = names == self._names()
        except OSError:
            if unnamed:
                unnamed.close()
            raise
        if unnamed is None:
            return found if steady else None
        if steady and all(archive.inode != unnamed.inode for archive in found) and not unnamed.deleted():
            return [*found, unnamed]
        unnamed.close()
        return found if steady and any(archive.inode == unnamed.inode for archive in found) else None

    def again(self, archive: Archive) -> Archive | None:
        """Return how a file listed before is listed now: None if it is not, or if the names do not come to rest."""
        for _ in range(_PATIENCE):
            if (listed := self.archives()) is not None:
                named = {other.key: other for other in listed if other.descriptor is None}
                for other in listed:
                    other.close()
                return named.get(archive.key)
        return None

    def unseen(self, held: Tail | None, archives: list[Archive]) -> list[Archive]:
        """Return those of `archives` that came after the file `held`, which was `current` at the last `adopt`."""
        new = [archive for archive in archives if archive.key not in self._known]
        # The first new name is that of the file that had none, unless that has none yet: a leftover of another program.
        named = int(bool(self._unnamed))
        if named and new and new[-1].key == self._unnamed:
            new.pop()
            named = 0
        if held is None:
            return new[named:]
        place = _place(held, new, named, archives)
        if place is None:
            # Deleted, so all that is left came later; others may have been deleted after it, unread.
            self._losses["gap"] += 1
            return new
        # If the clock was set back, some of what came later has names before ours.
        return new[named:place] + new[place + 1 :]

    def adopt(self, archives: list[Archive]) -> None:
        """From now on `current` is read; what `archives` lists is accounted for."""
        named = {archive.key for archive in archives if not archive.key.startswith(_UNNAMED)}
        # Names that are gone are remembered too: who brings an old file back does not want it counted again.
        self._known = named if len(self._known) > _REMEMBERED else self._known | named
        self._unnamed = next((archive.key for archive in archives if archive.key.startswith(_UNNAMED)), "")

    def left(self, old: os.stat_result, new: os.stat_result) -> bool:
        """Whether the writer is done with the old file, given its status and that of the new one."""
        # multilog marks the old file as finished after it has made the new one, and before it writes to that.
        return self.continues(old.st_mode) or new.st_size > 0

    def continues(self, mode: int) -> bool:
        """Whether a line unfinished at the end of a file with this mode goes on in the next one."""
        # A line too long for the size limit is cut there, without a newline, and goes on in the next file. A file
        # finished in order is executable by its owner; one without that mode was cut short by an outage.
        return bool(mode & 0o100)

    def _open_unnamed(self) -> Archive | None:
        # multilog renames `current` to `previous`, creates the new `current`, and links `previous` to its "@" name.
        # With a processor it first writes its output to `processed`, marks that as finished, deletes `previous` and links
        # `processed` instead. So what has one of these names and no "@" name is the newest finished file. It is opened
        # before the names are listed, so that either its "@" name is listed or, if that was made later, this one counts.
        for name in ("previous", "processed"):
            path = os.path.join(self._path, name)
            with suppress(FileNotFoundError):
                if name == "previous" or self.continues(os.stat(path).st_mode):
                    return _open_newest(path)
        return None

    def _names(self) -> list[str]:
        return sorted(filter(_FINISHED.fullmatch, os.listdir(self._path)))

    def _finished(self, names: list[str]) -> list[Archive]:
        found: dict[str, Archive] = {}
        # Suffixes in ascending order: svlogd has ".s" (processed) and ".u" (as written) side by side for a moment,
        # gzip "X.s" and "X.s.gz". One is read, by preference as it was written.
        for name in sorted(names, key=lambda name: (name[:25], ".u" in name, -len(name))):
            path = os.path.join(self._path, name)
            with suppress(FileNotFoundError):
                status = os.stat(path)
                found[name[:25]] = Archive(name[:25], path, status.st_ino, status.st_size)
        return list(found.values())


def _place(held: Tail, new: list[Archive], named: int, archives: list[Archive]) -> int | None:
    """Return which of the new files was held, or None if it was deleted; `named` of them are from before it."""
    # Rotated any number of times since: whatever has our inode is the file just finished.
    for place, archive in enumerate(new):
        if archive.inode == held.identity[1]:
            return place
    # Our file has no name any more: either it was deleted because of n, or a processor's output replaced it.
    # The file whose name is the first is always deleted first. So if one older than ours is left, ours was processed,
    # and the first new name is what became of it.
    if new[named:] and any(archive.key < new[0].key for archive in archives):
        return named
    return next((place for place, archive in enumerate(new) if same_head(archive, held)), None)


def _open_newest(path: str) -> Archive:
    descriptor = open_regular(path)
    status = os.fstat(descriptor)
    key = f"{_UNNAMED}{status.st_ino}.{status.st_mtime_ns}"
    return Archive(key, path, status.st_ino, status.st_size, descriptor)
