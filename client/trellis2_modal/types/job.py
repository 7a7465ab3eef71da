"""The records of a job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from trellis2_modal.types.record import ApiRecord


class Status(StrEnum):
    """The status of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return self not in (Status.QUEUED, Status.RUNNING)


@dataclass(frozen=True, slots=True)
class JobError(ApiRecord):
    """Why a job failed. `code` is stable; `retryable` says whether `retry` may help."""

    code: str
    detail: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Degradation(ApiRecord):
    """One setting that was lowered so that the file fits its size limit: from `requested` to `actual`."""

    name: str
    requested: int | str
    actual: int | str


@dataclass(frozen=True, slots=True)
class Check(ApiRecord):
    """One limit that the finished files were checked against."""

    name: str
    limit: bool | int | float | str
    measured: bool | int | float | str
    passed: bool


@dataclass(frozen=True, slots=True)
class SamplingResult(ApiRecord):
    """The seed, pipeline type and resolution (voxels a side) that the sampler used, after limits and retries."""

    seed: int
    pipeline_type: str
    resolution: int


@dataclass(frozen=True, slots=True)
class Artifact(ApiRecord):
    """One file of results. sha256: hex. url: works until `expires_at`; `download` does not need it.

    dimensions_m: width, height and depth of the model. lowered: the settings that were lowered to fit a size limit.
    """

    bytes: int
    sha256: str
    content_type: str = "application/octet-stream"
    url: str | None = None
    expires_at: datetime | None = None
    triangles: int | None = None
    vertices: int | None = None
    texture_px: int | None = None
    dimensions_m: tuple[float, float, float] | None = None
    lowered: tuple[Degradation, ...] = ()


@dataclass(frozen=True, slots=True)
class Job(ApiRecord):
    """One snapshot of a job; times have time zones.

    progress: 0-1, of the whole job. checks: the limits of preset and parameters, and the finished files' values.
    timings: seconds by stage. raw: the record as received, with the fields that this client does not know.
    """

    id: str
    status: Status
    created_at: datetime
    stage: str | None = None
    progress: float = 0.0
    queue_position: int | None = None
    eta_seconds: float | None = None
    attempt: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    engine: str | None = None
    seed: int | None = None
    preset: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    batch_id: str | None = None
    custom_id: str | None = None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    sampled: SamplingResult | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    cost_usd: float = 0.0
    error: JobError | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
