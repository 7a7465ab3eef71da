"""The batch record, and every change it may go through, as pure functions.

planning -> awaiting_confirmation -> running <-> paused; running | paused -> ending -> completed | stopped | canceled;
a manifest that cannot be read: failed. Rows go through three cursors, each a number of rows: `claimed` says how many
may have jobs, `dispatched` how many surely have, `aggregated` how many have ended for good and are counted in `tally`.
The rows from `aggregated` on have status markers.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, get_args

from pydantic import Field

from shared.domain.job import EventType, Record, VersionedRecord, Webhook
from shared.domain.parameters import PresetName
from shared.errors import TransitionRefused

SEGMENT_ROWS = 250
BatchEventType = Literal[
    "batch.awaiting_confirmation", "batch.completed", "batch.stopped", "batch.canceled", "batch.failed"
]
BATCH_EVENT_TYPES: tuple[BatchEventType, ...] = get_args(BatchEventType)
StopReason = Literal["budget", "failures", "canceled"]
ManifestFormat = Literal["csv", "jsonl", "xml", "zip"]


class BatchStatus(StrEnum):
    """Status of a batch."""

    PLANNING = "planning"  # its rows are read and their images probed
    AWAITING_CONFIRMATION = "awaiting_confirmation"  # it waits for the caller's confirmation
    RUNNING = "running"  # its rows become jobs
    PAUSED = "paused"  # no further row becomes a job
    ENDING = "ending"  # likewise, for good: running jobs end
    COMPLETED = "completed"  # every row has had its turn
    STOPPED = "stopped"  # a limit was reached: the rest was skipped
    CANCELED = "canceled"  # its caller stopped it
    FAILED = "failed"  # its manifest could not be read

    @property
    def is_terminal(self) -> bool:
        """Whether a batch in this status has ended; `retry` may start it again."""
        return self in (BatchStatus.COMPLETED, BatchStatus.STOPPED, BatchStatus.CANCELED, BatchStatus.FAILED)


class Tally(Record):
    """How many rows have ended how, and what they have used."""

    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    skipped: int = 0
    gpu_seconds: float = 0.0
    cost_usd: float = 0.0

    @property
    def rows(self) -> int:
        """How many rows that are."""
        return self.succeeded + self.failed + self.canceled + self.skipped

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields}
        return Tally(**sums | {"cost_usd": round(sums["cost_usd"], 6), "gpu_seconds": round(sums["gpu_seconds"], 3)})


class BatchEstimate(Record):
    """What the rows that will run need, estimated from jobs of the same kind.

    gpu_seconds, cost_usd: of all rows together. seconds: from the start to the end. measured_jobs: number of the
    caller's ended jobs that the estimate is based on; 0: it is based on the figures in the documents.
    """

    gpu_seconds: float
    cost_usd: float
    seconds: float
    measured_jobs: int = 0


class BatchDefaults(Record):
    """What the caller wants of every row, unless the row says otherwise."""

    engine: str
    preset: PresetName | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)  # those that were given


class BatchLimits(Record):
    """When to stop: what the rows may cost together, over all rounds, and how many may fail in one.

    The last three are the caller's own: of a day, and of how many of its jobs run at once.
    """

    max_cost_usd: float | None = None
    max_failures: int | None = None
    gpu_seconds_per_day: float | None = None
    usd_per_day: float | None = None
    running_jobs: int | None = None


class BatchWebhook(Record):
    """Where to send the batch's events, and which: of single rows (`job.*`), of the batch, or of both."""

    url: str
    events: tuple[EventType | BatchEventType, ...] = BATCH_EVENT_TYPES

    def of_jobs(self) -> Webhook | None:
        """Return the webhook of each row's job, with the `job.*` events."""
        events = tuple(event for event in self.events if event.startswith("job."))
        return Webhook.model_validate({"url": self.url, "events": events}) if events else None


class BatchError(Record):
    """Why a batch failed."""

    code: str
    detail: str


class ManifestFile(Record):
    """The stored files: a table, JSON lines, XML, or only images; sizes in bytes, 0 where there is none."""

    format: ManifestFormat
    bytes: int = 0
    images_bytes: int = 0


class Batch(VersionedRecord):
    """One catalog, many jobs. Times are aware UTC by the store's clock.

    secret: the ids of the jobs are derived from it. requires_confirmation: the batch waits for it before it runs.
    ignore_cache: run also the rows whose result exists already. planned: rows planned so far; of them `invalid` cannot
    run and `reused` have a result already. run_number: number of retries. succeeded_before: of rows in earlier runs.
    claimed_runs: rows that run, of those claimed in this run. deliver_to: a URL prefix for finished files.
    """

    id: str
    caller: str
    secret: str
    status: BatchStatus = BatchStatus.PLANNING
    file: ManifestFile
    columns: tuple[str, ...] = ()
    defaults: BatchDefaults
    limits: BatchLimits = BatchLimits()
    requires_confirmation: bool = True
    ignore_cache: bool = False
    webhook: BatchWebhook | None = None
    deliver_to: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    keep_s: float | None = None
    created_at: datetime
    planned_at: datetime | None = None
    confirmed_at: datetime | None = None
    finished_at: datetime | None = None
    planner_until: datetime | None = None
    planned: int = 0
    invalid: int = 0
    reused: int = 0
    estimate: BatchEstimate | None = None
    run_number: int = 0
    succeeded_before: Tally = Tally()
    claimed: int = 0
    claimed_runs: int = 0
    dispatched: int = 0
    aggregated: int = 0
    tally: Tally = Tally()
    stop: StopReason | None = None
    notification_pending: bool = False  # whether this status is still to be announced
    error: BatchError | None = None

    @property
    def runs(self) -> int:
        """Number of rows that run in this run."""
        return self.planned - self.invalid - self.reused - self.succeeded_before.succeeded

    @property
    def has_room(self) -> bool:
        """Whether rows may still become jobs."""
        return self.status is BatchStatus.RUNNING and self.claimed < self.planned


