"""A batch as the service describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from trellis2_modal.types.job import Artifact, known_fields


class BatchStatus(StrEnum):
    """Where a batch stands."""

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
        """Whether a batch in this status has ended."""
        return self in (BatchStatus.COMPLETED, BatchStatus.STOPPED, BatchStatus.CANCELED, BatchStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows stand how; the last six sum to `total`."""

    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What was found in a catalog, and what it will need; seconds: from the start to the end."""

    rows: int = 0
    invalid: int = 0
    reused: int = 0
    to_run: int = 0
    gpu_seconds: float | None = None
    cost_usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One snapshot of a batch; times are aware.

    stop_reason: why not every row had its turn. raw: the body as it came.
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

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> "Batch":
        """Read a batch's body; a field that is absent, null or unknown takes its default.

        Raises:
            KeyError, ValueError, TypeError: the body is not a batch's.
        """
        body = dict(body)
        known = known_fields(cls, body) | {
            "status": BatchStatus(body["status"]),
            "counts": Counts(**known_fields(Counts, body["counts"])),
            "plan": Plan(**known_fields(Plan, body["plan"])) if body.get("plan") else None,
            "raw": body,
        }
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch and what has come of it. errors: each with `code`, `detail`, and `line` and `column`."""

    custom_id: str
    status: str
    line: int
    job_id: str | None = None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    errors: tuple[Mapping[str, Any], ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> "Row":
        """Read a line of a batch's results.

        Raises:
            KeyError, TypeError: the body is not a row's.
        """
        artifacts = {
            name: Artifact(**known_fields(Artifact, made)) for name, made in (body.get("artifacts") or {}).items()
        }
        return cls(
            custom_id=body["custom_id"],
            status=body["status"],
            line=body["line"],
            job_id=body.get("job_id"),
            artifacts=artifacts,
            errors=tuple(body.get("errors") or ()),
            raw=body,
        )
