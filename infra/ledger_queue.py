"""A doorbell for workers in processes of their own: they find their work through the ledger."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from shared.ledger import Ledger
from shared.ports import Lane

LOOK_S = 0.25  # how often an idle worker lists the open jobs
SKIP_S = 5.0  # for how long an id that was taken is not offered again: it is running, or another worker has it
LOOK_AHEAD = 64  # ids noted by one listing


class LedgerQueue:
    """Offers the ids of open jobs, oldest first, lane by lane. Needs no ring, so it loses none."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._offers: deque[str] = deque()
        self._offered_at: dict[str, float] = {}
        self._looked_at = -LOOK_S
        self._woken = threading.Event()

    def ring(self, ids: Sequence[str], lane: Lane) -> None:
        """Nothing to do: the ledger already shows these jobs."""

    def take(self) -> str | None:
        """The next id that may be worth a claim, or None."""
        if not self._offers and self._clock() - self._looked_at >= LOOK_S:
            self._look()
        if not self._offers:
            return None
        job_id = self._offers.popleft()
        self._offered_at[job_id] = self._clock()
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
        for lane in Lane:
            for marker in self._ledger.open_markers(lane):
                if len(self._offers) >= LOOK_AHEAD:
                    return
                if marker.job_id not in self._offered_at:
                    self._offers.append(marker.job_id)
