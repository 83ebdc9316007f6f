"""Which files a message may have, whose they are, and who may read them: qmail's INTERNALS (2, 6), hier.c.  Pure."""

import shlex
import stat
from collections.abc import Set as AbstractSet

ORPHANED = 129600
"""Seconds without a read or write after which qmail-send removes a message that was never finished."""
OF_QUEUE = frozenset(("mess", "todo", "intd", "lock", "pid"))
"""Areas that are qmailq's; the others are qmails's."""
AREAS = frozenset((*OF_QUEUE, "info", "local", "remote", "bounce"))
DIRECTORY_MODES = {"mess": 0o750, "todo": 0o750, "lock": 0o750}
"""Of an area and the directories in it; of the others it is 0700."""
_AFTER_TODO = {"intd", "bounce"}


def violation(present: AbstractSet[str]) -> str | None:
    """Return what is wrong with a message that has files in these areas; None for each of qmail's states.

    `present` names `mess`, `intd`, `todo`, `info`, `bounce` and channels.
    """
    if not present:
        return None  # S1
    if "mess" not in present:
        return "files without a mess file"
    if "todo" in present:
        return "a bounce file beside todo" if "bounce" in present else None  # S4
    if "info" in present:
        return "an intd file after preprocessing" if "intd" in present else None  # S5
    if present <= {"mess", "intd"}:
        return None  # S2, S3
    return "recipients or a bounce without info"


def unfinished(present: AbstractSet[str]) -> bool:
    """Tell whether a message's files are those of one that is being received, or never was to the end (S2, S3)."""
    return "mess" in present and present <= {"mess", "intd"}


def directory_fault(area: str, mode: int) -> str | None:
    """Return what is wrong with the mode of an area's directory, given its `st_mode`."""
    expected = DIRECTORY_MODES.get(area, 0o700)
    if mode & 0o700 != 0o700:
        return f"mode {stat.S_IMODE(mode):04o} shuts its owner out"
    if mode & 0o777 & ~expected:
        return f"mode {stat.S_IMODE(mode):04o} lets others in; it should be {expected:04o}"
    return None


def file_fault(mode: int) -> str | None:
    """Return what is wrong with the mode of a message's file, given its `st_mode`."""
    if not stat.S_ISREG(mode):
        return "no regular file"
    if mode & 0o022:
        return "writable by others than its owner"
    if not mode & 0o400:
        return "unreadable to its owner"
    return None


def lets(mode: int, rights: str) -> bool:
    """Tell whether the lowest three bits of a mode give all of `rights`, of `r` and `x`."""
    return all(mode & {"r": 4, "x": 1}[right] for right in rights)


def fix_access(path: str, mode: int, group: str, user: str, rights: str) -> str:
    """Return the command that lets `user` read what it may not.

    Args:
        path: the file or directory in the way.
        mode: its `st_mode`.
        group: the name of its group.
        user: who is to read it.
        rights: what is needed: `r` a file, `rx` a directory, `x` a directory on the way.
    """
    if lets(mode >> 3, rights) and group not in ("root", user, ""):
        return shlex.join(["usermod", "-aG", group, user])
    return shlex.join(["setfacl", "-m", f"u:{user}:{rights}", path])
