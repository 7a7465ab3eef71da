"""In which order a doorbell looks into its lanes."""

import itertools
import random
from collections.abc import Iterator, Sequence

from shared.ports import Lane

OTHER_END = 4  # every fourth look begins at the other end, so that no lane starves


class LaneOrder:
    """The interactive lane goes first, but every fourth look begins at the other end. Safe from any thread."""

    def __init__(self, first: int | None = None, lanes: Sequence[Lane] = tuple(Lane)) -> None:
        """`first` is which look this is to be; random if absent, since a process may not live to see its fourth."""
        self.lanes = list(lanes)
        self._looks: Iterator[int] = itertools.count(random.randrange(OTHER_END) if first is None else first)  # noqa: S311

    def next(self) -> list[Lane]:
        """The lanes, in the order of this look."""
        return self.lanes if (next(self._looks) + 1) % OTHER_END else self.lanes[::-1]
