"""How much memory is held: by an exporter, by this process; and how many descriptors.

Not counted is what has a bound of its own, which a run may take its time to fill: `functools.lru_cache` and `Recent`.
"""

import functools
import gc
import logging
import os
import sys
import types
from collections.abc import Sequence

import psutil

from qmail_exporter.queue.recent import Recent

_NOT_HELD = (
    Recent, functools._lru_cache_wrapper, type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType, logging.Logger, property,
)  # fmt: skip


def size(*roots: object) -> int:
    """Return the bytes of everything that is reached from these objects, but for code."""
    seen: set[int] = set()
    left: list[object] = list(roots)
    total = 0
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, _NOT_HELD):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        left += gc.get_referents(one)
    return total


def globally() -> int:
    """Return the bytes that the exporter's modules hold, but for those of the simulator."""
    modules = [
        vars(module)
        for name, module in sorted(sys.modules.items())
        if name.startswith("qmail_exporter") and not name.startswith("qmail_exporter.demo")
    ]
    return size(*[value for module in modules for name, value in module.items() if name != "__builtins__"])


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def open_descriptors() -> list[int]:
    """Return the descriptors that this process has open, when what is garbage has closed its own."""
    gc.collect()
    return sorted(map(int, os.listdir("/proc/self/fd")))


def descriptors(queue: str) -> list[str]:
    """Return what this process has open, but for what the simulator's programs have open below `queue`."""
    theirs = tuple(f"{queue}/{area}/" for area in ("pid", "mess", "intd", "lock"))
    found = []
    for number in open_descriptors():
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the listing's own
            continue
        if not path.startswith(theirs):
            found.append(path)
    return sorted(found)


def slope(values: Sequence[float]) -> float:
    """Return by how much values rise from one to the next, by least squares; 0 of fewer than two."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    across = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return across / sum((place - middle) ** 2 for place in range(count))
