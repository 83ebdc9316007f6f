"""A byte stream into lines, at the price of one `bytes.split` a block."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections import Counter

LONGEST = 64 * 1024
"""A longer line is dropped and counted. qmail-send's own lines stay below about 6,000 bytes."""


class Batch(NamedTuple):
    """Complete lines in the log's order, without their newlines.

    Attributes:
        lines: The lines; any byte but a newline may stand in them.
        times: One Unix time in seconds for each line where the source knows it (the journal), else None.
    """

    lines: list[bytes]
    times: list[float] | None = None


class Lines:
    """Splits what it is fed at each newline and keeps the unfinished rest for the next call.

    However the stream is cut into blocks, the lines and the count are the same. At most `longest` bytes are held.

    Args:
        losses: Where a dropped line is counted, under `long_line` or `cut_line`.
        longest: The longest line given out, in bytes.
    """

    def __init__(self, losses: "Counter[str]", longest: int = LONGEST) -> None:
        self._losses = losses
        self._longest = longest
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes."""
        pieces = data.split(b"\n")
        if self._skipping:
            if len(pieces) == 1:
                return []
            del pieces[0]
            self._skipping = False
        elif self._rest:
            pieces[0] = self._rest + pieces[0]
        self._rest = pieces.pop()
        if len(self._rest) > self._longest:
            self._losses["long_line"] += 1
            self.skip()
        if pieces and (len(pieces[0]) > self._longest or _may_hold_longer(data, self._longest)):
            return self._without_long(pieces)
        return pieces

    def skip(self) -> None:
        """Drop everything up to the next newline: the stream stands in the middle of a line."""
        self._rest = b""
        self._skipping = True

    def cut(self) -> None:
        """The stream breaks off here; an unfinished line is dropped, since half a line may read as a whole one."""
        if self._rest:
            self._losses["cut_line"] += 1
        self._rest = b""
        self._skipping = False

    def _without_long(self, pieces: list[bytes]) -> list[bytes]:
        kept = [piece for piece in pieces if len(piece) <= self._longest]
        self._losses["long_line"] += len(pieces) - len(kept)
        return kept


def _may_hold_longer(data: bytes, longest: int) -> bool:
    # A run of more than `longest` bytes without a newline covers some aligned block of half that size, so a look at
    # each block, which usually ends at its first hundred bytes, stands for a look at each line.
    half = longest // 2
    return any(data.find(b"\n", at, at + half) < 0 for at in range(0, len(data) - half + 1, half))
