"""Memory that a crowd of clients held, and that would stay with the process when they have gone."""

import ctypes
import gc


def give_back() -> None:
    """Collect garbage, old as well, and have the C library return what is free to the system, where it can.

    It stops everything for some 20 ms: the model keeps its messages in arrays, which are nothing to be searched.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
    if trim is not None:
        trim(0)
