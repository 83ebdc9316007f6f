"""What the system grants too little of, in words that say what to raise. inotify's own limits are told where watches are made."""

import errno

_RAISE = {
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= of the unit, RLIMIT_NOFILE)",
    errno.ENFILE: "raise sysctl fs.file-max",
    errno.ENOMEM: "raise the limit of memory (MemoryMax= of the unit, RLIMIT_AS), or see what else takes it",
}


def words(error: OSError) -> str:
    """Return what went wrong, and where that is a limit, which one."""
    said = error.strerror or str(error)
    advice = _RAISE.get(error.errno or 0)
    return f"{said}: {advice}" if advice else said
