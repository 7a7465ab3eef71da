"""How many unfinished jobs each caller has in each lane: counted from the ledger's markers, now and then."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from shared.errors import StoreError
from shared.ledger import Ledger
from shared.ports import Lane

COUNT_S = 2.0  # how old a count may be
LISTING_SHARE = 0.05  # of the time that counting may take while there are many


class OpenJobs:
    """A count, and what this process has let in and rung for since. Safe from any thread.

    Whoever finds the count old makes a new one, while the others go on with the old one.
    """

    def __init__(self, ledger: Ledger, *, monotonic: Callable[[], float]) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._open: Counter[tuple[str, Lane]] = Counter()
        self._admitted: Counter[str] = Counter()
        self._rung: Counter[tuple[str, Lane]] = Counter()
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

    def next_place(self, caller: str, lane: Lane) -> int:
        """How many jobs of the caller's lie before the one that it has just put into a lane; a guess, made quickly."""
        was_counted = False
        with suppress(StoreError):  # an old count is better than no ring
            was_counted = self._count_if_old()  # with this job
        with self._lock:
            place = self._open[caller, lane] + self._rung[caller, lane] - was_counted
            self._rung[caller, lane] += not was_counted
            return max(place, 0)

    def _count_if_old(self) -> bool:
        began = self._monotonic()
        is_first = self._count_again_at == float("-inf")
        if began < self._count_again_at or not self._counting.acquire(blocking=is_first):
            return False
        try:
            is_old = began >= self._count_again_at
            if is_old:
                self._count(began)
            return is_old
        finally:
            self._counting.release()

    def _count(self, began: float) -> None:
        with self._lock:
            admitted, rung = Counter(self._admitted), Counter(self._rung)
        found = Counter((marker.caller, marker.lane) for marker in self._ledger.open_markers())
        took_s = self._monotonic() - began
        with self._lock:
            self._open = found
            self._admitted -= admitted  # they are in the ledger by now; what came meanwhile may count twice for a while
            self._rung -= rung
            self._count_again_at = began + max(COUNT_S, took_s / LISTING_SHARE)
