"""The metrics as OpenMetrics text, by prometheus_client, of which most is as it was at the last scrape.

The library takes some ten microseconds a sample, which would be half of a scrape.  Its line of a sample depends on nothing but
the sample, so a line is remembered for as long as its sample comes again, and the library is asked for the others only.

`ALLOWUTF8` is how to ask it: all names here are in the old character set, which comes out the same whatever is asked for, but by
its default it looks at each letter of each name.
"""

from collections.abc import Callable, Iterable
from copy import copy
from itertools import compress
from typing import Any, NamedTuple, Protocol

from prometheus_client import Metric
from prometheus_client.openmetrics.exposition import ALLOWUTF8, generate_latest

__all__ = ["ALLOWUTF8", "Collecting", "encoder"]

_END = "# EOF\n"


class Collecting(Protocol):
    """A registry, or a part of one."""

    def collect(self) -> Iterable[Metric]:
        """The families as they are now."""


def encoder() -> Callable[[Collecting], bytes]:
    """Return what gives the text of a registry, byte for byte as `generate_latest` does, and remembers the last one's lines."""
    lines: dict[Any, str] = {}

    def encode(registry: Collecting) -> bytes:
        nonlocal lines
        text: list[str] = []
        present: dict[Any, str] = {}
        for family in registry.collect():
            keys = [_key(sample) for sample in family.samples]
            keys.insert(0, (family.name, family.documentation, family.type, family.unit))
            fresh = [key not in lines for key in keys]
            if any(fresh):
                head, made = _made(family, list(compress(family.samples, fresh[1:])))
                lines[keys[0]] = head
                lines |= zip(compress(keys[1:], fresh[1:]), made, strict=True)
            present |= {key: lines[key] for key in keys}
            text += [lines[key] for key in keys]
        lines = present
        return "".join([*text, _END]).encode("utf-8")

    return encode


class _One(NamedTuple):
    family: Metric

    def collect(self) -> list[Metric]:
        return [self.family]


def _key(sample: Any) -> tuple[Any, ...]:
    name, labels, *rest = sample
    return name, *labels.items(), *rest


def _made(family: Metric, samples: list[Any]) -> tuple[str, list[str]]:
    """The family's own lines, such as its help, as one, and a line for each of some of its samples."""
    part = copy(family)
    part.samples = samples
    text = generate_latest(_One(part), ALLOWUTF8).decode("utf-8").removesuffix(_END)
    # Other characters that end lines elsewhere do not end one here.
    lines = [line + "\n" for line in text.split("\n")[:-1]]
    return "".join([line for line in lines if line[0] == "#"]), [line for line in lines if line[0] != "#"]
