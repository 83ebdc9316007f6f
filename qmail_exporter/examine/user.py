"""Doing something as another user: in a child process that has given up all privilege of this one."""

import grp
import json
import os
import pwd
from collections.abc import Callable
from typing import Any


class NoUserError(Exception):
    """There is no such user, or this one may not become it."""


def name() -> str:
    """Return the name of the user that this process acts as."""
    return called(os.geteuid())


def called(number: int) -> str:
    """Return the name of a user."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def exists(user: str) -> bool:
    """Tell whether there is such a user."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def primary_group(user: str) -> str | None:
    """Return the name of a user's own group; None if there is no such user."""
    try:
        return group(pwd.getpwnam(user).pw_gid)
    except KeyError:
        return None


def group(number: int) -> str:
    """Return the name of a group."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def run_as(user: str, work: Callable[[], Any]) -> Any:
    """Return what `work` returns when it is done as `user`, with that user's groups; it must be what JSON can carry.

    Raises:
        NoUserError: there is no such user, or only root can become another one.
        OSError: the child failed.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise NoUserError(f"there is no user {user!r}") from None
    if entry.pw_uid == os.geteuid():
        return work()
    if os.geteuid() != 0:
        raise NoUserError(f"only root can check as {user!r}")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _work_as(entry, work, write)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    if not answer:
        raise OSError(f"could not work as {user!r}")
    return json.loads(answer)


def _work_as(entry: pwd.struct_passwd, work: Callable[[], Any], write: int) -> None:
    """Be the child: nothing of the parent's is unwound, flushed or closed by it."""
    status = 1
    try:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        answer = json.dumps(work()).encode()
        while answer:
            answer = answer[os.write(write, answer) :]
        status = 0
    finally:
        os._exit(status)
