"""The job record, and every change it may go through, as pure functions.

queued -> running -> succeeded | failed | canceled | expired; running -> queued when a lease ended or a worker is
unfit. No function here reads a clock or a store: the ledger calls them inside its compare-and-set.
"""

import base64
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from shared.contract import Parameters, PipelineType, PresetName
from shared.errors import LeaseLost, TransitionRefused
from shared.ports import Lane

MAX_CRASHES = 3  # a job that took three workers with it is poison
MAX_FAILURES = 3  # attempts that may end in EngineFailed
MAX_EVENTS = 200  # that a record remembers: hours of renewals


class Status(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # accepted, waiting for a worker
    RUNNING = "running"  # a worker holds its lease
    SUCCEEDED = "succeeded"  # its artifacts are there
    FAILED = "failed"  # it ended with an error
    CANCELED = "canceled"  # its caller stopped it
    EXPIRED = "expired"  # nobody could run it in time

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
    """How much of the whole job is done (0-1) when `fraction` of `stage` is."""
    before = sum(
        share for earlier, share in STAGE_SHARES.items() if list(Stage).index(earlier) < list(Stage).index(stage)
    )
    return before + STAGE_SHARES[stage] * min(max(fraction, 0.0), 1.0)


class Record(BaseModel):
    """Base of what is stored as JSON: frozen, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JobError(Record):
    """Why a job failed."""

    code: str
    detail: str
    retryable: bool
    stage: Stage | None = None


class Lowered(Record):
    """One way in which a file is less than was asked for, so that it fits: from what, to what."""

    name: Literal["texture_format", "texture_quality", "texture_size", "decimation_target"]
    wanted: int | str
    made: int | str


class Check(Record):
    """One bound that the finished files are held to. Names begin with `max_`, `min_`, or say what must be so."""

    name: str
    limit: bool | int | float | str
    measured: bool | int | float | str
    passed: bool


class Sampled(Record):
    """What the sampler made of the wishes.

    seed: the one that worked; the next ones are tried while a seed gives no structure. pipeline_type: a lower one only
    where the GPU's memory did not suffice and `allow_degrade` was set. resolution: of the shape; the token limit may
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
    lowered: tuple[Lowered, ...] = ()


class Input(Record):
    """What the job is made from: exactly one of a stored picture, a URL to fetch, or another job's state.

    key, bytes, sha256: the stored picture (sha256 where the gateway saw every byte). url: where to fetch it.
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
    """Where the job's caller wants to be told of its end, of which ends, and whether of its progress."""

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


class Job(Record):
    """One image -> one asset, or one state -> one more GLB. Times are aware UTC by the store's clock."""

    id: str
    caller: str
    version: int = 1  # grows with every write, so that equal content never means an equal ETag
    write_id: str = ""  # set by the ledger on every write: tells our own write from another's
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
    running_limit: int | None = None  # how many jobs of its caller may run at once
    slot: str | None = None  # which one of those this is, where there is such a limit (see `shared.slots`)
    has_endpoints: bool = False  # whether its caller had webhook endpoints when it was submitted
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    erased_at: datetime | None = None
    round: int = 0  # how often the caller has retried it
    attempt: int = 0  # the fencing token: only its holder may change a running job
    crashes: int = 0
    failures: int = 0
    worker: str | None = None
    stage: Stage | None = None
    progress: float = 0.0
    artifacts: dict[str, Artifact] = Field(default_factory=dict)
    checks: tuple[Check, ...] = ()  # of the finished files, by its preset's target
    sampled: Sampled | None = None  # by an engine that samples
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
        """Every change that is remembered, the oldest first: what a stream of events tells."""
        return self.events or (_event(self, "queued"),)


def _event(job: Job, kind: str) -> JobEvent:
    return JobEvent(version=job.version, type=kind, attempt=job.attempt, stage=job.stage, progress=job.progress)


def _changed(job: Job, **fields: Any) -> Job:
    changed = job.model_copy(update={"version": job.version + 1, **fields})
    kind = str(changed.status)
    if changed.status is Status.RUNNING:
        kind = "started" if changed.attempt != job.attempt else "progress"
    return changed.model_copy(update={"events": (*job.log, _event(changed, kind))[-MAX_EVENTS:]})


def _refuse(job: Job, verb: str) -> TransitionRefused:
    return TransitionRefused(f"job {job.id} is {job.status}: it cannot be {verb}")


def _require_holder(job: Job, attempt: int) -> None:
    if job.status is not Status.RUNNING or job.attempt != attempt:
        raise LeaseLost(f"attempt {attempt} no longer holds job {job.id} ({job.status}, attempt {job.attempt})")


def claim(job: Job, *, worker: str, now: datetime, slot: str | None = None) -> Job:
    """queued -> running, as a new attempt, in a slot where its caller's jobs are bounded.

    Raises:
        TransitionRefused: the job is not queued.
    """
    if job.status is not Status.QUEUED:
        raise _refuse(job, "claimed")
    return _changed(
        job,
        status=Status.RUNNING,
        attempt=job.attempt + 1,
        worker=worker,
        slot=slot,
        started_at=now,
        stage=None,
        progress=0.0,
    )


def renew(job: Job, *, attempt: int, stage: Stage | None, progress: float, preview: bytes | None = None) -> Job:
    """Keep the lease and tell where the work stands; progress never goes back within an attempt.

    preview: a WebP, small since the record keeps it.

    Raises:
        LeaseLost: the job was canceled, taken over or ended.
    """
    _require_holder(job, attempt)
    renewed = _changed(job, stage=stage, progress=max(job.progress, progress))
    if preview is None:
        return renewed
    *before, last = renewed.events
    shown = last.model_copy(update={"type": "preview", "preview": base64.b64encode(preview).decode()})
    return renewed.model_copy(update={"events": (*before, shown)})


def take_back(job: Job, *, now: datetime) -> Job:
    """The lease ended without a word: running -> queued, or failed once it has crashed MAX_CRASHES workers.

    Raises:
        TransitionRefused: the job is not running.
    """
    if job.status is not Status.RUNNING:
        raise _refuse(job, "taken back")
    crashes = job.crashes + 1
    if crashes < MAX_CRASHES:
        return _changed(job, status=Status.QUEUED, crashes=crashes, worker=None, queued_at=now, progress=0.0)
    where = f"in stage {job.stage}" if job.stage else "before its first stage"
    poison = JobError(
        code="poison",
        detail=f"the job took {crashes} workers down with it, the last one {where}",
        retryable=False,
        stage=job.stage,
    )
    return _ended(job, Status.FAILED, now, crashes=crashes, error=poison)


def hand_back(job: Job, *, attempt: int, now: datetime) -> Job:
    """The worker must leave (preemption, deploy, unfit): running -> queued, held against nobody.

    Raises:
        LeaseLost: the job was canceled, taken over or ended.
    """
    _require_holder(job, attempt)
    return _changed(job, status=Status.QUEUED, worker=None, queued_at=now, stage=None, progress=0.0)


def next_attempt(job: Job, *, attempt: int, now: datetime) -> Job:
    """The attempt failed in a way that may pass: the same worker starts the next one.

    Raises:
        LeaseLost: the job was canceled, taken over or ended.
        TransitionRefused: it has failed MAX_FAILURES times.
    """
    _require_holder(job, attempt)
    failures = job.failures + 1
    if failures >= MAX_FAILURES:
        raise _refuse(job, "tried again")
    return _changed(job, attempt=attempt + 1, failures=failures, started_at=now, stage=None, progress=0.0)


def succeed(
    job: Job,
    *,
    attempt: int,
    now: datetime,
    artifacts: dict[str, Artifact],
    checks: tuple[Check, ...],
    sampled: Sampled | None,
    timings: dict[str, float],
    gpu_seconds: float,
    cost_usd: float,
) -> Job:
    """running -> succeeded: the artifacts are stored, this makes them the job's. Cost is counted here and only here.

    Raises:
        LeaseLost: the job was canceled, taken over or ended.
    """
    _require_holder(job, attempt)
    return _ended(
        job,
        Status.SUCCEEDED,
        now,
        stage=None,
        progress=1.0,
        artifacts=artifacts,
        checks=checks,
        sampled=sampled,
        timings=timings,
        gpu_seconds=gpu_seconds,
        cost_usd=cost_usd,
    )


def fail(job: Job, *, attempt: int, now: datetime, error: JobError) -> Job:
    """running -> failed, at no cost to the caller.

    Raises:
        LeaseLost: the job was canceled, taken over or ended.
    """
    _require_holder(job, attempt)
    return _ended(job, Status.FAILED, now, error=error)


def cancel(job: Job, *, now: datetime) -> Job:
    """queued | running -> canceled; an ended job stays as it is. A running worker learns it from its next renewal."""
    return job if job.status.is_terminal else _ended(job, Status.CANCELED, now)


def expire(job: Job, *, now: datetime) -> Job:
    """queued -> expired: nobody could run it in time.

    Raises:
        TransitionRefused: the job is not queued.
    """
    if job.status is not Status.QUEUED:
        raise _refuse(job, "expired")
    return _ended(job, Status.EXPIRED, now)


def retry(job: Job, *, now: datetime, round_: int | None = None) -> Job:
    """failed | canceled | expired -> queued, under the same id; attempts go on counting, since they fence.

    round_: which one it is to be, for jobs whose batch counts rounds; else the next.

    Raises:
        TransitionRefused: the job is unfinished, succeeded or erased.
    """
    if job.status not in (Status.FAILED, Status.CANCELED, Status.EXPIRED) or job.erased_at:
        raise _refuse(job, "retried")
    return _changed(
        job,
        status=Status.QUEUED,
        round=job.round + 1 if round_ is None else round_,
        queued_at=now,
        started_at=None,
        finished_at=None,
        crashes=0,
        failures=0,
        stage=None,
        progress=0.0,
        error=None,
    )


def erase(job: Job, *, now: datetime) -> Job:
    """What remains of a deleted job: that it was, and how it ended. Its words, pictures and results go.

    Raises:
        TransitionRefused: the job has not ended.
    """
    if not job.status.is_terminal:
        raise _refuse(job, "erased")
    erased = _changed(
        job,
        erased_at=job.erased_at or now,
        input=Input(),
        metadata={},
        custom_id=None,
        webhook=None,
        deliver={},
        has_endpoints=False,
        artifacts={},
        checks=(),
    )
    unseen = tuple(event.model_copy(update={"preview": None}) for event in job.log)
    return erased.model_copy(update={"events": unseen})  # nobody may follow it any more


def _ended(job: Job, status: Status, now: datetime, **fields: Any) -> Job:
    return _changed(job, status=status, finished_at=now, worker=None, **fields)
