"""A memory of the newest so many."""

from collections import OrderedDict
from typing import TypeVar

_V = TypeVar("_V")


class Recent(OrderedDict[int, _V]):
    """A dict that forgets its oldest entry when there would be more than `most`.

    It is not a plain dict, as finding the first entry of one takes longer with each that was deleted before it.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def put(self, key: int, value: _V) -> None:
        """Remember `value`, as the newest, in place of what may be there."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self.most:
            self.popitem(last=False)
