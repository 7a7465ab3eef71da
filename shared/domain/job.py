"""The job record, and its words. How it changes stands in `shared.domain.job_transitions`."""

from bisect import bisect_right
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from shared.domain.parameters import Parameters, PipelineType, PresetName


class Lane(StrEnum):
    """A separate queue; workers prefer them in this order, but no lane is ever starved."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


# Priority tiers order the jobs of different callers within a lane. A caller's first unfinished job is in tier 0, the
# next seven in tier 1, the next 56 in tier 2, all others in tier 3; earlier tiers go first. So a caller's n-th job
# waits for at most eight times n jobs of each other caller, and a first job for one of each, however many there are.
_TIER_STARTS = (1, 8, 64)  # jobs of the same caller ahead, at which each tier after the first starts
TIERS = len(_TIER_STARTS) + 1


def tier_of(ahead: int) -> int:
    """Return the tier of a job with `ahead` unfinished jobs of the same caller before it in its lane."""
    return bisect_right(_TIER_STARTS, ahead)


class Status(StrEnum):
    """Status of a job."""

    QUEUED = "queued"  # accepted, waiting for a worker
    RUNNING = "running"  # a worker holds its lease
    SUCCEEDED = "succeeded"  # its artifacts are there
    FAILED = "failed"  # it ended with an error
    CANCELED = "canceled"  # its caller stopped it
    EXPIRED = "expired"  # no worker could run it in time

    @property
    def is_terminal(self) -> bool:
        """Whether a job in this status has ended."""
        return self not in (Status.QUEUED, Status.RUNNING)


class Stage(StrEnum):
    """What a running job is doing, in this order."""

    SPARSE_STRUCTURE = "sparse_structure"
    SHAPE = "shape"
    TEXTURE = "texture"
    DECODE = "decode"
    EXTRACT = "extract"
    STORE = "store"


# How much of a job's time each stage takes, roughly; only the progress bar depends on it.
STAGE_SHARES = {
    Stage.SPARSE_STRUCTURE: 0.10,
    Stage.SHAPE: 0.25,
    Stage.TEXTURE: 0.15,
    Stage.DECODE: 0.05,
    Stage.EXTRACT: 0.40,
    Stage.STORE: 0.05,
}


def overall_progress(stage: Stage, fraction: float) -> float:
    """Return the completed part of the whole job, 0-1, when `fraction` of `stage` is completed."""
    before = sum(
        share for earlier, share in STAGE_SHARES.items() if list(Stage).index(earlier) < list(Stage).index(stage)
    )
    return before + STAGE_SHARES[stage] * min(max(fraction, 0.0), 1.0)


class Record(BaseModel):
    """Base of what is stored as JSON: frozen, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VersionedRecord(Record):
    """Base of records that are changed by compare-and-set. write_id: new with every write, identifies it."""

    write_id: str = ""


class JobError(Record):
    """Why a job failed. `code` is stable."""

    code: str
    detail: str
    retryable: Annotated[bool, Field(description="Whether POST retry may help.")]
    stage: Stage | None = None


class Degradation(Record):
    """One way in which a file is less than was asked for, so that it fits: from what, to what."""

    name: Literal["texture_format", "texture_quality", "texture_size", "decimation_target"]
    requested: int | str
    actual: int | str


class Check(Record):
    """One bound that the finished files are held to. Names begin with `max_`, `min_`, or say what must be so."""

    name: str
    limit: bool | int | float | str
    measured: bool | int | float | str
    passed: bool


class SamplingResult(Record):
    """The parameters that the sampler used.

    seed: the first, from the requested one upwards, that gives a structure. pipeline_type: lower than requested only
    if the GPU's memory did not suffice and `allow_degrade` was set. resolution: of the shape; the token limit may
    lower it.
    """

    seed: int
    pipeline_type: PipelineType
    resolution: int


