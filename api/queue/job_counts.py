"""How many unfinished jobs each caller has in each lane: counted from the ledger's markers, now and then."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress

from shared.domain.job import Lane
from shared.errors import StoreError
from shared.repositories.jobs import JobRepository

COUNT_TTL_S = 2.0  # how old a count may be
LISTING_SHARE = 0.01  # of the time that counting may take while there are many


class JobCounts:
    """A count, and what this process has let in and rung for since. Safe from any thread.

    Whoever is to be let in and finds the count old makes a new one, while the others go on with the old one. Nobody
    waits for one to ring: there may be many thousands of jobs to list.
    """

    def __init__(
        self,
        jobs: JobRepository,
        *,
        monotonic: Callable[[], float],
        executor: Callable[[Callable[[], None]], object] = lambda count: count(),
    ) -> None:
        """`aside` runs a count while its caller goes on; here and now, if nothing else is said."""
        self._jobs = jobs
        self._aside = executor
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._listed: set[str] = set()
        self._open: Counter[tuple[str, Lane]] = Counter()
        self._admitted: Counter[str] = Counter()
        self._rung: defaultdict[tuple[str, Lane], set[str]] = defaultdict(set)
        self._count_again_at = float("-inf")

    def admit(self, caller: str, most: int) -> bool:
        """Count one job more of a caller's, in whichever lane; False where it has `most` already.

        Raises:
            StoreError: nothing could be counted.
        """
        self._count_if_old()
        with self._lock:
            if sum(self._open[caller, lane] for lane in Lane) + self._admitted[caller] >= most:
                return False
            self._admitted[caller] += 1
            return True

    def position_of_next(self, caller: str, lane: Lane, job_id: str) -> int:
        """How many jobs of the caller's lie before the one that it has just put into a lane; a guess, made at once."""
        with self._lock:
            rung = self._rung[caller, lane]
            place = self._open[caller, lane] + len(rung)
            if job_id in self._listed:  # it was put there just before the count
                place -= 1
            else:
                rung.add(job_id)
        if self._is_old():
            self._aside(self._count_aside)
        return place

    def _is_old(self) -> bool:
        return self._monotonic() >= self._count_again_at

    def _count_aside(self) -> None:
        with suppress(StoreError):  # an old count is better than no ring
            self._count_if_old()

    def _count_if_old(self) -> None:
        is_first = self._count_again_at == float("-inf")
        if not self._is_old() or not self._counting.acquire(blocking=is_first):
            return
        try:
            if self._is_old():
                self._count(self._monotonic())
        finally:
            self._counting.release()

    def _count(self, began: float) -> None:
        with self._lock:
            admitted, rung = Counter(self._admitted), set().union(*self._rung.values())
        listed = {marker.job_id: (marker.caller, marker.lane) for marker in self._jobs.pending_markers()}
        took_s = self._monotonic() - began
        with self._lock:
            self._listed, self._open = set(listed), Counter(listed.values())
            self._admitted -= admitted  # they are in the ledger by now; what came meanwhile may count twice for a while
            for rung_since in self._rung.values():
                rung_since.difference_update(rung, listed)
            self._count_again_at = began + max(COUNT_TTL_S, took_s / LISTING_SHARE)
