"""One thing that is wrong, in words; and how words of time and number are put."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Level = Literal["act", "look", "note"]
"""`act`: mail is being lost or stands still, or the page cannot be relied on; `look`: it soon may be; `note`: worth knowing."""
LEVELS: tuple[Level, ...] = ("act", "look", "note")

MINUTE, HOUR, DAY = 60, 3600, 86400


class Trouble(NamedTuple):
    """What is wrong, why or since when, and what to do; the last two may be empty.  `commands` are for a shell."""

    level: Level
    what: str
    why: str = ""
    do: str = ""
    commands: tuple[str, ...] = ()


def by_level(troubles: Iterable[Trouble]) -> list[Trouble]:
    """Return troubles with the worst first, otherwise in their order."""
    return sorted(troubles, key=lambda trouble: LEVELS.index(trouble.level))


def count(number: int, one: str, many: str = "") -> str:
    """Say how many: `1 message`, `2,000 messages`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Say how long: `40 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = int(min(max(seconds, 0.0), 1e15))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        hours, minutes = divmod(whole // MINUTE, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(whole // HOUR, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
