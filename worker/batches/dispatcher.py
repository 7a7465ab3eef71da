"""Feeds a batch: its rows become jobs, a window at a time, until all have had their turn or it has to stop.

Every step is a change of the record by compare-and-set, with the work that it promises done before or after it so that
a feeder killed anywhere repeats nothing: rows are claimed first, then given their jobs under ids that follow from the
batch and the row, then noted as fed. Any number of feeders may be at it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from shared.domain.batch import Batch, BatchStatus, finish, stop
from shared.domain.fair_queuing import tier_of
from shared.domain.job import Lane, Status
from shared.errors import QueueUnavailable
from shared.log import log
from shared.repositories.batch_row_status import RowState, RowStatuses, RowStatusMarkers, tally_of
from shared.repositories.batch_rows import Row, job_id_of
from shared.repositories.batches import BatchRepository
from shared.repositories.jobs import JobRepository
from shared.storage import keys
from shared.storage.ports import JobQueue
from worker.batches.budget import BatchBudget
from worker.batches.row_jobs import RowStore

SPREAD_ROWS = 1_000  # how far the claimed rows may be ahead of the first that has not ended: bounds every listing
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class BatchDispatcher:
    """Feeds batches, one at a time. at: called with a name where a crash matters."""

    batches: BatchRepository
    jobs: JobRepository
    queue: JobQueue
    at: Callable[[str], None] = lambda _: None
    _marks: RowStatusMarkers = field(init=False)
    _segments: RowStore = field(init=False)

    def __post_init__(self) -> None:
        """Open what lies in the store."""
        object.__setattr__(self, "_marks", RowStatusMarkers(self.batches.store))
        object.__setattr__(self, "_segments", RowStore(self.batches.store))

    def dispatch(self, batch: Batch, room: int) -> Batch:
        """Bring a batch as far as it will go now, with `room` jobs in hand at most; the batch as it stands then.

        Raises:
            StoreError: the store does not answer; the next feeding goes on where this one ended.
        """
        batch = self._filled(batch)
        marks = self._marks.read(batch, first=batch.aggregated, end=batch.claimed)
        batch = self._stopped(batch, marks)
        if batch.status is BatchStatus.ENDING:
            self._cancel_waiting(batch, marks)
            marks = self._marks.read(batch, first=batch.aggregated, end=batch.claimed)
        batch = self._folded(batch, marks)
        if batch.has_room:
            batch = self._filled(self._claimed(batch, marks, room))
        return self._change(batch, lambda now: finish(now, self.batches.now()))

    def unfinished(self, batch: Batch) -> int:
        """How many jobs of a batch are unfinished, as far as the record says: a few may have ended since."""
        return batch.claimed_runs - batch.tally.rows

    # --- stopping

    def _stopped(self, batch: Batch, marks: RowStatuses) -> Batch:
        """Stop a batch that has come to one of its bounds."""
        bounds = batch.limits
        tally = batch.tally.plus(tally_of(_since_folded(batch, marks)))
        if bounds.max_cost_usd is not None and batch.succeeded_before.cost_usd + tally.cost_usd >= bounds.max_cost_usd:
            return self._change(batch, lambda now: stop(now, "budget"))
        if bounds.max_failures is not None and tally.failed >= bounds.max_failures:
            return self._change(batch, lambda now: stop(now, "failures"))
        return batch

    def _cancel_waiting(self, batch: Batch, marks: RowStatuses) -> None:
        """Cancel the jobs in hand: all where the caller has canceled the batch, else those that have not begun."""
        waiting = [row for row in self._runs(batch, marks, batch.aggregated, batch.claimed) if not _ended(marks, row)]
        self._at_once(lambda row: self._cancel(batch, row), waiting)

    def _cancel(self, batch: Batch, row: Row) -> None:
        found = self.jobs.find(job_id_of(batch, row.number))
        if found is None or found.record.status.is_terminal:
            return
        if batch.stop != "canceled":
            if found.record.status is not Status.QUEUED:
                return
            self._marks.record_skipped(found.record)
        self.jobs.cancel(found.record.id)

    # --- folding

    def _folded(self, batch: Batch, marks: RowStatuses) -> Batch:
        """Count the rows that have ended, in their order, into the record; remember what they have made."""
        ended: list[Row] = []
        end = batch.aggregated
        for row in self._segments.rows(batch, batch.aggregated, batch.claimed):
            if self._may_run(row, marks):
                if not self._has_ended(batch, row, marks):
                    break
                ended.append(row)
            end = row.number + 1
        if end == batch.aggregated:
            return batch
        self._at_once(
            lambda row: self._remember(batch, row), [row for row in ended if _word(marks, row) == "succeeded"]
        )
        tally = tally_of(marks.statuses[row.number] for row in ended)
        self.at("fold:before")

        def folded(now: Batch) -> dict[str, Any] | None:
            if (now.run_number, now.aggregated) != (batch.run_number, batch.aggregated):
                return None
            return {"aggregated": end, "tally": now.tally.plus(tally)}

        return self._change(batch, folded)

    def _has_ended(self, batch: Batch, row: Row, marks: RowStatuses) -> bool:
        """Whether a row's standing is final: one that was skipped may have run to its end all the same."""
        if _word(marks, row) != "skipped":
            return _ended(marks, row)
        found = self.jobs.find(job_id_of(batch, row.number))
        if found is None or not found.record.status.is_terminal:
            return False
        if found.record.status in (Status.SUCCEEDED, Status.FAILED) and found.record.run_number == batch.run_number:
            self._marks.record(found.record)
            return False  # its mark is read the next time
        return True

    def _remember(self, batch: Batch, row: Row) -> None:
        job_id = job_id_of(batch, row.number).encode()
        self.batches.store.put(keys.cached_result(batch.caller, row.digest), job_id, content_type="text/plain")

    # --- claiming

    def _claimed(self, batch: Batch, marks: RowStatuses, room: int) -> Batch:
        """Claim further rows, as many as there is room for, and means."""
        hand = BatchBudget.of(batch, tally_of(_since_folded(batch, marks)))
        may = min(room - hand.jobs, hand.affordable(), hand.allowed_today(self.batches))
        if may <= 0:
            if hand.is_exhausted():
                return self._change(batch, lambda now: stop(now, "budget"))
            return batch
        limit = min(batch.planned, batch.aggregated + SPREAD_ROWS)
        made = self._marks.read(batch, first=batch.claimed, end=limit) if batch.run_number else RowStatuses()
        end, runs = batch.claimed, 0
        for row in self._segments.rows(batch, batch.claimed, limit):
            if self._may_run(row, made):
                if runs == may:
                    break
                runs += 1
            end = row.number + 1

        def claimed(now: Batch) -> dict[str, Any] | None:
            if (now.run_number, now.claimed) != (
                batch.run_number,
                batch.claimed,
            ) or now.status is not BatchStatus.RUNNING:
                return None
            return {"claimed": end, "claimed_runs": now.claimed_runs + runs}

        self.at("claim:before")
        changed = self._change(batch, claimed)
        self.at("claim:after")
        return changed

    def _filled(self, batch: Batch) -> Batch:
        """See that every claimed row has its job, then note that."""
        if batch.dispatched == batch.claimed or batch.status.is_terminal:
            return batch
        marks = (
            self._marks.read(batch, first=batch.dispatched, end=batch.claimed) if batch.run_number else RowStatuses()
        )
        rows = list(self._runs(batch, marks, batch.dispatched, batch.claimed))
        with self._segments.filling(batch, self.jobs) as filling:
            fed = [job_id for job_id in self._at_once(filling.ensure, rows) if job_id]
        self.at("feed:before")
        self._ring(batch, fed)

        def filled(now: Batch) -> dict[str, Any] | None:
            if now.run_number != batch.run_number or now.dispatched >= batch.claimed:
                return None
            return {"dispatched": batch.claimed}

        return self._change(batch, filled)

    def _ring(self, batch: Batch, job_ids: list[str]) -> None:
        ahead = max(0, batch.claimed_runs - batch.tally.rows - len(job_ids))
        waves = groupby(enumerate(job_ids), key=lambda placed: tier_of(ahead + placed[0]))
        try:
            for wave, some in waves:
                self.queue.enqueue([job_id for _, job_id in some], Lane.BATCH, tier=wave)
        except QueueUnavailable as error:
            log("batch.not_rung", level=logging.WARNING, batch_id=batch.id, reason=str(error))

    # --- rows and their marks

    def _runs(self, batch: Batch, marks: RowStatuses, first: int, end: int) -> Iterator[Row]:
        return (row for row in self._segments.rows(batch, first, end) if self._may_run(row, marks))

    def _may_run(self, row: Row, marks: RowStatuses) -> bool:
        return row.may_run and row.number not in marks.succeeded

    def _at_once(self, do: Callable[[Row], Any], rows: Iterable[Row]) -> list[Any]:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="feed") as threads:
            return list(threads.map(do, rows))

    def _change(self, batch: Batch, fields: Callable[[Batch], dict[str, Any] | None]) -> Batch:
        return self.batches.change(batch.id, fields) or batch


def _since_folded(batch: Batch, marks: RowStatuses) -> Iterator[RowState]:
    """How the rows stand that are not folded yet; the marks may have been read before some were."""
    return (standing for row, standing in marks.statuses.items() if row >= batch.aggregated)


def _word(marks: RowStatuses, row: Row) -> str:
    return marks.statuses[row.number].status if row.number in marks.statuses else ""


def _ended(marks: RowStatuses, row: Row) -> bool:
    return row.number in marks.statuses and marks.statuses[row.number].has_ended
