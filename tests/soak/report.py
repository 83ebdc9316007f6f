"""What a run has measured, in lines, and whether that is as it must be."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from soak import held

HELD_A_DAY = 64 << 10
"""Bytes by which what the steady exporter holds more than a new model of the same queue may rise, from day to day after the first."""
RESIDENT_A_DAY = 8 << 20
"""The same, for the resident memory of the whole process, the simulator included."""


@dataclass
class Figures:
    """Sums since the start, and memory at the end of each day.

    Attributes:
        messages: queued; lines: of the log; rests: times that all was judged.
        mishaps: how often each was done; lost: lines that they kept an exporter from reading.
        queued: messages in the queue at the end of the day.
        held: bytes that the steady exporter holds more than a new model of the queue, and modules more than at the start, by day.
        resident: memory of this process, by day.
        worst: seconds of the longest scrape.
    """

    messages: int = 0
    lines: int = 0
    rests: int = 0
    mishaps: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    queued: int = 0
    held: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    descriptors: int = 0
    scrapes: int = 0
    worst: float = 0.0

    def day(self, number: float) -> str:
        """Return the line of a day."""
        return (
            f"day {number:g}: {self.messages} messages, {self.lines} lines, {sum(self.mishaps.values())} mishaps, "
            f"{self.rests} rests; drift 0, counters' difference 0 but for {self.lost} lost lines; "
            f"held {self.held[-1] >> 10} KiB beside the queue, resident {self.resident[-1] >> 20} MiB, "
            f"{self.descriptors} descriptors, {self.queued} queued; worst of {self.scrapes} scrapes {1000 * self.worst:.0f} ms"
        )

    def end(self) -> Iterator[str]:
        """Return the last lines."""
        yield "mishaps: " + ", ".join(f"{name} {count}" for name, count in sorted(self.mishaps.items()))
        yield (
            f"memory: held {held.slope(self.held) / 1024:+.1f} KiB a day after the first (at most {HELD_A_DAY >> 10}), "
            f"resident {held.slope(self.resident) / (1 << 20):+.1f} MiB (at most {RESIDENT_A_DAY >> 20})"
        )

    def wrong(self) -> list[str]:
        """Return what of the memory is not as it must be."""
        found = []
        if (rise := held.slope(self.held)) > HELD_A_DAY:
            found.append(f"memory: what is held rises by {rise / 1024:.0f} KiB a day")
        if (rise := held.slope(self.resident)) > RESIDENT_A_DAY:
            found.append(f"memory: what is resident rises by {rise / (1 << 20):.0f} MiB a day")
        return found
