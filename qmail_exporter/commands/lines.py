"""Rows of cells on stdout: a table in a terminal, else tab-separated with a header."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

_SHARED = {"FROM": 2, "TO": 3, "REASON": 4, "DOMAIN": 3, "SENDER": 3, "EXAMPLE": 4}
"""Columns that share what room the others leave, and their parts of it."""
_WIDTHS = {"AGE": 7, "SIZE": 9, "STATE": 9, "NEXT": 7, "TRIES": 5, "EXPIRES": 7, "OLDEST": 7, "BYTES": 12}
_LEFT = frozenset((*_SHARED, "STATE", "QUEUE"))
_NARROW = ((130, frozenset(("SIZE", "EXPIRES"))), (100, frozenset(("SIZE", "EXPIRES", "FROM"))))
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
        """Write some rows; the first ones say how wide the columns are that have no fixed width."""
        from rich.table import Table as Drawn  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        shown = [[row[n] for n in self._shown] for row in rows]
        if self._widths is None:
            self._widths = [
                max(_WIDTHS.get(name, 0), len(name), *(len(row[n]) for row in shown), 0)
                for n, name in enumerate(self._columns)
            ]
        table = Drawn(box=None, pad_edge=False, expand=True, show_header=self._header, header_style="bold")
        dots = "ellipsis" if self._console.encoding.startswith("utf") else "crop"
        for name, width in zip(self._columns, self._widths, strict=True):
            if name in _SHARED:
                table.add_column(name, ratio=_SHARED[name], no_wrap=True, overflow=dots)  # type: ignore[arg-type]
            else:
                table.add_column(
                    name, width=width, overflow="fold", justify="left" if name in _LEFT else "right"
                )
        for row in shown:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(table)
        self._header = False


def lines(columns: Sequence[str]) -> Lines:
    """Return where rows go: a table if stdout is a terminal."""
    return Table(columns) if sys.stdout.isatty() else Plain(columns)
