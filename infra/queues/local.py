"""The job queues of the embedded service: in the memory of one process, and for workers in processes of their own."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from infra.queues.priority import FairScheduler, QueuePartition
from shared.domain.job import Lane, tier_of
from shared.repositories.job_reader import PendingMarker
from shared.repositories.jobs import JobRepository

LISTING_VALID_S = 0.25  # for how long a listing of the pending jobs is used
SKIP_S = 5.0  # for how long a dequeued id is not offered again: it runs here or elsewhere
OFFERS = 64  # ids of one partition that a listing keeps
LISTED = 2_000  # pending jobs of one lane that a listing reads


class MemoryQueue:
    """Ids by partition, each id once."""

    def __init__(self) -> None:
        self._order = FairScheduler()
        # Dicts keep the order and ignore a second enqueue of an id that still waits.
        self._partitions: dict[QueuePartition, dict[str, None]] = {partition: {} for partition in self._order.next()}
        self._partition_of: dict[str, QueuePartition] = {}
        self._changed = threading.Condition()

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:
        """Enqueue jobs and wake the waiting workers; an id that waits already moves to an earlier tier, if named."""
        with self._changed:
            for job_id in job_ids:
                present = self._partition_of.get(job_id)
                if present and present[1] > tier:
                    del self._partitions[present][job_id]
                if present is None or present[1] > tier:
                    self._partitions[lane, tier][job_id] = None
                    self._partition_of[job_id] = (lane, tier)
            self._changed.notify_all()

    def dequeue(self) -> str | None:
        """Dequeue an id, or return None. Never waits."""
        with self._changed:
            partition = next((partition for partition in self._order.next() if self._partitions[partition]), None)
            if partition is None:
                return None
            self._order.record_dequeue(partition)
            first = next(iter(self._partitions[partition]))
            del self._partitions[partition][first], self._partition_of[first]
            return first

    def wait(self, timeout_s: float) -> None:
        """Sleep until an enqueue, `timeout_s` at most; return at once where ids wait."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._partition_of), timeout_s)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


@dataclass(slots=True)
class PollingQueue:
    """The queue of workers in processes of their own: it reads the pending jobs from the store, oldest first in a tier.

    Nothing is enqueued, so nothing is lost."""

    jobs: JobRepository
    clock: Callable[[], float] = time.monotonic
    _order: FairScheduler = field(default_factory=FairScheduler)
    _offers: dict[QueuePartition, deque[str]] = field(default_factory=dict)
    _offered_at: dict[str, float] = field(default_factory=dict)
    _listed_at: float = -LISTING_VALID_S
    _last: tuple[QueuePartition, float] | None = None
    _woken: threading.Event = field(default_factory=threading.Event)

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:
        """Do nothing: the store already lists these jobs."""

    def dequeue(self) -> str | None:
        """Dequeue an id that a worker may claim, or return None."""
        now = self.clock()
        if self._last and now - self._last[1] >= LISTING_VALID_S:  # a worker that is back at once was refused the claim
            self._order.record_dequeue(self._last[0])
        self._last = None
        if now - self._listed_at >= LISTING_VALID_S:
            self._list_pending()
        partition = next((partition for partition in self._order.next() if self._offers.get(partition)), None)
        if partition is None:
            return None
        self._last = partition, now
        job_id = self._offers[partition].popleft()
        self._offered_at[job_id] = now
        return job_id

    def wait(self, timeout_s: float) -> None:
        """Sleep until the next listing."""
        self._woken.wait(min(timeout_s, LISTING_VALID_S))

    def wake(self) -> None:
        self._woken.set()

    def _list_pending(self) -> None:
        self._listed_at = now = self.clock()
        self._offered_at = {job_id: at for job_id, at in self._offered_at.items() if now - at < SKIP_S}
        self._offers = {}
        for lane in self._order.lanes:
            for partition, job_id in self._by_partition(lane, islice(self.jobs.pending_markers(lane), LISTED)):
                offers = self._offers.setdefault(partition, deque())
                if job_id not in self._offered_at and len(offers) < OFFERS:
                    offers.append(job_id)

    def _by_partition(self, lane: Lane, markers: Iterator[PendingMarker]) -> Iterator[tuple[QueuePartition, str]]:
        ahead: Counter[str] = Counter()
        for marker in markers:
            yield (lane, tier_of(ahead[marker.caller])), marker.job_id
            ahead[marker.caller] += 1
