"""Tends all batches: feeds those that run, plans those that are new, tells of those that have changed."""

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

WINDOW = 512  # unfinished jobs of all batches together, shared evenly by the callers that have some
LEAST_SHARE = 16
FORGOTTEN_AFTER = timedelta(days=7)
PLAN_S = 10.0  # how long one batch is planned before the others get their turn
_FED = (BatchStatus.RUNNING, BatchStatus.PAUSED, BatchStatus.ENDING)


@dataclass(frozen=True, slots=True)
class BatchScheduler:
    """Looks after batches. window: how many of their jobs may be unfinished at once. seconds: a monotonic clock."""

    planner: Planner
    feeder: BatchDispatcher
    window: int = WINDOW
    seconds: Callable[[], float] = time.monotonic

    def run_for(self, seconds: float) -> None:
        """Feed once, then plan, and feed what was planned, until nothing is to be planned or so much time is over.

        Raises:
            StoreError: the store does not answer; the next time goes on.
        """
        ends_at = self.seconds() + seconds
        self.dispatch()
        while self.plan() and self.seconds() < ends_at:
            self.dispatch()

    def dispatch(self) -> None:
        """Feed every batch that runs, once; tell of those that have changed; clear up. Raises StoreError."""
        batches = list(self.feeder.batches.unfinished())
        self._feed([batch for batch in batches if batch.status in _FED])
        for batch in batches:
            if batch.status.is_terminal or batch.notification_pending:
                self._tell(batch)
            elif self._is_forgotten(batch):
                self._cancel(batch)
        self.feeder.batches.purge_expired()

    def plan(self) -> bool:
        """Bring one batch of each caller nearer to its plan; whether that brought anything on. Raises StoreError.

        Callers take turns, whoever has sent more catalogs.
        """
        has_more, planned_for = False, set[str]()
        for batch in self.feeder.batches.unfinished():
            if batch.status is BatchStatus.PLANNING and batch.caller not in planned_for:
                planned_for.add(batch.caller)
                has_more |= self._guarded(batch, self._plan)
        return has_more

    def _feed(self, batches: list[Batch]) -> None:
        callers = {batch.caller for batch in batches if batch.has_room}
        share = max(min(LEAST_SHARE, self.window), self.window // max(1, len(callers)))
        rooms: dict[str, int] = defaultdict(lambda: share)
        for batch in batches:
            self._guarded(batch, partial(self._feed_one, rooms))

    def _feed_one(self, rooms: dict[str, int], batch: Batch) -> bool:
        fed = self.feeder.dispatch(batch, rooms[batch.caller])
        rooms[batch.caller] -= self.feeder.unfinished(fed)
        if fed.status is not batch.status:
            log("batch.changed", batch_id=batch.id, status=fed.status, stop=fed.stop)
        if fed.notification_pending or fed.status.is_terminal:
            self._tell(fed)
        return False

    def _plan(self, batch: Batch) -> bool:
        """Plan a batch for PLAN_S; whether that brought it on."""
        began = self.seconds()
        self.planner.plan(batch, may_go_on=lambda: self.seconds() - began < PLAN_S)
        planned = self.feeder.batches.find(batch.id)
        if planned is None:
            return False
        if planned.notification_pending:
            self._tell(planned)
        return planned.planned > batch.planned or planned.status is not BatchStatus.PLANNING

    def _guarded(self, batch: Batch, do: Callable[[Batch], bool]) -> bool:
        """What one batch meets must not keep the others from their turn; a store that is silent is everybody's."""
        try:
            return do(batch)
        except (StoreUnavailable, StoreRefused):
            raise
        except Exception:  # noqa: BLE001 - a bug that one catalog meets, or a record of a newer version
            log("batch.crashed", level=logging.ERROR, exc_info=True, batch_id=batch.id)
            return False

    def _is_forgotten(self, batch: Batch) -> bool:
        """Whether a batch has waited so long for a yes that none will come."""
        waits = batch.status is BatchStatus.AWAITING_CONFIRMATION and batch.planned_at is not None
        return waits and self.feeder.batches.now() - (batch.planned_at or batch.created_at) > FORGOTTEN_AFTER

    def _cancel(self, batch: Batch) -> None:
        batches = self.feeder.batches
        if canceled := batches.change(batch.id, lambda now: cancel(now, batches.now())):
            self._tell(canceled)

    def _tell(self, batch: Batch) -> None:
        if self.feeder.batches.announce(batch):
            self.feeder.jobs.announced()