Fields = dict[str, Any]  # of a batch, that are to be different


def planned(batch: Batch, now: datetime, forecast: BatchEstimate) -> Fields | None:
    """planning -> awaiting_confirmation, or running where no confirmation is required; None where it was canceled."""
    if batch.status is not BatchStatus.PLANNING:
        return None
    fields: Fields = {"planned_at": now, "planner_until": None, "estimate": forecast}
    if batch.requires_confirmation:
        return fields | {"status": BatchStatus.AWAITING_CONFIRMATION, "notification_pending": True}
    return fields | {"status": BatchStatus.RUNNING, "confirmed_at": now}


def unreadable(batch: Batch, now: datetime, error: BatchError) -> Fields | None:
    """planning -> failed: its manifest cannot be read."""
    if batch.status is not BatchStatus.PLANNING:
        return None
    return {"status": BatchStatus.FAILED, "finished_at": now, "error": error, "notification_pending": True}


def confirm(batch: Batch, now: datetime) -> Fields | None:
    """awaiting_confirmation -> running. None where it runs already.

    Raises:
        TransitionRefused: it is still being planned, or has ended.
    """
    if batch.status is BatchStatus.AWAITING_CONFIRMATION:
        return {"status": BatchStatus.RUNNING, "confirmed_at": now, "notification_pending": False}
    if batch.confirmed_at and not batch.status.is_terminal:
        return None
    raise _refuse(batch, "confirmed")


def pause(batch: Batch) -> Fields | None:
    """running -> paused. Raises TransitionRefused where it neither runs nor is paused."""
    return _switch(batch, BatchStatus.RUNNING, BatchStatus.PAUSED, "paused")


def resume(batch: Batch) -> Fields | None:
    """paused -> running. Raises TransitionRefused where it neither runs nor is paused."""
    return _switch(batch, BatchStatus.PAUSED, BatchStatus.RUNNING, "resumed")


def _switch(batch: Batch, before: BatchStatus, after: BatchStatus, verb: str) -> Fields | None:
    if batch.status not in (before, after):
        raise _refuse(batch, verb)
    return {"status": after} if batch.status is before else None


def cancel(batch: Batch, now: datetime) -> Fields | None:
    """Any status -> ending, or canceled if no row can have a job; an ended batch does not change."""
    if batch.status.is_terminal or batch.stop == "canceled":
        return None
    if batch.claimed == 0:
        return {"status": BatchStatus.CANCELED, "stop": "canceled", "finished_at": now, "notification_pending": True}
    return {"status": BatchStatus.ENDING, "stop": "canceled"}


def stop(batch: Batch, reason: StopReason) -> Fields | None:
    """running | paused -> ending, since a limit was reached."""
    if batch.status in (BatchStatus.RUNNING, BatchStatus.PAUSED):
        return {"status": BatchStatus.ENDING, "stop": reason}
    return None


def retry(batch: Batch, now: datetime, bounds: BatchLimits) -> Fields:
    """An ended batch -> running, with new limits: run again each row that did not succeed and can run.

    Raises:
        TransitionRefused: it has not ended, or nothing is left to run.
    """
    tally = batch.tally
    left = batch.runs - tally.succeeded
    if not batch.status.is_terminal or batch.planned_at is None or left <= 0:
        raise _refuse(batch, "retried")
    return {
        "status": BatchStatus.RUNNING,
        "confirmed_at": batch.confirmed_at or now,
        "finished_at": None,
        "stop": None,
        "limits": bounds,
        "notification_pending": False,
        "run_number": batch.run_number + 1,
        "succeeded_before": batch.succeeded_before.plus(
            Tally(succeeded=tally.succeeded, gpu_seconds=tally.gpu_seconds, cost_usd=tally.cost_usd)
        ),
        "tally": Tally(),
        "claimed": 0,
        "claimed_runs": 0,
        "dispatched": 0,
        "aggregated": 0,
    }


def finish(batch: Batch, now: datetime) -> Fields | None:
    """Any status -> its final status, once all claimed rows have ended and no further row will be claimed."""
    is_through = batch.aggregated == batch.claimed and (
        batch.status is BatchStatus.ENDING
        or (batch.status in (BatchStatus.RUNNING, BatchStatus.PAUSED) and batch.claimed == batch.planned)
    )
    if not is_through:
        return None
    ends = {None: BatchStatus.COMPLETED, "canceled": BatchStatus.CANCELED}
    return {"status": ends.get(batch.stop, BatchStatus.STOPPED), "finished_at": now, "notification_pending": True}


def _refuse(batch: Batch, verb: str) -> TransitionRefused:
    return TransitionRefused(f"batch {batch.id} is {batch.status}: it cannot be {verb}")
