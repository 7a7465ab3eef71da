"""Count each caller's unfinished jobs in each lane, from the pending markers."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress

from shared.domain.job import Lane
from shared.errors import StoreError
from shared.repositories.jobs import JobRepository

COUNT_TTL_S = 2.0  # maximum age of a count
LISTING_SHARE = 0.01  # maximum share of time spent counting when there are many jobs


class JobCounts:
    """A count, plus what this process has admitted and enqueued since. Thread-safe.

    One thread that admits a job renews an expired count while the others use the old one. Enqueuing never waits for a
    count: there may be many thousands of jobs to list.
    """

    def __init__(
        self,
        jobs: JobRepository,
        *,
        monotonic: Callable[[], float],
        executor: Callable[[Callable[[], None]], object] = lambda count: count(),
    ) -> None:
        """`executor` runs a count in the background; by default it runs at once."""
        self._jobs = jobs
        self._executor = executor
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._listed: set[str] = set()
        self._open: Counter[tuple[str, Lane]] = Counter()
        self._admitted: Counter[str] = Counter()
        self._enqueued: defaultdict[tuple[str, Lane], set[str]] = defaultdict(set)
        self._expires_at = float("-inf")

    def admit(self, caller: str, most: int) -> bool:
        """Admit one more job of a caller, in any lane; return False if it already has `most`.

        Raises:
            StoreError: nothing could be counted.
        """
        self._count_if_expired()
        with self._lock:
            if sum(self._open[caller, lane] for lane in Lane) + self._admitted[caller] >= most:
                return False
            self._admitted[caller] += 1
            return True

    def position_of_next(self, caller: str, lane: Lane, job_id: str) -> int:
        """Return how many of the caller's jobs precede the new one in its lane; an estimate without a store call."""
        with self._lock:
            enqueued = self._enqueued[caller, lane]
            position = self._open[caller, lane] + len(enqueued)
            if job_id in self._listed:  # it was stored just before the count
                position -= 1
            else:
                enqueued.add(job_id)
        if self._is_expired():
            self._executor(self._count_in_background)
        return position

    def _is_expired(self) -> bool:
        return self._monotonic() >= self._expires_at

    def _count_in_background(self) -> None:
        with suppress(StoreError):  # enqueue with an old count rather than not at all
            self._count_if_expired()

    def _count_if_expired(self) -> None:
        is_first = self._expires_at == float("-inf")
        if not self._is_expired() or not self._counting.acquire(blocking=is_first):
            return
        try:
            if self._is_expired():
                self._count(self._monotonic())
        finally:
            self._counting.release()

    def _count(self, started_at: float) -> None:
        with self._lock:
            admitted, enqueued = Counter(self._admitted), set().union(*self._enqueued.values())
        listed = {marker.job_id: (marker.caller, marker.lane) for marker in self._jobs.pending_markers()}
        took_s = self._monotonic() - started_at
        with self._lock:
            self._listed, self._open = set(listed), Counter(listed.values())
            self._admitted -= admitted  # listed by now; jobs that arrived meanwhile may count twice for a while
            for enqueued_since in self._enqueued.values():
                enqueued_since.difference_update(enqueued, listed)
            self._expires_at = started_at + max(COUNT_TTL_S, took_s / LISTING_SHARE)
