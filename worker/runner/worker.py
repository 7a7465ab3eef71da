"""Run jobs, one at a time: dequeue an id, claim its job, run it, finish it, or release it on a shutdown."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from worker.engine import Progress
from worker.runner.job_function import JobFunction, JobResult, OpenListener
from worker.runner.lease import Lease

GPU_STAGES = frozenset({Stage.SPARSE_STRUCTURE, Stage.SHAPE, Stage.TEXTURE, Stage.DECODE})
POLL_S = 0.2  # how long a job that waits for others to end may take to notice a cancel


class CrashIsolation:
    """Run a job alone in its process once a worker has crashed on it. The workers of one process share one of these.

    When a process dies, every job in it counts a crash, and the third makes a job poison. Without isolation, a job
    that kills its process would take its neighbour along each time, since both are queued again at the same moment.
    Safe from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._suspects = 0  # jobs with a crash that run or wait to run

    @contextmanager
    def admit(self, job: Job, keep_alive: Callable[[], None]) -> Iterator[None]:
        """Wait until the job may run in this process, and count it as running inside the context.

        Args:
            job: one with a crash runs alone; while it waits, no other job starts.
            keep_alive: called every POLL_S of the wait; what it raises ends the wait.
        """
        with self._exclusive(keep_alive) if job.crashes else self._shared(keep_alive):
            yield

    @contextmanager
    def _exclusive(self, keep_alive: Callable[[], None]) -> Iterator[None]:
        with self._changed:
            self._suspects += 1
        try:
            with self._admitted_when(lambda: self._running == 0, keep_alive):
                yield
        finally:
            with self._changed:
                self._suspects -= 1
                self._changed.notify_all()

    @contextmanager
    def _shared(self, keep_alive: Callable[[], None]) -> Iterator[None]:
        with self._admitted_when(lambda: self._suspects == 0, keep_alive):
            yield

    @contextmanager
    def _admitted_when(self, is_free: Callable[[], bool], keep_alive: Callable[[], None]) -> Iterator[None]:
        with self._changed:
            while not is_free():
                self._changed.wait(POLL_S)
                keep_alive()
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()


