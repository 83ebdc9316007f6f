"""Who may read all of a queue: the user that qmail-send runs as, with the group that qmail-queue's directories are open to."""

import os
import shlex
from contextlib import suppress
from typing import NamedTuple

from qmail_exporter.examine import user

_USUAL = ("qmails", "qmail")


class Reader(NamedTuple):
    """A user and a group, by name, or by number where they have none."""

    user: str
    group: str

    def command(self, *words: str) -> str:
        """Return the command line, for a shell, that runs `words` as this user, with all groups that the user has."""
        # With -g the other groups are dropped, one of which may be what the log can be read by.
        more = [] if user.primary_group(self.user) == self.group else ["-g", self.group]
        return shlex.join(["runuser", "-u", self.user, *more, "--", *words])


def of(queue: str) -> Reader:
    """Return who may read a queue, as far as this user may see it; else who it is where qmail was installed as usual.

    qmail-send makes its files for itself alone, each anew, so that neither a group nor an ACL would let others in.
    """
    owner, group = _USUAL
    with suppress(OSError):
        group = user.group(os.stat(f"{queue}/mess").st_gid)
        owner = user.called(os.stat(f"{queue}/info").st_uid)
    return Reader(owner, group)


def advice(error: OSError, queue: str) -> str:
    """Return what to add to the words of an error: as whom a queue can be read; nothing if that was not the trouble."""
    if not isinstance(error, PermissionError):
        return ""
    owner, group = of(queue)
    return f"; run it as root, or as {owner} with group {group}"
