"""As many of a caller's jobs run at once as its key allows; the others wait, and hold up nobody."""

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
from tests.support.fakes import HandClock, keys_under, submitted
from worker.maintenance.reconciler import SLOT_S, Reconciler
from worker.runner.job_function import JobResult
from worker.runner.worker import Worker


@dataclass
class House:
    """A ledger, a doorbell, a sweeper, and a worker that does nothing to its jobs, or what `act` says."""

    clock: HandClock = field(default_factory=HandClock)
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    act: Any = None

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store)
        self.worker = Worker(jobs=self.jobs, queue=self.queue, work=self.work, name="worker")
        self.sweeper = Reconciler(self.jobs, self.queue, requeue_after_s=0.0)

    def work(self, job: Job, _progress: Any) -> JobResult:
        if self.act:
            self.act(job)
        return JobResult({}, {})

    def submit(self, limit: int | None = 1, **fields: Any) -> str:
        """A job that was rung for; its id."""
        job = submitted(self.jobs, running_limit=limit, **fields)
        self.clock.advance(0.001)
        self.queue.enqueue([job.id], job.lane)
        return job.id

    def status(self, job_id: str) -> Status:
        return self.jobs.read(job_id).record.status

    def claim(self, job_id: str) -> Versioned[Job] | None:
        return self.jobs.claim(job_id, "elsewhere")


@pytest.fixture
def house() -> House:
    """Nobody's."""
    return House()


def test_job_over_the_bound_stays_queued_and_others_run(house: House) -> None:
    """It is refused by the claim, not to its caller; another caller's job is taken all the same."""
    first, second = house.submit(), house.submit()
    assert house.claim(first)
    others = house.submit(limit=None, caller="bob")
    while house.worker.run_once():
        pass
    assert [house.status(one) for one in (first, second, others)] == [
        Status.RUNNING, Status.QUEUED, Status.SUCCEEDED,
    ]  # fmt: skip


def test_next_one_is_rung_for_when_one_ends(house: House) -> None:
    """No sweep is needed: whoever is done rings for the oldest that found no slot."""
    job_list = [house.submit(limit=2) for _ in range(5)]
    running: list[str] = []

    def act(job: Job) -> None:
        running.append(job.id)
        if len(running) == 1:  # while the first runs: the second is claimed elsewhere, the others find no slot
            assert house.claim(job_list[1])
            assert [house.claim(one) for one in job_list[2:]] == [None] * 3
            while house.queue.dequeue():
                pass

    house.act = act
    while house.worker.run_once():
        pass
    assert running == [job_list[0], *job_list[2:]]


def test_many_workers_at_once_keep_to_the_bound(house: House) -> None:
    """Slots are made by compare-and-set."""
    job_list = [house.submit(limit=3) for _ in range(40)]
    with ThreadPoolExecutor(16) as workers:
        held = list(workers.map(house.claim, job_list))
    assert sum(one is not None for one in held) == len(list(keys_under(house.store, keys.RUNNING))) == 3


def test_slot_of_a_dead_worker_is_freed_by_the_sweeper(house: House) -> None:
    """Once its lease is over; the job itself is the first to run again."""
    first, second = house.submit(), house.submit()
    assert house.claim(first)
    assert house.claim(second) is None
    house.clock.advance(SLOT_S + 1)
    house.sweeper.reconcile()
    assert list(keys_under(house.store, keys.RUNNING)) == []
    house.worker.run_once()
    assert (house.status(first), house.status(second)) == (Status.SUCCEEDED, Status.QUEUED)


def test_sweeper_leaves_the_slots_of_running_jobs_and_rings_for_no_more_than_may_run(house: House) -> None:
    """Otherwise a thousand blocked jobs would be claimed in vain every minute."""
    job_list = [house.submit(limit=2) for _ in range(5)]
    held = house.claim(job_list[0])
    assert held
    while house.queue.dequeue():
        pass
    house.clock.advance(20)
    held = house.jobs.renew(held, stage=None, progress=0.1)
    house.clock.advance(20)
    held = house.jobs.renew(held, stage=None, progress=0.2)
    house.clock.advance(SLOT_S - 39)
    house.jobs.renew(held, stage=None, progress=0.3)
    assert house.sweeper.reconcile().enqueued == 1
    assert len(list(keys_under(house.store, keys.RUNNING))) == 1


def test_job_that_is_handed_back_frees_its_slot_at_once(house: House) -> None:
    """Or the next worker could not claim it."""

    def unfit(_: Job) -> None:
        raise WorkerUnfit("the GPU is gone")

    job_id = house.submit()
    house.act = unfit
    with pytest.raises(WorkerUnfit):
        house.worker.run_once()
    assert list(keys_under(house.store, keys.RUNNING)) == []
    assert house.claim(job_id)


def test_canceled_and_lost_jobs_are_passed_over(house: House) -> None:
    """A slot that is free goes to the first that still waits."""
    first, canceled, third = (house.submit() for _ in range(3))
    held = house.claim(first)
    assert held
    assert (house.claim(canceled), house.claim(third)) == (None, None)
    house.jobs.cancel(canceled)
    house.jobs.succeed(held, artifacts={}, timings={})
    following = house.jobs.release_slot(held.record)
    assert following is not None
    assert following.id == third


def test_worker_that_was_replaced_frees_nobody_elses_slot(house: House) -> None:
    """Its slot was cleared and is another job's by now."""
    first, second = house.submit(), house.submit()
    zombie = house.claim(first)
    assert zombie
    house.clock.advance(SLOT_S + 1)
    house.sweeper.reconcile()
    assert house.claim(second)
    house.jobs.release_slot(zombie.record)
    assert house.claim(first) is None


def test_caller_without_a_bound_costs_no_request_more(house: House) -> None:
    """Neither slots nor markers."""
    house.submit(limit=None)
    house.worker.run_once()
    assert not [key for key in keys_under(house.store, "") if key.startswith((keys.RUNNING, keys.BLOCKED))]


def test_rows_of_a_batch_keep_to_the_bound_of_their_caller() -> None:
    """They are jobs like others."""
    shop = BatchHarness()
    batch = shop.running(3, limits=BatchLimits(running_jobs=1))
    shop.dispatch(batch)
    job_list = [shop.queue.dequeue() or "" for _ in range(3)]
    assert [shop.jobs.claim(job_id, "worker") is not None for job_id in job_list] == [True, False, False]
