"""Schedule all batches: plan the new ones, dispatch the running ones, announce those that have changed."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from shared.domain.batch import Batch, BatchStatus, cancel
from shared.errors import StoreRefused, StoreUnavailable
from shared.log import log
from worker.batches.dispatcher import BatchDispatcher
from worker.batches.planner import Planner

WINDOW = 512  # unfinished jobs of all batches together, shared evenly by the callers that have rows left
MIN_SHARE = 16
CONFIRMATION_EXPIRES_AFTER = timedelta(days=7)
PLAN_S = 10.0  # how long one batch is planned before the next one's turn
_DISPATCHED = (BatchStatus.RUNNING, BatchStatus.PAUSED, BatchStatus.ENDING)


@dataclass(frozen=True, slots=True)
class BatchScheduler:
    """Plans and dispatches batches. window: their unfinished jobs at most. seconds: a monotonic clock."""

    planner: Planner
    dispatcher: BatchDispatcher
    window: int = WINDOW
    seconds: Callable[[], float] = time.monotonic

    def run_for(self, seconds: float) -> None:
        """Dispatch once; then plan and dispatch until nothing is left to plan or the time is over.

        Raises:
            StoreError: the store does not answer; the next call continues.
        """
        ends_at = self.seconds() + seconds
        self.dispatch()
        while self.plan() and self.seconds() < ends_at:
            self.dispatch()

    def dispatch(self) -> None:
        """Dispatch every running batch once; announce changes; cancel unconfirmed and purge expired batches.

        Raises:
            StoreError: the store does not answer.
        """
        batches = list(self.dispatcher.batches.unfinished())
        self._dispatch_fairly([batch for batch in batches if batch.status in _DISPATCHED])
        for batch in batches:
            if batch.status.is_terminal or batch.notification_pending:
                self._announce(batch)
            elif self._has_expired_unconfirmed(batch):
                self._cancel(batch)
        self.dispatcher.batches.purge_expired()

    def plan(self) -> bool:
        """Plan one batch of each caller for PLAN_S; return whether one of them got further.

        Callers take turns, however many catalogs each has sent.

        Raises:
            StoreError: the store does not answer.
        """
        has_progress, planned_callers = False, set[str]()
        for batch in self.dispatcher.batches.unfinished():
            if batch.status is BatchStatus.PLANNING and batch.caller not in planned_callers:
                planned_callers.add(batch.caller)
                has_progress |= self._isolated(batch, self._plan_batch)
        return has_progress

    def _dispatch_fairly(self, batches: list[Batch]) -> None:
        callers = {batch.caller for batch in batches if batch.has_room}
        share = max(min(MIN_SHARE, self.window), self.window // max(1, len(callers)))
        shares: dict[str, int] = defaultdict(lambda: share)
        for batch in batches:
            self._isolated(batch, partial(self._dispatch_batch, shares))

    def _dispatch_batch(self, shares: dict[str, int], batch: Batch) -> bool:
        """Dispatch a batch and take its unfinished jobs from its caller's share."""
        dispatched = self.dispatcher.dispatch(batch, shares[batch.caller])
        shares[batch.caller] -= self.dispatcher.count_unfinished(dispatched)
        if dispatched.status is not batch.status:
            log("batch.changed", batch_id=batch.id, status=dispatched.status, stop=dispatched.stop)
        if dispatched.notification_pending or dispatched.status.is_terminal:
            self._announce(dispatched)
        return False

    def _plan_batch(self, batch: Batch) -> bool:
        started_at = self.seconds()
        self.planner.plan(batch, may_continue=lambda: self.seconds() - started_at < PLAN_S)
        planned = self.dispatcher.batches.find(batch.id)
        if planned is None:
            return False
        if planned.notification_pending:
            self._announce(planned)
        return planned.planned > batch.planned or planned.status is not BatchStatus.PLANNING

    def _isolated(self, batch: Batch, do: Callable[[Batch], bool]) -> bool:
        """Do something to one batch; its bugs must not stop the others, but a store that fails concerns them all."""
        try:
            return do(batch)
        except (StoreUnavailable, StoreRefused):
            raise
        except Exception:  # noqa: BLE001 - a bug that one catalog meets, or a record of a newer version
            log("batch.crashed", level=logging.ERROR, exc_info=True, batch_id=batch.id)
            return False

    def _has_expired_unconfirmed(self, batch: Batch) -> bool:
        waits = batch.status is BatchStatus.AWAITING_CONFIRMATION and batch.planned_at is not None
        waited = self.dispatcher.batches.now() - (batch.planned_at or batch.created_at)
        return waits and waited > CONFIRMATION_EXPIRES_AFTER

    def _cancel(self, batch: Batch) -> None:
        batches = self.dispatcher.batches
        if canceled := batches.change(batch.id, lambda present: cancel(present, batches.now())):
            self._announce(canceled)

    def _announce(self, batch: Batch) -> None:
        if self.dispatcher.batches.announce(batch):
            self.dispatcher.jobs.announced()
