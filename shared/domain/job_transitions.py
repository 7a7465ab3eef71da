"""Every change that a job may go through, as pure functions.

queued -> running -> succeeded | failed | canceled | expired; running -> queued when a lease ended or a worker is
unfit. No function here reads a clock or a store: the repository calls them inside its compare-and-set.
"""

import base64
from datetime import datetime
from typing import Any, Required, TypedDict, Unpack

from shared.domain.job import Artifact, Check, Input, Job, JobError, JobEvent, SamplingResult, Stage, Status
from shared.errors import LeaseLost, TransitionRefused

MAX_CRASHES = 3  # a job that took three workers with it is poison
MAX_FAILURES = 3  # attempts that may end in EngineFailed
MAX_EVENTS = 200  # that a record remembers: hours of renewals


class JobListener:
    """Reacts to a job's changes, after they are stored. Every call may come again for the same change."""

    def on_claimed(self, job: Job) -> None:
        """React to a claim: the job runs, or has failed since it crashed too many workers."""

    def on_released(self, job: Job) -> None:
        """React to the return of a job to the queue, by its worker or because its lease expired."""

    def on_finished(self, job: Job) -> bool:  # noqa: ARG002 - of a base class
        """React to the end of a job, before its pending marker is deleted; return whether a webhook is due."""
        return False


class JobOutput(TypedDict, total=False):
    """What an attempt that succeeded adds to its job's record. timings: seconds by stage."""

    artifacts: Required[dict[str, Artifact]]
    timings: Required[dict[str, float]]
    checks: tuple[Check, ...]
    sampled: SamplingResult | None
    gpu_seconds: float
    cost_usd: float


def _changed(job: Job, **fields: Any) -> Job:
    changed = job.model_copy(update={"version": job.version + 1, **fields})
    kind = str(changed.status)
    if changed.status is Status.RUNNING:
        kind = "started" if changed.attempt != job.attempt else "progress"
    return changed.model_copy(update={"events": (*job.log, JobEvent.of(changed, kind))[-MAX_EVENTS:]})


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
    """Renew the lease and store the progress, which never decreases within an attempt.

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


def expire_lease(job: Job, *, now: datetime) -> Job:
    """The lease expired: running -> queued, or failed once it has crashed MAX_CRASHES workers.

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


def release(job: Job, *, attempt: int, now: datetime) -> Job:
    """The worker must stop (preemption, deploy, unfit): running -> queued, not counted as a failure.

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


def succeed(job: Job, *, attempt: int, now: datetime, **output: Unpack[JobOutput]) -> Job:
    """running -> succeeded: the artifacts are stored, this makes them the job's. Cost is counted here and only here.

    Raises:
        LeaseLost: the job was canceled, taken over or ended.
    """
    _require_holder(job, attempt)
    return _ended(job, Status.SUCCEEDED, now, stage=None, progress=1.0, **output)


def fail(job: Job, *, attempt: int, now: datetime, error: JobError) -> Job:
    """running -> failed, at no cost to the caller.

    Raises:
        LeaseLost: the job was canceled, taken over or ended.
    """
    _require_holder(job, attempt)
    return _ended(job, Status.FAILED, now, error=error)


def cancel(job: Job, *, now: datetime) -> Job:
    """queued | running -> canceled; an ended job does not change. A running worker sees it at its next heartbeat."""
    return job if job.status.is_terminal else _ended(job, Status.CANCELED, now)


def expire(job: Job, *, now: datetime) -> Job:
    """queued -> expired: no worker could run it in time.

    Raises:
        TransitionRefused: the job is not queued.
    """
    if job.status is not Status.QUEUED:
        raise _refuse(job, "expired")
    return _ended(job, Status.EXPIRED, now)


def retry(job: Job, *, now: datetime, run_number: int | None = None) -> Job:
    """failed | canceled | expired -> queued, under the same id; attempts go on counting, since they fence.

    run_number: which one it is to be, for jobs whose batch counts rounds; else the next.

    Raises:
        TransitionRefused: the job is unfinished, succeeded or erased.
    """
    if job.status not in (Status.FAILED, Status.CANCELED, Status.EXPIRED) or job.purged_at:
        raise _refuse(job, "retried")
    return _changed(
        job,
        status=Status.QUEUED,
        run_number=job.run_number + 1 if run_number is None else run_number,
        queued_at=now,
        started_at=None,
        finished_at=None,
        crashes=0,
        failures=0,
        stage=None,
        progress=0.0,
        error=None,
    )


def purge(job: Job, *, now: datetime) -> Job:
    """Return the tombstone of a deleted job: its id and how it ended, without its texts, images and results.

    Raises:
        TransitionRefused: the job has not ended.
    """
    if not job.status.is_terminal:
        raise _refuse(job, "erased")
    erased = _changed(
        job,
        purged_at=job.purged_at or now,
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
    return erased.model_copy(update={"events": unseen})  # its event stream has ended


def _ended(job: Job, status: Status, now: datetime, **fields: Any) -> Job:
    return _changed(job, status=status, finished_at=now, worker=None, **fields)
