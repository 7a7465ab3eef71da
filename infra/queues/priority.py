"""In which order a job queue reads its lanes and their priority tiers."""

import threading
from collections.abc import Sequence

from shared.domain.job import TIERS, Lane

MAX_CONSECUTIVE = 3  # jobs of one lane before it yields once to the less urgent ones, so that none starves

QueuePartition = tuple[Lane, int]  # one tier of one lane


def order_of(lanes: Sequence[Lane]) -> list[QueuePartition]:
    """Order all partitions, the most urgent first.

    A lane is worth a tier: a caller's first standard jobs precede its ninth interactive one.
    """
    urgency = {lane: rank for rank, lane in enumerate(Lane)}
    partitions = [(lane, tier) for lane in lanes for tier in range(TIERS)]
    return sorted(partitions, key=lambda partition: (urgency[partition[0]] + partition[1], urgency[partition[0]]))


class FairScheduler:
    """Strict priority with a yield: a lane that had three dequeues in a row lets the lanes after it go first once.

    More urgent dequeues between them do not interrupt the row. So a single interactive job is always dequeued next,
    and every lane moves: of 16 dequeues a full interactive lane gets 12, standard 3, batch 1. Safe from any thread.
    """

    def __init__(self, lanes: Sequence[Lane] = tuple(Lane)) -> None:
        self.lanes = [lane for lane in Lane if lane in lanes]
        self._order = order_of(self.lanes)
        self._consecutive = dict.fromkeys(self.lanes, 0)
        self._counting = threading.Lock()

    def next(self) -> list[QueuePartition]:
        """Return the partitions, in the order in which the next dequeue reads them."""
        with self._counting:
            yielding = [lane for lane in reversed(self.lanes[:-1]) if self._consecutive[lane] >= MAX_CONSECUTIVE]
        first = [partition for partition in self._order if partition[0] not in yielding]
        return first + [partition for lane in yielding for partition in self._order if partition[0] is lane]

    def record_dequeue(self, partition: QueuePartition) -> None:
        """Count a dequeue from this partition; it ends the rows of the more urgent lanes."""
        lane = partition[0]
        with self._counting:
            self._consecutive.update(dict.fromkeys(self.lanes[: self.lanes.index(lane)], 0))
            self._consecutive[lane] += 1
