"""A job as the service describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether a job in this status has ended."""
        return self not in (Status.QUEUED, Status.RUNNING)


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed. `code` is stable; `retryable` says whether `retry` may help."""

    code: str
    detail: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Degradation:
    """One way in which a file is less than was asked for, so that it fits: from what, to what."""

    name: str
    wanted: int | str
    made: int | str


@dataclass(frozen=True, slots=True)
class Check:
    """One bound that the finished files were held to."""

    name: str
    limit: bool | int | float | str
    measured: bool | int | float | str
    passed: bool


@dataclass(frozen=True, slots=True)
class SamplingResult:
    """What the sampler made of the wishes: the seed that worked, and what limits made of type and resolution."""

    seed: int
    pipeline_type: str
    resolution: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """One result: `bytes` long, with this `sha256` (hex). `url` works until `expires_at`; `download` needs neither.

    dimensions_m: width, height and depth of a model. lowered: in which ways it is less than was asked for.
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
class Job:
    """One snapshot of a job; times are aware.

    progress: 0-1, of the whole job. checks: the bounds of preset and parameters against the finished files. timings:
    seconds by stage. raw: the body as it came, fields that this client does not know among them.
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

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> "Job":
        """Read a job's body; a field that is absent, null or unknown takes its default.

        Raises:
            KeyError, ValueError, TypeError: the body is not a job's.
        """
        body = dict(body)
        known = known_fields(cls, body) | {
            "status": Status(body["status"]),
            "artifacts": {name: _artifact(value) for name, value in (body.get("artifacts") or {}).items() if value},
            "checks": tuple(Check(**known_fields(Check, check)) for check in body.get("checks") or ()),
            "sampled": SamplingResult(**known_fields(SamplingResult, body["sampled"])) if body.get("sampled") else None,
            "error": JobError(**known_fields(JobError, body["error"])) if body.get("error") else None,
            "raw": body,
        }
        return cls(**known)


def _artifact(body: Mapping[str, Any]) -> Artifact:
    known = known_fields(Artifact, body)
    if sides := known.get("dimensions_m"):
        width, height, depth = sides
        known["dimensions_m"] = (width, height, depth)
    known["lowered"] = tuple(Degradation(**known_fields(Degradation, one)) for one in known.get("lowered", ()))
    return Artifact(**known)


def known_fields(record: type, body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a body that a record has and that say something, times parsed."""
    names = record.__dataclass_fields__  # type: ignore[attr-defined]
    present = {name: value for name, value in body.items() if name in names and value is not None}
    return {name: datetime.fromisoformat(value) if name.endswith("_at") else value for name, value in present.items()}
