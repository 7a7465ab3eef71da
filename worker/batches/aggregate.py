"""Aggregate a batch: count its ended rows into the record, in their order, and put their results into the cache."""

from collections.abc import Callable
from typing import Any

from shared.domain.batch import Batch
from shared.domain.job import Status
from shared.repositories.batch_row_status import RowStatuses, tally_of
from shared.repositories.batch_rows import Row, job_id_of
from shared.storage import keys
from worker.batches.rows import BatchRows


def aggregate(rows: BatchRows, batch: Batch, statuses: RowStatuses, at: Callable[[str], None]) -> Batch:
    """Raise `aggregated` up to the first row that has not ended; return the present record.

    Args:
        rows: the rows of the batch.
        batch: its record.
        statuses: its row statuses from `aggregated` on.
        at: called at crash points.
    """
    ended: list[Row] = []
    end = batch.aggregated
    for row in rows.read(batch, batch.aggregated, batch.claimed):
        if rows.runs(row, statuses):
            if not _has_ended_for_good(rows, batch, row, statuses):
                break
            ended.append(row)
        end = row.number + 1
    if end == batch.aggregated:
        return batch
    succeeded = [row for row in ended if _status(row, statuses) == "succeeded"]
    rows.in_parallel(lambda row: _cache_result(rows, batch, row), succeeded)
    tally = tally_of(statuses.statuses[row.number] for row in ended)
    at("aggregate:before")

    def count(present: Batch) -> dict[str, Any] | None:
        if (present.run_number, present.aggregated) != (batch.run_number, batch.aggregated):
            return None
        return {"aggregated": end, "tally": present.tally.plus(tally)}

    return rows.change(batch, count)


def _status(row: Row, statuses: RowStatuses) -> str:
    return statuses.statuses[row.number].status if row.number in statuses.statuses else ""


def _has_ended_for_good(rows: BatchRows, batch: Batch, row: Row, statuses: RowStatuses) -> bool:
    """Return whether a row's status is final. A row that was to be skipped may have started and run to its end."""
    if _status(row, statuses) != "skipped":
        return rows.has_ended(row, statuses)
    held = rows.jobs.find(job_id_of(batch, row.number))
    if held is None or not held.record.status.is_terminal:
        return False
    if held.record.status in (Status.SUCCEEDED, Status.FAILED) and held.record.run_number == batch.run_number:
        rows.markers.record(held.record)
        return False  # the next call reads its new marker
    return True


def _cache_result(rows: BatchRows, batch: Batch, row: Row) -> None:
    """Remember which job made what this row asks for, so that a later batch reuses its files."""
    job_id = job_id_of(batch, row.number).encode()
    rows.batches.store.put(keys.cached_result(batch.caller, row.digest), job_id, content_type="text/plain")