@dataclass(slots=True)
class Worker:
    """Runs jobs in one process, one at a time.

    work: makes a job's artifacts (`JobPipeline.run`). name: names the worker in records and logs. deadline_s: how
    long one attempt may take. usd_per_s: the price of a second of this worker; with has_gpu, of its GPU. listeners:
    opened for each attempt, they follow its progress. isolation: shared by the workers of one process. at: called at
    crash points. on_progress: called with the job when it is claimed and after each renewal; returns at once.
    """

    jobs: JobRepository
    queue: JobQueue
    work: JobFunction
    name: str
    deadline_s: float = 900.0
    usd_per_s: float = 0.0
    has_gpu: bool = False
    listeners: Sequence[OpenListener] = ()
    isolation: CrashIsolation = field(default_factory=CrashIsolation)
    at: Callable[[str], None] = lambda _: None
    on_progress: Callable[[Job], None] = lambda _: None
    _lease: Lease | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run_once(self) -> bool:
        """Dequeue one id and run its job to its end; False if the queue was empty.

        Raises:
            WorkerUnfit: the job was released; the process must be replaced.
            StoreError: the store does not answer; the job was released if that was possible.
        """
        if self._stopping.is_set() or (job_id := self.queue.dequeue()) is None:
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
                self._run_claimed(held)
            finally:
                self._release_slot(held.record)
        return True

    def shutdown(self) -> None:
        """Release the present job now and dequeue no other. Its work stops at its next progress report."""
        self._stopping.set()
        if (lease := self._lease) is not None:
            self._release(lease, "shutdown")

    def _run_claimed(self, held: Versioned[Job]) -> None:
        with Lease(self.jobs, held, deadline_s=self.deadline_s, on_progress=self.on_progress) as lease:
            self._lease = lease
            try:
                if self._stopping.is_set():  # shutdown() was called during the claim, when there was no lease to see
                    self._release(lease, "shutdown")
                else:
                    self._run_attempts(lease)
            finally:
                self._lease = None

    def _run_attempts(self, lease: Lease) -> None:
        try:
            while not self._run_attempt(lease):
                log("attempt.started", job_id=lease.job.id, attempt=lease.job.attempt)
        except JobStopped:
            log("job.stopped", job_id=lease.job.id, attempt=lease.job.attempt)
            self._clean(lease.job)
        except (StoreError, WorkerUnfit) as error:
            self._release(lease, error.code)
            raise

    def _run_attempt(self, lease: Lease) -> bool:
        """Run one attempt and finish the job; False where the next attempt has started instead."""
        try:
            result = self._run_work(lease)
        except (InputRejected, DeadlineExceeded, GpuOutOfMemory) as error:
            return self._fail(lease, error)
        except EngineFailed as error:
            return not self._start_next_attempt(lease, error)
        except ServiceError:
            raise
        except Exception:  # noqa: BLE001 - a bug in the work must not take the worker down
            log("job.crashed", level=logging.ERROR, exc_info=True, job_id=lease.job.id, attempt=lease.job.attempt)
            unexpected = EngineFailed("an unexpected error; it was logged with the job's id")
            return not self._start_next_attempt(lease, unexpected)
        self.at("finish:before")
        self._succeed(lease, result)
        self.at("finish:after")
        return True

    def _run_work(self, lease: Lease) -> JobResult:
        """Run the work once. Each progress report goes to every listener, the lease last: it may stop the work."""
        job = lease.job
        with self.isolation.admit(job, lambda: lease.on_stage(Stage.SPARSE_STRUCTURE, 0.0)), ExitStack() as attempt:
            listeners = [attempt.enter_context(open_listener(job)) for open_listener in self.listeners]
            return self.work(job, Progress(*listeners, lease))

    def _succeed(self, lease: Lease, result: JobResult) -> None:
        gpu_seconds = _gpu_s(result.timings) if self.has_gpu else 0.0
        cost_usd = round((gpu_seconds if self.has_gpu else sum(result.timings.values())) * self.usd_per_s, 6)
        finished = lease.finish(
            lambda held: self.jobs.succeed(
                held,
                artifacts=result.artifacts,
                checks=result.checks,
                sampled=result.sampled,
                timings=result.timings,
                gpu_seconds=gpu_seconds,
                cost_usd=cost_usd,
            )
        )
        if finished is None:
            raise JobStopped(f"another attempt finished job {lease.job.id}")
        log(
            "job.succeeded",
            job_id=lease.job.id,
            attempt=lease.job.attempt,
            timings=result.timings,
            gpu_seconds=gpu_seconds,
        )

    def _fail(self, lease: Lease, error: ServiceError) -> bool:
        job = lease.job
        problem = JobError(code=error.code, detail=str(error), retryable=error.retryable, stage=job.stage)
        if lease.finish(lambda held: self.jobs.fail(held, problem)) is None:
            raise JobStopped(f"another attempt finished job {job.id}")
        log("job.failed", job_id=job.id, attempt=job.attempt, code=error.code)
        return True

    def _start_next_attempt(self, lease: Lease, error: EngineFailed) -> bool:
        """Start the next attempt; where none is allowed, fail the job and return False."""
        try:
            if lease.start_next_attempt(self.jobs.next_attempt, self.deadline_s):
                return True
        except TransitionRefused:
            return not self._fail(lease, error)
        raise JobStopped(f"job {lease.job.id} is no longer held by attempt {lease.job.attempt}")

    def _release(self, lease: Lease, code: str) -> None:
        """Put the job back into the queue for another worker; `code` says why."""
        try:
            released = lease.finish(self.jobs.release)
            if released is not None:
                log("job.released", job_id=released.record.id, attempt=released.record.attempt, code=code)
                self._release_slot(released.record)
                self.queue.enqueue([released.record.id], released.record.lane)
        except (StoreError, QueueUnavailable) as error:
            log("job.release_failed", level=logging.WARNING, job_id=lease.job.id, code=error.code)

    def _release_slot(self, job: Job) -> None:
        """Let the next blocked job of a caller with a concurrency limit run; the reconciler repeats what fails here."""
        try:
            if (following := self.jobs.release_slot(job)) is not None:
                self.queue.enqueue([following.id], following.lane)
        except (StoreError, QueueUnavailable) as error:
            log("job.slot_release_failed", level=logging.WARNING, job_id=job.id, code=error.code)

    def _clean(self, job: Job) -> None:
        """Delete the files of a stopped attempt if the job has ended: otherwise they may be a later attempt's."""
        try:
            present = self.jobs.find(job.id)
            if present is not None and present.record.status.is_terminal:
                self.jobs.clean(present.record)
        except (StoreError, LeaseLost) as error:
            log("job.clean_failed", level=logging.WARNING, job_id=job.id, code=error.code)


def _waited_s(job: Job) -> float:
    return (job.started_at - job.queued_at).total_seconds() if job.started_at else 0.0


def _gpu_s(timings: Mapping[str, float]) -> float:
    """Sum the seconds for which a job has the GPU: while it is extracted and stored, another job samples."""
    return round(sum(seconds for stage, seconds in timings.items() if stage in GPU_STAGES), 3)
