"""The limits of a batch: stop it at its budget or at too many failures; say how many further rows may run."""

import math
from dataclasses import dataclass

from shared.domain.batch import Batch, Tally, stop
from shared.domain.job import Status
from shared.repositories.batch_row_status import RowStatuses, tally_of
from shared.repositories.batch_rows import Row, job_id_of
from shared.repositories.batches import BatchRepository
from shared.repositories.caller_usage import UsageRepository
from worker.batches.rows import BatchRows

UNLIMITED = 1_000_000


def stop_at_limits(rows: BatchRows, batch: Batch, statuses: RowStatuses) -> Batch:
    """Stop a batch that has reached one of its limits; return the present record."""
    limits = batch.limits
    tally = _tally(batch, statuses)
    if limits.max_cost_usd is not None and batch.succeeded_before.cost_usd + tally.cost_usd >= limits.max_cost_usd:
        return rows.change(batch, lambda present: stop(present, "budget"))
    if limits.max_failures is not None and tally.failed >= limits.max_failures:
        return rows.change(batch, lambda present: stop(present, "failures"))
    return batch


def cancel_waiting(rows: BatchRows, batch: Batch, statuses: RowStatuses) -> None:
    """Cancel the unfinished jobs of an ending batch: all if its caller canceled it, else those that still wait."""

    def cancel(row: Row) -> None:
        held = rows.jobs.find(job_id_of(batch, row.number))
        if held is None or held.record.status.is_terminal:
            return
        if batch.stop != "canceled":
            if held.record.status is not Status.QUEUED:
                return
            rows.markers.record_skipped(held.record)
        rows.jobs.cancel(held.record.id)

    running = rows.read_running(batch, statuses, batch.aggregated, batch.claimed)
    rows.in_parallel(cancel, [row for row in running if not rows.has_ended(row, statuses)])


@dataclass(frozen=True, slots=True)
class BatchBudget:
    """A batch, and what its rows have cost so far.

    unfinished: jobs. row_usd: the cost of one row: the mean of those that succeeded (then is_measured), else the
    estimate.
    """

    batch: Batch
    unfinished: int
    spent_usd: float
    row_usd: float
    is_measured: bool

    @classmethod
    def of(cls, batch: Batch, statuses: RowStatuses) -> "BatchBudget":
        """Sum up the record and the rows that have ended since it was written."""
        tally = _tally(batch, statuses)
        total = batch.succeeded_before.plus(tally)
        if total.succeeded:
            row_usd = total.cost_usd / total.succeeded
        else:
            row_usd = batch.estimate.cost_usd / batch.runs if batch.estimate and batch.runs else 0.0
        return cls(batch, batch.claimed_runs - tally.rows, total.cost_usd, row_usd, total.succeeded > 0)

    def affordable(self) -> int:
        """Count the further rows that the rest of the budget pays for, after the unfinished ones are paid."""
        if self.batch.limits.max_cost_usd is None:
            return UNLIMITED
        left = self.batch.limits.max_cost_usd - self.spent_usd - self.unfinished * self.row_usd
        if left <= 0:
            return 0
        if self.row_usd > 0:
            return math.floor(left / self.row_usd + 1e-9)
        # Rows cost nothing; or their cost is unknown, and a first row has to show it.
        return UNLIMITED if self.is_measured else max(0, 1 - self.unfinished)

    def is_exhausted(self) -> bool:
        """Return whether no further row can be paid for, and no unfinished row can change that."""
        return self.unfinished == 0 and self.affordable() <= 0

    def allowed_today(self, batches: BatchRepository) -> int:
        """Count the further rows that the caller's daily limits allow: UNLIMITED, or none until midnight UTC."""
        limits = self.batch.limits
        if limits.gpu_seconds_per_day is None and limits.usd_per_day is None:
            return UNLIMITED
        used = UsageRepository(batches.store).today(self.batch.caller, batches.now())
        is_spent = (limits.gpu_seconds_per_day is not None and used.gpu_seconds >= limits.gpu_seconds_per_day) or (
            limits.usd_per_day is not None and used.cost_usd >= limits.usd_per_day
        )
        return 0 if is_spent else UNLIMITED


def _tally(batch: Batch, statuses: RowStatuses) -> Tally:
    """Sum up the record's tally and the ended rows past it; the statuses may be older than the record."""
    later = (status for row, status in statuses.statuses.items() if row >= batch.aggregated)
    return batch.tally.plus(tally_of(later))
