"""One table of what was measured, each row against a peer or a limit, and the machine that it was measured on."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Literal

from qmail_exporter import __version__

Goal = tuple[Literal["≤", "≥"], float]
"""What a ratio is to be at most, or at least."""
_METHOD = Path(__file__).with_name("method.md")


@dataclass(frozen=True, slots=True)
class Figure:
    """The values of several runs, in a unit that `form` shows."""

    values: Sequence[float]
    form: str

    @property
    def median(self) -> float:
        """What stands for all runs."""
        return median(self.values)

    def __str__(self) -> str:
        text = self.form.format(self.median)
        if len(self.values) > 1:
            low, high = (self.form.format(value).split()[0] for value in (min(self.values), max(self.values)))
            text += f" ({low} to {high})"
        return text


def inner(milliseconds: Sequence[float]) -> Figure:
    """Return what many scrapes took, less the upper and lower twentieth."""
    cut = len(milliseconds) // 20
    return Figure(sorted(milliseconds)[cut : len(milliseconds) - cut], "{:.2f} ms")


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured, beside what, and what the ratio of the first to the second should be.

    A peer was measured in the same run; `name` says which it is. A limit is a figure of one value.
    """

    what: str
    here: Figure
    name: str
    beside: Figure
    goal: Goal | None = None

    @property
    def ratio(self) -> float:
        """This by that."""
        return self.here.median / self.beside.median

    @property
    def met(self) -> bool:
        """Whether the ratio is what it should be."""
        if self.goal is None:
            return True
        sign, goal = self.goal
        return self.ratio <= goal if sign == "≤" else self.ratio >= goal

    def cells(self) -> tuple[str, ...]:
        """The row's texts."""
        goal = "none"
        if self.goal is not None:
            goal = f"{self.goal[0]} {self.goal[1]:g}" + ("" if self.met else " (missed)")
        return (
            self.what,
            str(self.here),
            f"{self.name}: {self.beside}",
            f"{self.ratio:.3g}",
            goal,
        )


_HEAD = """# Benchmarks

Written by `make bench`, which measures each row, and what stands beside it, in one go on one machine. Figures are medians of
so many runs as stand below, with the least and the greatest in brackets; *How* says where there were others, or none."""
_HEADINGS = ("What", "qmail_exporter", "Beside it", "Ratio", "Goal")


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table that reads well as plain text too."""
    cells = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def machine() -> list[str]:
    """Describe the machine and the programs, a line each."""
    model = _field("/proc/cpuinfo", "model name") or platform.machine()
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("prometheus-client", "hypercorn", "pyinotify", "psutil")
    )
    kernel = ".".join(platform.release().split(".")[:2])
    lines = [
        f"{os.cpu_count()} cores of {model}, {memory('MemTotal') / 2**30:.0f} GiB of memory, Linux {kernel}",
        f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        f"qmail_exporter {__version__}, {packages}",
    ]
    if shutil.which("mtail"):
        said = subprocess.run(["mtail", "--version"], capture_output=True, text=True, check=False)
        lines.append(" ".join((said.stdout or said.stderr).split()[:3]))
    return lines


def document(rows: Iterable[Row], facts: Iterable[str]) -> str:
    """Return docs/benchmarks.md, with a line at the top for the machine, each program, and each of the other facts."""
    top = "\n".join(f"- {line}" for line in (*machine(), *facts))
    return "\n\n".join((_HEAD, top, table(rows), _METHOD.read_text(encoding="utf-8")))


def progress(text: str) -> None:
    """Tell whoever waits what is being done."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a bench has no log


def memory(field: str) -> int:
    """Return a field of /proc/meminfo in bytes; 0 if there is none."""
    return int((_field("/proc/meminfo", field) or "0").split()[0]) * 1024


def _field(path: str, name: str) -> str | None:
    for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
