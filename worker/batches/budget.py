"""What a batch has in hand, and how many rows more its means allow."""

import math
from dataclasses import dataclass

from shared.domain.batch import Batch, Tally
from shared.repositories.batches import BatchRepository
from shared.repositories.caller_usage import UsageRepository

NO_BOUND = 1_000_000


@dataclass(frozen=True, slots=True)
class BatchBudget:
    """A batch with what its rows have come to.

    jobs: how many are unfinished. row_usd: what one costs, as a guess; is_known: whether some have shown it.
    """

    batch: Batch
    jobs: int
    spent_usd: float
    row_usd: float
    is_known: bool

    @classmethod
    def of(cls, batch: Batch, since_folded: Tally) -> "BatchBudget":
        """By the record, and by the rows that have ended since it was written."""
        tally = batch.tally.plus(since_folded)
        seen = batch.succeeded_before.plus(tally)
        if seen.succeeded:
            row_usd = seen.cost_usd / seen.succeeded
        else:
            row_usd = batch.estimate.cost_usd / batch.runs if batch.estimate and batch.runs else 0.0
        return cls(batch, batch.claimed_runs - tally.rows, seen.cost_usd, row_usd, seen.succeeded > 0)

    def affordable(self) -> int:
        """How many more rows what is left of the budget pays for, those in hand paid first."""
        if self.batch.limits.max_cost_usd is None:
            return NO_BOUND
        left = self.batch.limits.max_cost_usd - self.spent_usd - self.jobs * self.row_usd
        if left <= 0:
            return 0
        if self.row_usd > 0:
            return math.floor(left / self.row_usd + 1e-9)
        # Rows cost nothing; or nobody knows yet, and a first one has to show it.
        return NO_BOUND if self.is_known else max(0, 1 - self.jobs)

    def is_exhausted(self) -> bool:
        """Whether nothing in hand can change that no further row can be paid for."""
        return self.jobs == 0 and self.affordable() <= 0

    def allowed_today(self, batches: BatchRepository) -> int:
        """How many more rows the caller's limits of a day allow: any, or none until midnight UTC."""
        bounds = self.batch.limits
        if bounds.gpu_seconds_per_day is None and bounds.usd_per_day is None:
            return NO_BOUND
        used = UsageRepository(batches.store).today(self.batch.caller, batches.now())
        is_spent = (bounds.gpu_seconds_per_day is not None and used.gpu_seconds >= bounds.gpu_seconds_per_day) or (
            bounds.usd_per_day is not None and used.cost_usd >= bounds.usd_per_day
        )
        return 0 if is_spent else NO_BOUND
