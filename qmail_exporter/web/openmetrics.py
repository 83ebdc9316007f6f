"""The metrics as OpenMetrics text, by prometheus_client, of which most is as it was at the last scrape.

The library takes some ten microseconds a sample, which would be half of a scrape.  Its line of a sample depends on nothing but
the sample, so a line is remembered for as long as its sample comes again, and the library is asked for the others only.

`ALLOWUTF8` is how to ask it: all names here are in the old character set, which comes out the same whatever is asked for, but by
its default it looks at each letter of each name.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any, Protocol

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
        families = list(registry.collect())
        keys = [[_key(sample) for sample in family.samples] for family in families]
        changed = [
            _only(
                family,
                [sample for sample, key in zip(family.samples, of_family, strict=True) if key not in lines],
            )
            for family, of_family in zip(families, keys, strict=True)
        ]
        told = _lines(generate_latest(_Given(changed), ALLOWUTF8).decode("utf-8"))
        text: list[str] = []
        present: dict[Any, str] = {}
        for family, fresh, of_family in zip(families, changed, keys, strict=True):
            text += [next(told) for _ in range(3 if family.unit else 2)]  # its help, type and unit
            lines |= {_key(sample): next(told) for sample in fresh.samples}
            present |= {key: lines[key] for key in of_family}
            text += [lines[key] for key in of_family]
        lines = present
        return "".join([*text, _END]).encode("utf-8")

    return encode


class _Given(list[Metric]):
    def collect(self) -> list[Metric]:
        return self


def _key(sample: Any) -> tuple[Any, ...]:
    name, labels, *rest = sample
    return name, *labels.items(), *rest


def _only(family: Metric, samples: list[Any]) -> Metric:
    part = copy(family)
    part.samples = samples
    return part


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, each with its end; other characters that end lines elsewhere do not end one here."""
    return (line + "\n" for line in text.split("\n"))
