"""A caller runs as many jobs at once as its key allows; its other jobs wait, and no other caller waits for them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.support.memory_store import MemoryStore
from infra.queues.local import MemoryQueue
from shared.domain.batch import BatchLimits
from shared.domain.job import Job, Status
from shared.errors import WorkerUnfit
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from shared.storage.versioned_records import Versioned
from tests.support.batch_harness import BatchHarness
from tests.support.fakes import ManualClock, keys_under, submitted
from worker.maintenance.reconciler import SLOT_S, Reconciler
from worker.runner.job_function import JobResult
from worker.runner.worker import Worker


@dataclass
class LimitHarness:
    """A job repository, a queue, a reconciler, and a worker that calls `act` for each job."""

    clock: ManualClock = field(default_factory=ManualClock)
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    act: Any = None

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store)
        self.worker = Worker(jobs=self.jobs, queue=self.queue, work=self.work, name="worker")
        self.reconciler = Reconciler(self.jobs, self.queue, requeue_after_s=0.0)

    def work(self, job: Job, _progress: Any) -> JobResult:
        if self.act:
            self.act(job)
        return JobResult({}, {})

    def submit(self, limit: int | None = 1, **fields: Any) -> str:
        """Submit and enqueue a job; return its id."""
        job = submitted(self.jobs, running_limit=limit, **fields)
        self.clock.advance(0.001)
        self.queue.enqueue([job.id], job.lane)
        return job.id

    def status(self, job_id: str) -> Status:
        return self.jobs.read(job_id).record.status

    def claim(self, job_id: str) -> Versioned[Job] | None:
        return self.jobs.claim(job_id, "elsewhere")


@pytest.fixture
def harness() -> LimitHarness:
    """A harness without jobs."""
    return LimitHarness()


def test_job_over_the_limit_stays_queued_and_others_run(harness: LimitHarness) -> None:
    """The claim refuses it, not the submit; another caller's job is claimed meanwhile."""
    first, second = harness.submit(), harness.submit()
    assert harness.claim(first)
    others = harness.submit(limit=None, caller="bob")
    while harness.worker.run_once():
        pass
    assert [harness.status(job_id) for job_id in (first, second, others)] == [
        Status.RUNNING, Status.QUEUED, Status.SUCCEEDED,
    ]  # fmt: skip


def test_next_blocked_job_is_enqueued_when_one_ends(harness: LimitHarness) -> None:
    """Without the reconciler: the worker enqueues the oldest job that found no slot."""
    job_list = [harness.submit(limit=2) for _ in range(5)]
    running: list[str] = []

    def act(job: Job) -> None:
        running.append(job.id)
        if len(running) == 1:  # while the first runs: the second is claimed elsewhere, the others find no slot
            assert harness.claim(job_list[1])
            assert [harness.claim(job_id) for job_id in job_list[2:]] == [None] * 3
            while harness.queue.dequeue():
                pass

    harness.act = act
    while harness.worker.run_once():
        pass
    assert running == [job_list[0], *job_list[2:]]


def test_many_workers_at_once_keep_to_the_limit(harness: LimitHarness) -> None:
    """Slots are created by compare-and-set."""
    job_list = [harness.submit(limit=3) for _ in range(40)]
    with ThreadPoolExecutor(16) as workers:
        held = list(workers.map(harness.claim, job_list))
    assert sum(claimed is not None for claimed in held) == len(list(keys_under(harness.store, keys.RUNNING))) == 3


def test_slot_of_a_dead_worker_is_released_by_the_reconciler(harness: LimitHarness) -> None:
    """After its lease; the job itself is the first to run again."""
    first, second = harness.submit(), harness.submit()
    assert harness.claim(first)
    assert harness.claim(second) is None
    harness.clock.advance(SLOT_S + 1)
    harness.reconciler.reconcile()
    assert list(keys_under(harness.store, keys.RUNNING)) == []
    harness.worker.run_once()
    assert (harness.status(first), harness.status(second)) == (Status.SUCCEEDED, Status.QUEUED)


def test_reconciler_keeps_the_slots_of_running_jobs_and_enqueues_no_more_than_may_run(harness: LimitHarness) -> None:
    """Otherwise a thousand blocked jobs would be claimed in vain every minute."""
    job_list = [harness.submit(limit=2) for _ in range(5)]
    held = harness.claim(job_list[0])
    assert held
    while harness.queue.dequeue():
        pass
    harness.clock.advance(20)
    held = harness.jobs.renew(held, stage=None, progress=0.1)
    harness.clock.advance(20)
    held = harness.jobs.renew(held, stage=None, progress=0.2)
    harness.clock.advance(SLOT_S - 39)
    harness.jobs.renew(held, stage=None, progress=0.3)
    assert harness.reconciler.reconcile().enqueued == 1
    assert len(list(keys_under(harness.store, keys.RUNNING))) == 1


def test_released_job_releases_its_slot_at_once(harness: LimitHarness) -> None:
    """Else the next worker could not claim it."""

    def unfit(_: Job) -> None:
        raise WorkerUnfit("the GPU is gone")

    job_id = harness.submit()
    harness.act = unfit
    with pytest.raises(WorkerUnfit):
        harness.worker.run_once()
    assert list(keys_under(harness.store, keys.RUNNING)) == []
    assert harness.claim(job_id)


def test_canceled_jobs_are_passed_over(harness: LimitHarness) -> None:
    """A free slot goes to the first job that still waits."""
    first, canceled, third = (harness.submit() for _ in range(3))
    held = harness.claim(first)
    assert held
    assert (harness.claim(canceled), harness.claim(third)) == (None, None)
    harness.jobs.cancel(canceled)
    harness.jobs.succeed(held, artifacts={}, timings={})
    following = harness.jobs.release_slot(held.record)
    assert following is not None
    assert following.id == third


def test_replaced_worker_does_not_release_the_slot_of_another_job(harness: LimitHarness) -> None:
    """Its slot was released, and another job holds it."""
    first, second = harness.submit(), harness.submit()
    zombie = harness.claim(first)
    assert zombie
    harness.clock.advance(SLOT_S + 1)
    harness.reconciler.reconcile()
    assert harness.claim(second)
    harness.jobs.release_slot(zombie.record)
    assert harness.claim(first) is None


def test_caller_without_a_limit_needs_no_further_requests(harness: LimitHarness) -> None:
    """Neither slots nor markers."""
    harness.submit(limit=None)
    harness.worker.run_once()
    assert not [key for key in keys_under(harness.store, "") if key.startswith((keys.RUNNING, keys.BLOCKED))]


def test_rows_of_a_batch_keep_to_the_limit_of_their_caller() -> None:
    """They are jobs like any others."""
    batches = BatchHarness()
    batch = batches.running(3, limits=BatchLimits(running_jobs=1))
    batches.dispatch(batch)
    job_list = [batches.queue.dequeue() or "" for _ in range(3)]
    assert [batches.jobs.claim(job_id, "worker") is not None for job_id in job_list] == [True, False, False]
