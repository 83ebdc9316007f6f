"""What a script is: what befalls a host, and what is to be told of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from incidents.acts import MINUTE, Act
from incidents.host import Host, record

Spring = Callable[[Path], Host]
"""Makes a host in a directory."""


class Page(NamedTuple):
    """What is to be told of an incident: the alert, how soon after its beginning, and how soon after its end it is over."""

    alert: str
    within: int
    over: int


@dataclass(frozen=True)
class Script:
    """One run of a host.

    Attributes:
        name: in a word or two, which is the host's name too.
        story: what happens, in a line.
        turns: what is done when, by minutes.
        began, ended: when the incident does, by minutes.
        length: of the run, minutes.
        pages: what is to be told, and nothing else.
        make: makes the host.
        held: alerts that are raised besides, and that Alertmanager is to hold back.
        says: words that the text of an alert must have.
    """

    name: str
    story: str
    turns: Mapping[int, Act]
    length: int
    pages: tuple[Page, ...] = ()
    began: int = 0
    ended: int = 0
    make: Spring = Host
    held: frozenset[str] = frozenset()
    says: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    async def play(self, home: Path, until: int | None = None) -> list[bytes | None]:
        """Return what a scrape gets each minute, up to the end or `until` that minute."""
        host = self.make(home / self.name)
        length = min(self.length, until or self.length) * MINUTE
        await record(
            host, length, {at * MINUTE: act for at, act in self.turns.items() if at * MINUTE <= length}
        )
        return host.frames


def host(**given: Any) -> Spring:
    """Make hosts of one kind."""
    return lambda home: Host(home, **given)