class Artifact(Record):
    """One stored result. `sha256` is of the bytes under `key`, which never change."""

    key: str
    bytes: int
    sha256: str
    content_type: str
    triangles: int | None = None
    vertices: int | None = None
    texture_px: int | None = None
    dimensions_m: tuple[float, float, float] | None = None  # width, height, depth
    lowered: tuple[Degradation, ...] = ()


class Input(Record):
    """The input of a job: exactly one of a stored image, a URL to fetch, or another job's state.

    key, bytes, sha256: the stored image (sha256 where the gateway read every byte). url: where to fetch it.
    state: the state artifact to extract again; job_id: whose it is.
    """

    key: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    url: str | None = None
    state: Artifact | None = None
    job_id: str | None = None


EventType = Literal["job.succeeded", "job.failed", "job.canceled", "job.expired"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
ProgressEventType = Literal["job.progress"]  # best effort, only for the URLs that jobs name
PROGRESS_EVENT: ProgressEventType = "job.progress"


class Webhook(Record):
    """Where to send the job's events, which ends, and whether progress."""

    url: str
    events: tuple[EventType | ProgressEventType, ...] = EVENT_TYPES


class JobEvent(Record):
    """One change as the record remembers it; `version` is the job's, and the event's place in its stream.

    type: `queued`, `started` (an attempt), `progress`, `preview`, or the status that the job ended in. preview:
    base64 of a WebP.
    """

    version: int
    type: str
    attempt: int
    stage: Stage | None = None
    progress: float = 0.0
    preview: str | None = None

    @classmethod
    def of(cls, job: "Job", kind: str) -> "JobEvent":
        """Return what a job's last write was."""
        return cls(version=job.version, type=kind, attempt=job.attempt, stage=job.stage, progress=job.progress)


class Job(VersionedRecord):
    """One image -> one asset, or one state -> one more GLB. Times are aware UTC by the store's clock."""

    id: str
    caller: str
    version: int = 1  # grows with every change; numbers the events
    status: Status = Status.QUEUED
    lane: Lane = Lane.STANDARD
    engine: str
    preset: PresetName | None = None
    parameters: Parameters  # with its seed
    input: Input
    metadata: dict[str, str] = Field(default_factory=dict)
    custom_id: str | None = None
    batch_id: str | None = None
    batch_row: int | None = None  # which row of its batch it is, from 0
    traceparent: str | None = None
    webhook: Webhook | None = None
    deliver: dict[str, str] = Field(default_factory=dict)  # URLs under which files are to be PUT, by artifact
    keep_s: float | None = None  # how long what it holds is kept after its end; None: until it is deleted
    running_limit: int | None = None  # how many jobs of its caller may run at the same time
    slot: str | None = None  # its concurrency slot, where there is such a limit: `shared.repositories.caller_usage`
    has_endpoints: bool = False  # whether its caller had webhook endpoints when it was submitted
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    purged_at: datetime | None = None
    run_number: int = 0  # how often the caller has retried it
    attempt: int = 0  # the fencing token: only its holder may change a running job
    crashes: int = 0
    failures: int = 0
    worker: str | None = None
    stage: Stage | None = None
    progress: float = 0.0
    artifacts: dict[str, Artifact] = Field(default_factory=dict)
    checks: tuple[Check, ...] = ()  # of the finished files, by its preset's target
    sampled: SamplingResult | None = None  # by an engine that samples
    timings: dict[str, float] = Field(default_factory=dict)  # seconds by stage
    gpu_seconds: float = 0.0
    cost_usd: float = 0.0
    error: JobError | None = None
    events: tuple[JobEvent, ...] = ()  # the newest MAX_EVENTS changes; none in one that was never changed

    @property
    def expires_at(self) -> datetime | None:
        """When what the job holds will be erased; None while it has not ended, and where it is kept."""
        return self.finished_at + timedelta(seconds=self.keep_s) if self.finished_at and self.keep_s else None

    @property
    def log(self) -> tuple[JobEvent, ...]:
        """Every change in the record, the oldest first: the content of its event stream."""
        return self.events or (JobEvent.of(self, "queued"),)
