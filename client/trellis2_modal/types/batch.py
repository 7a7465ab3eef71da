"""The records of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from trellis2_modal.types.job import Artifact
from trellis2_modal.types.record import ApiRecord


class BatchStatus(StrEnum):
    """The status of a batch."""

    PLANNING = "planning"
    AWAITING_CONFIRMATION = "awaiting_confirmation"
    RUNNING = "running"
    PAUSED = "paused"
    ENDING = "ending"
    COMPLETED = "completed"
    STOPPED = "stopped"
    CANCELED = "canceled"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        return self in (BatchStatus.COMPLETED, BatchStatus.STOPPED, BatchStatus.CANCELED, BatchStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Counts(ApiRecord):
    """The number of rows by status; the last six sum to `total`."""

    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Plan(ApiRecord):
    """The rows of a catalog and the estimate for them. seconds: elapsed time of the whole batch."""

    rows: int = 0
    invalid: int = 0
    reused: int = 0
    to_run: int = 0
    gpu_seconds: float | None = None
    cost_usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Batch(ApiRecord):
    """One snapshot of a batch; times have time zones.

    stop_reason: why some rows did not run. raw: the record as received.
    """

    id: str
    status: BatchStatus
    created_at: datetime
    counts: Counts = field(default_factory=Counts)
    plan: Plan | None = None
    stop_reason: str | None = None
    eta_seconds: float | None = None
    gpu_seconds: float = 0.0
    cost_usd: float = 0.0
    planned_at: datetime | None = None
    finished_at: datetime | None = None
    error: Mapping[str, str] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Row(ApiRecord):
    """One row of a batch and its result. errors: each with `code`, `detail`, `line` and `column`."""

    custom_id: str
    status: str
    line: int
    job_id: str | None = None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    errors: tuple[Mapping[str, Any], ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
