"""Moments in order, counted: what lets ages move with the clock without walking the messages.

An age histogram of present messages changes with every second that passes.  Both structures keep moments, not ages,
so nothing needs to be updated while time goes by; a scrape asks "how many lie at or before now - bound".
"""

from array import array
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Collection

_PAGE_BITS = 8  # a page counts 256 seconds one by one …
_ERA_BITS = 16  # … and an era of 18 hours is the sum of 256 pages
_PAGE = 1 << _PAGE_BITS
_SECOND = _PAGE - 1  # the bits of a moment that tell its second within the page
_EMPTY_PAGE = bytes((_PAGE + 1) * array("I").itemsize)
_PUT_OFF = 1024  # moments of which the change is put off


class Timeline:
    """How many moments (Unix seconds) lie at or before a given one; their number and their sum.

    `add` and `remove` take constant time, and little of it: they are put off, as a log moves the same few moments again and
    again between two questions.  `count` looks at one page, at most 256 page sums and one sum an era, whatever the number
    of moments.  A page of 256 seconds in which nothing lies takes no memory: a week of moments, however many, takes at
    most 2.5 MB.
    """

    __slots__ = ("_eras", "_moves", "_pages", "_sum")

    def __init__(self) -> None:
        self._sum = 0
        self._pages: dict[int, array[int]] = {}  # the count of each second, and last their sum
        self._eras: defaultdict[int, int] = defaultdict(int)
        self._moves: defaultdict[int, int] = defaultdict(
            int
        )  # how many more lie at a moment than the pages say

    @property
    def total(self) -> int:
        """The number of moments."""
        self._settle()
        return sum(self._eras.values())

    @property
    def sum(self) -> int:
        """The sum of the moments."""
        self._settle()
        return self._sum

    def add(self, moment: int) -> None:
        """Count one more message at `moment`."""
        self._moves[moment] += 1
        if len(self._moves) > _PUT_OFF:
            self._settle()

    def remove(self, moment: int) -> None:
        """Take back one `add` of the same moment; that there was one is the caller's duty."""
        self._moves[moment] -= 1
        if len(self._moves) > _PUT_OFF:
            self._settle()

    def add_all(self, moments: Collection[int]) -> None:
        """Count one more message at each of the moments."""
        pages, eras = self._pages, self._eras
        numbers = [moment >> _PAGE_BITS for moment in moments]
        for number, count in Counter(numbers).items():
            page = pages.get(number)
            if page is None:
                page = pages[number] = array("I", _EMPTY_PAGE)
            page[_PAGE] += count
            eras[number >> (_ERA_BITS - _PAGE_BITS)] += count
        for number, moment in zip(numbers, moments, strict=True):
            pages[number][moment & _SECOND] += 1
        self._sum += sum(moments)

    def count(self, moment: int) -> int:
        """The number of moments at or before `moment`."""
        self._settle()
        era, number = moment >> _ERA_BITS, moment >> _PAGE_BITS
        count = sum([size for name, size in self._eras.items() if name < era])
        if era in self._eras:
            pages = self._pages
            earlier = range(era << (_ERA_BITS - _PAGE_BITS), number)
            count += sum([page[_PAGE] for page in map(pages.get, earlier) if page is not None])
            if (page := pages.get(number)) is not None:
                count += sum(page[: (moment & _SECOND) + 1])
        return count

    def first(self) -> int | None:
        """The earliest moment, or None when there is none."""
        self._settle()
        if not self._eras:
            return None
        number = min(self._eras) << (_ERA_BITS - _PAGE_BITS)
        while number not in self._pages:
            number += 1
        page = self._pages[number]
        return (number << _PAGE_BITS) + next(second for second, count in enumerate(page) if count)

    def _settle(self) -> None:
        """Make up what was put off."""
        if self._moves:
            for moment, change in self._moves.items():
                if change:
                    self._move(moment, change)
            self._moves.clear()

    def _move(self, moment: int, change: int) -> None:
        """So many more messages are at `moment`, or fewer."""
        number, era = moment >> _PAGE_BITS, moment >> _ERA_BITS
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = array("I", _EMPTY_PAGE)
        page[moment & _SECOND] += change
        page[_PAGE] += change
        self._eras[era] += change
        self._sum += moment * change
        if not page[_PAGE]:
            del self._pages[number]
            if not self._eras[era]:
                del self._eras[era]


_BLOCK = 512
_HALF = _BLOCK // 2


class Earliest:
    """A multiset of moments that knows its earliest, at about ten bytes a moment.

    One is kept for every domain, so it must be small when nearly empty: sorted arrays of at most 512 moments, in order.
    """

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: list[array[int]] = []

    def add(self, moment: int) -> None:
        """Put one `moment` in."""
        blocks = self._blocks
        if not blocks or (moment >= blocks[-1][-1] and len(blocks[-1]) >= _BLOCK):
            blocks.append(
                array("q", (moment,))
            )  # mostly moments come in order, and fill one block after the other
            return
        at = bisect_left(blocks, moment, 0, len(blocks) - 1, key=_last)
        block = blocks[at]
        insort(block, moment)
        if len(block) > _BLOCK:  # two new arrays, as one that is cut keeps its memory
            blocks[at : at + 1] = block[:_HALF], block[_HALF:]

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
