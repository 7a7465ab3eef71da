"""A doorbell for workers in processes of their own: they find their work through the ledger."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from infra.queues.priority import FairScheduler, QueuePartition
from shared.domain.job import Lane, tier_of
from shared.repositories.jobs import JobRepository, PendingMarker

LOOK_S = 0.25  # for how long a listing of the open jobs is believed
SKIP_S = 5.0  # for how long an id that was taken is not offered again: it is running, or another worker has it
LOOK_AHEAD = 64  # ids of one wave noted by one listing
LISTED = 2_000  # open jobs of one lane that a listing looks at


class PollingQueue:
    """Offers the ids of open jobs as a doorbell does, oldest first in each wave. Needs no ring, so it loses none."""

    def __init__(self, jobs: JobRepository, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs = jobs
        self._clock = clock
        self._order = FairScheduler()
        self._offers: dict[QueuePartition, deque[str]] = {}
        self._offered_at: dict[str, float] = {}
        self._looked_at = -LOOK_S
        self._last: tuple[QueuePartition, float] | None = None
        self._woken = threading.Event()

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:
        """Nothing to do: the ledger already shows these jobs."""

    def dequeue(self) -> str | None:
        """The next id that may be worth a claim, or None."""
        now = self._clock()
        if self._last and now - self._last[1] >= LOOK_S:  # whoever is back at once was refused: others run it
            self._order.record_dequeue(self._last[0])
        self._last = None
        if now - self._looked_at >= LOOK_S:
            self._look()
        shelf = next((shelf for shelf in self._order.next() if self._offers.get(shelf)), None)
        if shelf is None:
            return None
        self._last = shelf, now
        job_id = self._offers[shelf].popleft()
        self._offered_at[job_id] = now
        return job_id

    def wait(self, timeout_s: float) -> None:
        """Sleep until it is time to look again."""
        self._woken.wait(min(timeout_s, LOOK_S))

    def wake(self) -> None:
        """Let whoever waits look around once."""
        self._woken.set()

    def _look(self) -> None:
        self._looked_at = now = self._clock()
        self._offered_at = {job_id: at for job_id, at in self._offered_at.items() if now - at < SKIP_S}
        self._offers = {}
        for lane in self._order.lanes:
            for shelf, job_id in self._on_shelves(lane, islice(self._jobs.pending_markers(lane), LISTED)):
                offers = self._offers.setdefault(shelf, deque())
                if job_id not in self._offered_at and len(offers) < LOOK_AHEAD:
                    offers.append(job_id)

    def _on_shelves(self, lane: Lane, markers: Iterator[PendingMarker]) -> Iterator[tuple[QueuePartition, str]]:
        ahead: Counter[str] = Counter()
        for marker in markers:
            yield (lane, tier_of(ahead[marker.caller])), marker.job_id
            ahead[marker.caller] += 1
