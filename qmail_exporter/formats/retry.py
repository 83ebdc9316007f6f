"""When qmail-send tries a message again, and when it gives up (nextretry() and pass_dochan() in qmail-send.c).

Per message and channel, not per recipient: after an attempt, the next is due when the square root of the message's
age has grown by a fixed step. So the gaps grow with the age, and touching the `info` file moves the whole schedule.
All times are Unix seconds; `birth` is the mtime of the `info` file.
"""

from collections.abc import Iterator
from math import isqrt
from types import MappingProxyType

_REMOTE = 20
_SKIP = {"local": 10, "remote": _REMOTE}
SKIP = MappingProxyType(_SKIP)
"""The step of each of qmail's channels, `chanskip` in qmail-send.c."""


def skip_for(channel: str) -> int:
    """Return the step of a channel; those that only a fork has count as `remote`."""
    return _SKIP.get(channel, _REMOTE)


def next_attempt(birth: int, attempt: int, skip: int) -> int:
    """Return when a channel is tried after an attempt that began at `attempt`.

    qmail-send's squareroot() is the integer square root of up to 16 bits, and stays at 65535 beyond: for an `info`
    file from before 1970, or one that is 136 years old.
    """
    age = attempt - birth
    step = (min(isqrt(age), 0xFFFF) if age > 0 else 0) + skip
    return birth + step * step


def gives_up(birth: int, now: int, lifetime: int) -> bool:
    """Tell whether an attempt that begins now is the last: what it defers, it fails."""
    return now > birth + lifetime


def attempts(birth: int, skip: int, lifetime: int) -> Iterator[int]:
    """Yield the times of all attempts, each begun when it is due, at a destination that never answers.

    The last one is the attempt that gives up. A lifetime is an int of C to qmail, so at most 2**31 - 1 seconds.
    """
    attempt = birth
    while not gives_up(birth, attempt, lifetime):
        yield attempt
        attempt = next_attempt(birth, attempt, skip)
    yield attempt
