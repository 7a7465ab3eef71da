"""Status of the rows of a batch as empty markers: the key holds the status, and one listing counts them.

A marker is created before the one that it replaces is deleted, if that is ever deleted. A row counts once, with the
highest rank of its markers of the current run, so every listing adds up to all rows, whatever crashes in between.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.domain.batch import Batch, Tally
from shared.domain.job import Job, Status
from shared.domain.job_transitions import JobListener
from shared.storage import keys
from shared.storage.ports import ObjectStore

_OUTCOMES = {
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.EXPIRED: "failed",
    Status.CANCELED: "canceled",
}
# The highest rank wins where a row has several: a job that succeeded was not skipped.
_RANKS = {"running": 0, "canceled": 1, "skipped": 2, "failed": 3, "succeeded": 4}


@dataclass(frozen=True, slots=True)
class RowState:
    """Status of one row in one run; gpu_seconds and cost_usd where it succeeded."""

    status: str
    gpu_seconds: float = 0.0
    cost_usd: float = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more, as a rule."""
        return self.status != "running"


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of rows of a batch by status; the last seven sum to `total`."""

    total: int
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    skipped: int = 0
    gpu_seconds: float = 0.0
    cost_usd: float = 0.0


@dataclass(slots=True)
class RowStatuses:
    """Status of a batch's rows from one row on. succeeded: rows that succeeded in an earlier run."""

    statuses: dict[int, RowState] = field(default_factory=dict)
    succeeded: set[int] = field(default_factory=set)


class RowStatusMarkers(JobListener):
    """Writes and reads status markers. Safe from any thread and any number of processes."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def on_claimed(self, job: Job) -> None:
        """Write the status marker of a batch's job."""
        self.record(job)

    def on_finished(self, job: Job) -> bool:
        """Write the status marker of a batch's job."""
        self.record(job)
        return False

    def record(self, job: Job) -> None:
        """Write the marker of a job's status, if it belongs to a batch and has started or ended."""
        if job.batch_id is None or job.batch_row is None:
            return
        if job.status is Status.RUNNING:
            self._put(job, f"running.{job.attempt}")
        elif job.status is Status.SUCCEEDED:
            used = f"{round(job.gpu_seconds * 1_000)}.{round(job.cost_usd * 1_000_000)}"
            self._put(job, f"succeeded.{used}")
        elif job.status.is_terminal:
            self._put(job, _OUTCOMES[job.status])

    def on_released(self, job: Job) -> None:
        """Delete the markers of running attempts: the last one was released, or its lease expired."""
        if job.batch_id is not None and job.batch_row is not None:
            for attempt in range(1, job.attempt + 1):
                self._store.delete(keys.row_status(job.batch_id, job.batch_row, job.run_number, f"running.{attempt}"))

    def record_skipped(self, job: Job) -> None:
        """Mark a row as not run because its batch stopped; before its job is canceled."""
        self._put(job, "skipped")

    def _put(self, job: Job, what: str) -> None:
        assert job.batch_id is not None  # noqa: S101 - checked by the caller
        assert job.batch_row is not None  # noqa: S101
        self._store.put(keys.row_status(job.batch_id, job.batch_row, job.run_number, what), b"")

    def read(self, batch: Batch, *, first: int, end: int) -> RowStatuses:
        """Return the status of the rows from `first` up to `end`: one listing."""
        marks = RowStatuses()
        for entry in self._store.list(keys.row_statuses(batch.id), after=keys.row_statuses_from(batch.id, first)):
            row, run_number, words = keys.read_row_status(entry.key)
            if row >= end:
                break
            if run_number == batch.run_number:
                state = _row_state(words)
                if row not in marks.statuses or _RANKS[state.status] > _RANKS[marks.statuses[row].status]:
                    marks.statuses[row] = state
            elif words[0] == "succeeded" and run_number < batch.run_number:
                marks.succeeded.add(row)
        return marks

    def counts(self, batch: Batch) -> Counts:
        """Count rows by status: what is aggregated in the record, and one listing of what is not."""
        if batch.claimed == batch.aggregated:
            return counted(batch, RowStatuses())
        return counted(batch, self.read(batch, first=batch.aggregated, end=batch.claimed))


def tally_of(states: Iterable[RowState]) -> Tally:
    """Count the outcomes of some rows, and add up what they used."""
    ended = [state for state in states if state.has_ended]
    return Tally(
        **Counter(state.status for state in ended),
        gpu_seconds=sum(state.gpu_seconds for state in ended),
        cost_usd=sum(state.cost_usd for state in ended),
    )


def counted(batch: Batch, marks: RowStatuses) -> Counts:
    """Count the rows of a batch; `marks` has the status of those from `aggregated` on.

    Unclaimed rows wait or, once the batch stops, count as canceled or skipped.
    """
    tally = batch.tally.plus(tally_of(marks.statuses.values()))
    running = sum(not state.has_ended for state in marks.statuses.values())
    waiting = batch.runs - tally.rows - running
    is_over = batch.stop is not None
    never = batch.runs - batch.claimed_runs if is_over else 0
    canceled = never if batch.stop == "canceled" else 0
    return Counts(
        total=batch.planned,
        queued=waiting - never,
        running=running,
        succeeded=batch.reused + batch.succeeded_before.succeeded + tally.succeeded,
        failed=batch.invalid + tally.failed,
        canceled=tally.canceled + canceled,
        skipped=tally.skipped + never - canceled,
        gpu_seconds=round(batch.succeeded_before.gpu_seconds + tally.gpu_seconds, 3),
        cost_usd=round(batch.succeeded_before.cost_usd + tally.cost_usd, 6),
    )


def _row_state(words: list[str]) -> RowState:
    if words[0] == "succeeded":
        return RowState("succeeded", int(words[1]) / 1_000, int(words[2]) / 1_000_000)
    return RowState(words[0])
