"""Moments in order, counted: what lets ages move with the clock without walking the messages.

An age histogram of present messages changes with every second that passes.  Both structures keep moments, not ages,
so nothing needs to be updated while time goes by; a scrape asks "how many lie at or before now − bound".
"""

from array import array
from bisect import bisect_left, insort

_PAGE_BITS = 8  # a page counts 256 seconds one by one …
_ERA_BITS = 16  # … and an era of 18 hours is the sum of 256 pages
_PAGE = 1 << _PAGE_BITS
_EMPTY_PAGE = bytes(_PAGE * array("I").itemsize)


class Timeline:
    """How many moments (Unix seconds) lie at or before a given one; their number and their sum.

    `add` and `remove` take constant time; `count` looks at one page, at most 256 page sums and one sum an era, whatever
    the number of moments.  A page of 256 seconds in which nothing lies takes no memory: a week of moments, however
    many, takes at most 2.5 MB.
    """

    __slots__ = ("_eras", "_pages", "_sums", "sum", "total")

    def __init__(self) -> None:
        self.total = 0
        self.sum = 0
        self._pages: dict[int, array[int]] = {}
        self._sums: dict[int, int] = {}
        self._eras: dict[int, int] = {}

    def add(self, moment: int) -> None:
        """Count one more message at `moment`."""
        number = moment >> _PAGE_BITS
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = array("I", _EMPTY_PAGE)
            self._sums[number] = 0
        page[moment & (_PAGE - 1)] += 1
        self._sums[number] += 1
        era = moment >> _ERA_BITS
        self._eras[era] = self._eras.get(era, 0) + 1
        self.total += 1
        self.sum += moment

    def remove(self, moment: int) -> None:
        """Take back one `add` of the same moment; that there was one is the caller's duty."""
        number = moment >> _PAGE_BITS
        self._pages[number][moment & (_PAGE - 1)] -= 1
        self._sums[number] -= 1
        if not self._sums[number]:
            del self._pages[number], self._sums[number]
        era = moment >> _ERA_BITS
        self._eras[era] -= 1
        if not self._eras[era]:
            del self._eras[era]
        self.total -= 1
        self.sum -= moment

    def count(self, moment: int) -> int:
        """The number of moments at or before `moment`."""
        era, number = moment >> _ERA_BITS, moment >> _PAGE_BITS
        count = sum(size for name, size in self._eras.items() if name < era)
        if era in self._eras:
            sums = self._sums
            count += sum(sums.get(n, 0) for n in range(era << (_ERA_BITS - _PAGE_BITS), number))
            if page := self._pages.get(number):
                count += sum(page[: (moment & (_PAGE - 1)) + 1])
        return count

    def first(self) -> int | None:
        """The earliest moment, or None when there is none."""
        if not self._eras:
            return None
        number = min(self._eras) << (_ERA_BITS - _PAGE_BITS)
        while number not in self._sums:
            number += 1
        page = self._pages[number]
        return (number << _PAGE_BITS) + next(second for second, count in enumerate(page) if count)


_BLOCK = 512


class Earliest:
    """A multiset of moments that knows its earliest, at eight bytes a moment.

    One is kept for every domain, so it must be small when nearly empty: sorted arrays of at most 512 moments, in order.
    """

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: list[array[int]] = []

    def add(self, moment: int) -> None:
        """Put one `moment` in."""
        blocks = self._blocks
        if not blocks:
            blocks.append(array("q", (moment,)))
            return
        at = min(bisect_left(blocks, moment, key=_last), len(blocks) - 1)
        block = blocks[at]
        insort(block, moment)
        if len(block) > _BLOCK:
            blocks.insert(at + 1, block[_BLOCK // 2 :])
            del block[_BLOCK // 2 :]

    def remove(self, moment: int) -> None:
        """Take one `moment` out; that it is in is the caller's duty."""
        at = bisect_left(self._blocks, moment, key=_last)
        block = self._blocks[at]
        del block[bisect_left(block, moment)]
        if not block:
            del self._blocks[at]

    def first(self) -> int | None:
        """The earliest moment, or None when there is none."""
        return self._blocks[0][0] if self._blocks else None


def _last(block: "array[int]") -> int:
    return block[-1]
