"""Being bound by the modes of files, as root is not: for a while, in this thread."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_PASS_OVER_MODES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def passes_over_modes() -> bool:
    """Whether this process may read what modes forbid, so that only `bound_by_modes` keeps it from that."""
    return bool(_get()[0].effective & _PASS_OVER_MODES)


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """Within this, modes are for this thread, too."""
    sets = _get()
    before = sets[0].effective
    sets[0].effective &= ~_PASS_OVER_MODES
    _call(_libc.capset, sets)
    try:
        yield
    finally:
        sets[0].effective = before
        _call(_libc.capset, sets)


def _get() -> "ctypes.Array[_Sets]":
    sets = (_Sets * 2)()
    _call(_libc.capget, sets)
    return sets


def _call(function: "ctypes._FuncPointer", sets: "ctypes.Array[_Sets]") -> None:
    header = _Header(_VERSION, 0)
    if function(ctypes.byref(header), sets):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
