"""Errors of the system: in words that say which limit to raise, and as they may be remembered.

inotify's own limits are told where watches are made.
"""

import errno
from typing import TypeVar

_RAISE = {
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= of the unit, RLIMIT_NOFILE)",
    errno.ENFILE: "raise sysctl fs.file-max",
    errno.ENOMEM: "raise the limit of memory (MemoryMax= of the unit, RLIMIT_AS), or see what else takes it",
}

_Error = TypeVar("_Error", bound=Exception)


def kept(error: _Error) -> _Error:
    """Return an error that is to be remembered without what led to it: a traceback keeps all that its functions held alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def words(error: OSError) -> str:
    """Return what went wrong, and where that is a limit, which one."""
    said = error.strerror or str(error)
    advice = _RAISE.get(error.errno or 0)
    return f"{said}: {advice}" if advice else said
