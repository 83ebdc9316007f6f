"""Rows of cells on stdout: a table in a terminal, else tab-separated with a header."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

_SHARED = {"FROM": 2, "TO": 3, "REASON": 4, "DOMAIN": 3, "SENDER": 3, "EXAMPLE": 4}
"""Columns that share what room the others leave, and their parts of it."""
_WIDTHS = {"AGE": 6, "SIZE": 8, "STATE": 9, "NEXT": 6, "TRIES": 5, "EXPIRES": 7, "OLDEST": 6, "BYTES": 10}
"""What the others take, if the first rows do not take more."""
_ENOUGH = 24
"""Room enough for an address or a domain where the first rows need less."""
_GAP = 2
_LEFT = frozenset((*_SHARED, "STATE", "QUEUE"))
_NARROW = (
    (130, frozenset(("SIZE", "EXPIRES"))),
    (100, frozenset(("SIZE", "EXPIRES", "FROM"))),
    (72, frozenset(("SIZE", "EXPIRES", "FROM", "STATE", "TRIES"))),
)
"""What a terminal narrower than so many columns does not show."""


class Lines(Protocol):
    """Where rows go."""

    def write(self, rows: Sequence[Sequence[str]]) -> None:
        """Write some rows; without any, still what stands above them."""


class Plain:
    """Cells with a tab between them, under a line of the columns' names."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._above = ["\t".join(columns) + "\n"]

    def write(self, rows: Sequence[Sequence[str]]) -> None:
        """Write some rows."""
        sys.stdout.write("".join(self._above + ["\t".join(row) + "\n" for row in rows]))
        self._above = []


class Table:
    """A table whose columns are as wide at its end as at its beginning, so that it need not be known whole.

    Args:
        columns: their names.
        console: where to; by default stdout.
    """

    def __init__(self, columns: Sequence[str], console: "Console | None" = None) -> None:
        from rich.console import Console  # noqa: PLC0415 - the import takes longer than a short answer

        self._console = console or Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
        hidden = [names for width, names in _NARROW if self._console.width < width and "ID" in columns]
        self._shown = [n for n, name in enumerate(columns) if not hidden or name not in hidden[-1]]
        self._columns = [columns[n] for n in self._shown]
        self._widths: list[int] | None = None
        self._header = True

    def write(self, rows: Sequence[Sequence[str]]) -> None:
        """Write some rows; the first ones say how wide the columns are."""
        from rich.table import Table as Drawn  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        shown = [[row[n] for n in self._shown] for row in rows]
        if self._widths is None:
            needed = [
                max(len(name), *(len(row[n]) for row in shown), 0) for n, name in enumerate(self._columns)
            ]
            self._widths = widths(self._columns, needed, self._console.width)
        table = Drawn(box=None, pad_edge=False, show_header=self._header, header_style="bold")
        for name, width in zip(self._columns, self._widths, strict=True):
            justify = "left" if name in _LEFT else "right"
            table.add_column(name, width=width, no_wrap=True, overflow="crop", justify=justify)  # type: ignore[arg-type]
        dots = "…" if self._console.encoding.startswith("utf") else "..."
        for row in shown:
            table.add_row(
                *(Text(cut(cell, width, dots)) for cell, width in zip(row, self._widths, strict=True))
            )
        self._console.print(table)
        self._header = False


def widths(columns: Sequence[str], needed: Sequence[int], room: int) -> list[int]:
    """Return how wide each column is: those that share the room take by their parts, but no more than they need.

    Args:
        columns: their names.
        needed: what the first rows need, cell by cell.
        room: columns of the terminal.
    """
    found = [
        0 if name in _SHARED else max(_WIDTHS.get(name, 0), need)
        for name, need in zip(columns, needed, strict=True)
    ]
    left = room - sum(found) - _GAP * (len(columns) - 1)
    shared = [n for n, name in enumerate(columns) if name in _SHARED]
    parts = sum(_SHARED[columns[n]] for n in shared)
    for n in shared:
        part = _SHARED[columns[n]]
        last = n == shared[-1]
        found[n] = max(left if last else min(left * part // parts, max(needed[n], _ENOUGH)), 1)
        left -= found[n]
        parts -= part
    return found


def cut(text: str, width: int, dots: str) -> str:
    """Return as much of a cell as there is room for; how many more recipients there are is kept."""
    if len(text) <= width:
        return text
    head, plus, number = text.rpartition(" +")
    more = plus + number if number.isdigit() else ""
    return (head if more else text)[: max(width - len(dots + more), 0)] + dots + more


def lines(columns: Sequence[str]) -> Lines:
    """Return where rows go: a table if stdout is a terminal."""
    return Table(columns) if sys.stdout.isatty() else Plain(columns)
