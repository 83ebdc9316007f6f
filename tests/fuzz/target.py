"""What a target is: a function of any bytes, and bytes to begin with."""

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Target(NamedTuple):
    """Something to feed bytes to.

    Attributes:
        run: takes any bytes; raises only if what it tries is wrong, an AssertionError where an invariant does not hold.
        seeds: makes the inputs to begin with.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


def is_label(text: str) -> bool:
    """Tell whether a text may be the value of a label: UTF-8 without control characters, and not empty."""
    return text.isprintable() and bool(text.encode("utf-8"))


def is_one_line(text: str) -> bool:
    """Tell whether a text may be shown as one line, in a terminal or in a log."""
    return text.isprintable() and bool(text)


def pieces(data: bytes, sizes: bytes) -> list[bytes]:
    """Return the data in pieces, whose sizes the bytes of `sizes` say in turn; 0 is all that is left."""
    found: list[bytes] = []
    start = 0
    for size in sizes:
        end = start + size if size else len(data)
        found.append(data[start:end])
        start = end
    return [*found, data[start:]]
