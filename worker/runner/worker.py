"""One ticket, one job: take, claim, run, settle; and give the job back when the worker must leave."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shared.domain.job import Job, JobError, Stage
from shared.errors import (
    DeadlineExceeded,
    EngineFailed,
    GpuOutOfMemory,
    InputRejected,
    JobStopped,
    LeaseLost,
    QueueUnavailable,
    ServiceError,
    StoreError,
    TransitionRefused,
    WorkerUnfit,
)
from shared.log import log, log_context
from shared.repositories.jobs import JobRepository
from shared.storage.ports import JobQueue
from shared.storage.versioned_records import Versioned
from worker.runner.lease import Lease
from worker.runner.result import JobFunction, JobResult

GPU_STAGES = frozenset({Stage.SPARSE_STRUCTURE, Stage.SHAPE, Stage.TEXTURE, Stage.DECODE})


@dataclass(slots=True)
class Worker:
    """Runs tickets in one process, one job at a time.

    work: makes a job's artifacts (`Steps.run`). name: who claims, in records and logs. deadline_s: how long one
    attempt may take. usd_per_s: what a second of this worker costs; with has_gpu, a second of its GPU. told: hears of
    a job when it is claimed and whenever its record says more; returns at once.
    """

    jobs: JobRepository
    queue: JobQueue
    work: JobFunction
    name: str
    deadline_s: float = 900.0
    usd_per_s: float = 0.0
    has_gpu: bool = False
    at: Callable[[str], None] = lambda _: None
    on_progress: Callable[[Job], None] = lambda _: None
    _lease: Lease | None = None
    _leaving: threading.Event = field(default_factory=threading.Event)

    def run_once(self) -> bool:
        """Take one id and run its job to its end; False if there was nothing to take.

        Raises:
            WorkerUnfit: the job was given back; leave the process.
            StoreError: the store does not answer; the job was given back as far as that was possible.
        """
        if self._leaving.is_set() or (job_id := self.queue.dequeue()) is None:
            return False
        held = self.jobs.claim(job_id, self.name)
        if held is None:
            return True
        log(
            "job.claimed",
            job_id=job_id,
            attempt=held.record.attempt,
            worker=self.name,
            lane=held.record.lane,
            waited_s=_waited_s(held.record),
        )
        self.on_progress(held.record)
        with log_context(job_id=job_id):
            try:
                self._hold(held)
            finally:
                self._release(held.record)
        return True

    def _hold(self, held: Versioned[Job]) -> None:
        with Lease(self.jobs, held, deadline_s=self.deadline_s, told=self.on_progress) as lease:
            self._lease = lease
            try:
                if self._leaving.is_set():  # told to leave while it claimed: whoever told saw no lease yet
                    self._give_back(lease)
                else:
                    self._run(lease)
            finally:
                self._lease = None

    def shutdown(self) -> None:
        """Give the job in hand back now and take no other. The work on it stops at its next progress report."""
        self._leaving.set()
        if (lease := self._lease) is not None:
            self._give_back(lease)

    def _run(self, lease: Lease) -> None:
        try:
            while not self._run_attempt(lease):
                log("job.tried_again", job_id=lease.job.id, attempt=lease.job.attempt)
        except JobStopped:
            log("job.stopped", job_id=lease.job.id, attempt=lease.job.attempt)
            self._clean(lease.job)
        except (StoreError, WorkerUnfit) as error:
            log("job.given_back", job_id=lease.job.id, attempt=lease.job.attempt, code=error.code)
            self._give_back(lease)
            raise

    def _run_attempt(self, lease: Lease) -> bool:
        """Run one attempt and settle it; False where another one has begun."""
        try:
            made = self.work(lease.job, lease)
        except (InputRejected, DeadlineExceeded, GpuOutOfMemory) as error:
            return self._fail(lease, error)
        except EngineFailed as error:
            return not self._begin_next(lease, error)
        except ServiceError:
            raise
        except Exception:  # noqa: BLE001 - a bug in the work must not take the worker down
            log("job.crashed", level=logging.ERROR, exc_info=True, job_id=lease.job.id, attempt=lease.job.attempt)
            return not self._begin_next(lease, EngineFailed("an unexpected error; it was logged with the job's id"))
        self.at("settle:before")
        self._succeed(lease, made)
        self.at("settle:after")
        return True

    def _succeed(self, lease: Lease, made: JobResult) -> None:
        gpu_seconds = _gpu_s(made.timings) if self.has_gpu else 0.0
        cost_usd = round((gpu_seconds if self.has_gpu else sum(made.timings.values())) * self.usd_per_s, 6)
        settled = lease.end(
            lambda held: self.jobs.succeed(
                held,
                artifacts=made.artifacts,
                checks=made.checks,
                sampled=made.sampled,
                timings=made.timings,
                gpu_seconds=gpu_seconds,
                cost_usd=cost_usd,
            )
        )
        if settled is None:
            raise JobStopped(f"job {lease.job.id} was settled by another")
        log(
            "job.succeeded",
            job_id=lease.job.id,
            attempt=lease.job.attempt,
            timings=made.timings,
            gpu_seconds=gpu_seconds,
        )

    def _fail(self, lease: Lease, error: ServiceError) -> bool:
        job = lease.job
        problem = JobError(code=error.code, detail=str(error), retryable=error.retryable, stage=job.stage)
        if lease.end(lambda held: self.jobs.fail(held, problem)) is None:
            raise JobStopped(f"job {job.id} was settled by another")
        log("job.failed", job_id=job.id, attempt=job.attempt, code=error.code)
        return True

    def _begin_next(self, lease: Lease, error: EngineFailed) -> bool:
        """Begin the next attempt; where there may be none, fail and answer False."""
        try:
            if lease.restart(self.jobs.next_attempt, self.deadline_s):
                return True
        except TransitionRefused:
            return not self._fail(lease, error)
        raise JobStopped(f"job {lease.job.id} is no longer ours")

    def _give_back(self, lease: Lease) -> None:
        try:
            returned = lease.end(self.jobs.release)
            if returned is not None:
                log("job.handed_back", job_id=returned.record.id, attempt=returned.record.attempt)
                self._release(returned.record)
                self.queue.enqueue([returned.record.id], returned.record.lane)
        except (StoreError, QueueUnavailable) as error:
            log("job.not_handed_back", level=logging.WARNING, job_id=lease.job.id, code=error.code)

    def _release(self, job: Job) -> None:
        """Let the next job of a bounded caller run; what fails here, the sweeper does."""
        try:
            if (following := self.jobs.release_slot(job)) is not None:
                self.queue.enqueue([following.id], following.lane)
        except (StoreError, QueueUnavailable) as error:
            log("job.not_released", level=logging.WARNING, job_id=job.id, code=error.code)

    def _clean(self, job: Job) -> None:
        """Delete what a stopped attempt left; only if the job has ended, since a later attempt is not ours to touch."""
        try:
            present = self.jobs.find(job.id)
            if present is not None and present.record.status.is_terminal:
                self.jobs.clean(present.record)
        except (StoreError, LeaseLost) as error:
            log("job.not_cleaned", level=logging.WARNING, job_id=job.id, code=error.code)


def _waited_s(job: Job) -> float:
    return (job.started_at - job.queued_at).total_seconds() if job.started_at else 0.0


def _gpu_s(timings: Mapping[str, float]) -> float:
    """What a job had a GPU for: while it extracts and stores, another one samples."""
    return round(sum(seconds for stage, seconds in timings.items() if stage in GPU_STAGES), 3)
