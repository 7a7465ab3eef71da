"""Dispatch a batch: claim its next rows, create their jobs, enqueue them; count what has ended; stop at its limits.

A row's path, in the record's cursors: `claimed` passes it when it may have a job (here), `dispatched` when its job
surely exists and was enqueued (here), `aggregated` when its job has ended and is counted in `tally` (aggregate.py).
Between the last two only its status markers show its progress. Each step changes the record by compare-and-set, and
a job's id follows from batch and row: a dispatcher that is killed at any point repeats nothing, and several
dispatchers may work on one batch.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from shared.domain.batch import Batch, BatchStatus, finish, stop
from shared.domain.job import Lane, tier_of
from shared.errors import QueueUnavailable
from shared.log import log
from shared.repositories.batch_row_status import RowStatuses
from shared.repositories.batches import BatchRepository
from shared.repositories.jobs import JobRepository
from shared.storage.ports import JobQueue
from worker.batches.aggregate import aggregate
from worker.batches.limits import BatchBudget, cancel_waiting, stop_at_limits
from worker.batches.rows import BatchRows, RowJobFactory

MAX_SPREAD_ROWS = 1_000  # claimed rows past the first that has not ended: bounds every listing of markers


@dataclass(frozen=True, slots=True)
class BatchDispatcher:
    """Dispatches batches, one at a time. at: called at crash points."""

    batches: BatchRepository
    jobs: JobRepository
    queue: JobQueue
    at: Callable[[str], None] = lambda _: None
    _rows: BatchRows = field(init=False)

    def __post_init__(self) -> None:
        """Open the rows."""
        object.__setattr__(self, "_rows", BatchRows(self.batches, self.jobs))

    def dispatch(self, batch: Batch, max_jobs: int) -> Batch:
        """Bring a batch as far as it can go now, with at most `max_jobs` unfinished jobs; return its present record.

        Raises:
            StoreError: the store does not answer; the next call continues where this one ended.
        """
        batch = self._create_jobs(batch)  # of rows that a killed dispatcher claimed
        statuses = self._rows.read_statuses(batch, batch.aggregated, batch.claimed)
        batch = stop_at_limits(self._rows, batch, statuses)
        if batch.status is BatchStatus.ENDING:
            cancel_waiting(self._rows, batch, statuses)
            statuses = self._rows.read_statuses(batch, batch.aggregated, batch.claimed)
        batch = aggregate(self._rows, batch, statuses, self.at)
        if batch.has_room:
            batch = self._create_jobs(self._claim(batch, statuses, max_jobs))
        return self._rows.change(batch, lambda present: finish(present, self.batches.now()))

    def count_unfinished(self, batch: Batch) -> int:
        """Count a batch's unfinished jobs by its record; a few of them may have ended since."""
        return batch.claimed_runs - batch.tally.rows

    def _claim(self, batch: Batch, statuses: RowStatuses, max_jobs: int) -> Batch:
        """Raise `claimed` past as many further rows as `max_jobs` and the batch's limits allow."""
        budget = BatchBudget.of(batch, statuses)
        allowed = min(max_jobs - budget.unfinished, budget.affordable(), budget.allowed_today(self.batches))
        if allowed <= 0:
            if budget.is_exhausted():
                return self._rows.change(batch, lambda present: stop(present, "budget"))
            return batch
        limit = min(batch.planned, batch.aggregated + MAX_SPREAD_ROWS)
        earlier = self._rows.read_earlier_statuses(batch, batch.claimed, limit)
        end, runs = batch.claimed, 0
        for row in self._rows.read(batch, batch.claimed, limit):
            if self._rows.runs(row, earlier):
                if runs == allowed:
                    break
                runs += 1
            end = row.number + 1

        def claim(present: Batch) -> dict[str, Any] | None:
            is_unchanged = (present.run_number, present.claimed) == (batch.run_number, batch.claimed)
            if not is_unchanged or present.status is not BatchStatus.RUNNING:
                return None
            return {"claimed": end, "claimed_runs": present.claimed_runs + runs}

        self.at("claim:before")
        changed = self._rows.change(batch, claim)
        self.at("claim:after")
        return changed

    def _create_jobs(self, batch: Batch) -> Batch:
        """Create and enqueue the job of every claimed row that may lack one, then raise `dispatched`."""
        if batch.dispatched == batch.claimed or batch.status.is_terminal:
            return batch
        earlier = self._rows.read_earlier_statuses(batch, batch.dispatched, batch.claimed)
        rows = self._rows.read_running(batch, earlier, batch.dispatched, batch.claimed)
        factory = RowJobFactory.open(batch, self.jobs)
        job_ids = [job_id for job_id in self._rows.in_parallel(factory.ensure, rows) if job_id]
        self.at("enqueue:before")
        self._enqueue(batch, job_ids)

        def mark_dispatched(present: Batch) -> dict[str, Any] | None:
            if present.run_number != batch.run_number or present.dispatched >= batch.claimed:
                return None
            return {"dispatched": batch.claimed}

        return self._rows.change(batch, mark_dispatched)

    def _enqueue(self, batch: Batch, job_ids: list[str]) -> None:
        """Enqueue jobs, the later ones of a large batch in lower priority tiers; the reconciler repeats what fails."""
        ahead = max(0, self.count_unfinished(batch) - len(job_ids))
        tiers = groupby(enumerate(job_ids), key=lambda item: tier_of(ahead + item[0]))
        try:
            for tier, items in tiers:
                self.queue.enqueue([job_id for _, job_id in items], Lane.BATCH, tier=tier)
        except QueueUnavailable as error:
            log("batch.enqueue_failed", level=logging.WARNING, batch_id=batch.id, reason=str(error))
