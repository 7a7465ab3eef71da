"""In which order a doorbell looks into its lanes and their waves."""

import threading
from collections.abc import Sequence

from shared.domain.job import TIERS, Lane

MAX_CONSECUTIVE = 3  # jobs of one lane before it gives way once to the less urgent ones, so that none starves

QueuePartition = tuple[Lane, int]  # one wave of one lane


def order_of(lanes: Sequence[Lane]) -> list[QueuePartition]:
    """All shelves, the most urgent first. A lane is worth a wave: first standard jobs precede ninth interactive."""
    urgency = {lane: place for place, lane in enumerate(Lane)}
    shelves = [(lane, wave) for lane in lanes for wave in range(TIERS)]
    return sorted(shelves, key=lambda shelf: (urgency[shelf[0]] + shelf[1], urgency[shelf[0]]))


class FairScheduler:
    """The most urgent shelf goes first; a lane that had three takes in a row gives way to those after it.

    More urgent takes between them do not break a lane's row. So a single interactive job is the next to be taken,
    whatever else waits, and every lane moves: of 16 takes a full interactive lane gets 12, standard 3, batch 1.
    Safe from any thread.
    """

    def __init__(self, lanes: Sequence[Lane] = tuple(Lane)) -> None:
        self.lanes = [lane for lane in Lane if lane in lanes]
        self._order = order_of(self.lanes)
        self._in_a_row = dict.fromkeys(self.lanes, 0)
        self._counting = threading.Lock()

    def next(self) -> list[QueuePartition]:
        """The shelves, in the order in which the next take looks into them."""
        with self._counting:
            giving_way = [lane for lane in reversed(self.lanes[:-1]) if self._in_a_row[lane] >= MAX_CONSECUTIVE]
        first = [shelf for shelf in self._order if shelf[0] not in giving_way]
        return first + [shelf for lane in giving_way for shelf in self._order if shelf[0] is lane]

    def record_dequeue(self, shelf: QueuePartition) -> None:
        """Note from where something was taken."""
        with self._counting:
            place = self.lanes.index(shelf[0])
            self._in_a_row.update(dict.fromkeys(self.lanes[:place], 0))
            self._in_a_row[shelf[0]] += 1
