"""A ticket takes one job and brings it to its end, whatever happens on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from infra.queues.memory import MemoryStore
from shared.domain.job import Artifact, Job, Stage, Status
from shared.errors import EngineFailed, NoObjectFound, StoreRefused, WorkerUnfit
from shared.repositories.jobs import JobRepository
from shared.storage import keys
from tests.support.fakes import HandClock, ListQueue, keys_under, submitted
from worker.runner.lease import Lease
from worker.runner.result import JobResult
from worker.runner.worker import Worker

Act = Callable[[Job, Lease], None]


@dataclass
class House:
    """A ledger, a doorbell and one worker whose work is a list of acts, one for each attempt."""

    clock: HandClock = field(default_factory=HandClock)
    queue: ListQueue = field(default_factory=ListQueue)
    acts: list[Act] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.jobs = JobRepository(self.store)
        self.worker = Worker(jobs=self.jobs, queue=self.queue, work=self.work, name="worker", usd_per_s=0.5)

    def work(self, job: Job, lease: Any) -> JobResult:
        key = keys.artifact(job.id, job.attempt, "model.glb")
        self.store.put(key, b"glb")
        if self.acts:
            self.acts.pop(0)(job, lease)
        return JobResult(
            {"model": Artifact(key=key, bytes=3, sha256="-", content_type="model/gltf-binary")}, {"shape": 2.0}
        )

    def run(self, *acts: Act) -> Job:
        """Submit a job, ring for it, run one ticket, and return the job as it stands then."""
        self.acts = list(acts)
        job = submitted(self.jobs)
        self.queue.enqueue([job.id], job.lane)
        self.worker.run_once()
        return self.jobs.read(job.id).record

    def artifacts(self) -> list[str]:
        """The attempts' files in the store, as `<attempt>/<name>`."""
        return [key.split("/", 2)[2] for key in keys_under(self.store, "jobs/") if key.endswith(".glb")]


def failing(error: Exception) -> Act:
    """An act that raises."""

    def act(_job: Job, lease: Lease) -> None:
        lease(Stage.SHAPE, 0.5)
        lease.heartbeat()
        raise error

    return act


def test_a_job_that_goes_well_is_settled_with_its_artifacts_and_its_cost() -> None:
    """The artifact is in the store, the record points at it, and nothing calls itself open any more."""
    house = House()
    job = house.run()
    assert (job.status, job.attempt, job.cost_usd, list(job.artifacts)) == (Status.SUCCEEDED, 1, 1.0, ["model"])
    assert house.store.get(job.artifacts["model"].key).body == b"glb"
    assert list(keys_under(house.store, keys.PENDING)) == []


def test_an_empty_queue_gives_no_ticket() -> None:
    """A worker that takes nothing says so, so that its loop can wait."""
    assert House().worker.run_once() is False


def test_fault_11_a_bad_input_fails_at_once_and_is_never_retried() -> None:
    """InputRejected is the caller's to mend: one attempt, its code in the record, no cost."""
    job = House().run(failing(NoObjectFound("nothing to see")))
    assert (job.status, job.attempt, job.cost_usd) == (Status.FAILED, 1, 0.0)
    assert job.error is not None
    assert (job.error.code, job.error.retryable, job.error.stage) == ("no_object_found", False, Stage.SHAPE)


def test_an_engine_failure_is_tried_again_in_place() -> None:
    """Two failures, then success: the third attempt's artifact counts and the others are gone."""
    house = House()
    job = house.run(failing(EngineFailed("cold")), failing(RuntimeError("a bug")))
    assert (job.status, job.attempt, job.failures) == (Status.SUCCEEDED, 3, 2)
    assert house.artifacts() == ["3/model.glb"]


def test_an_engine_that_always_fails_ends_the_job_with_its_code() -> None:
    """Three attempts, no more, and nothing is left of them."""
    house = House()
    job = house.run(*[failing(EngineFailed("broken"))] * 3)
    assert (job.status, job.attempt) == (Status.FAILED, 3)
    assert job.error is not None
    assert (job.error.code, job.error.retryable) == ("engine_failed", True)
    assert house.artifacts() == []


def test_fault_10_a_job_that_kills_its_workers_is_poison_after_three() -> None:
    """Three claims whose leases end without a word: failed, with the last stage in the record."""
    house = House()
    job = submitted(house.jobs)
    for _ in range(3):
        held = house.jobs.claim(job.id, "doomed")
        assert held is not None
        house.jobs.renew(held, stage=Stage.EXTRACT, progress=0.6)
        house.clock.advance(31)
    assert house.jobs.claim(job.id, "fourth") is None
    ended = house.jobs.read(job.id).record
    assert ended.error is not None
    assert (ended.status, ended.error.code, ended.error.stage) == (Status.FAILED, "poison", Stage.EXTRACT)


@pytest.mark.parametrize("stage", list(Stage))
def test_fault_23_a_cancel_stops_the_work_at_its_next_report(stage: Stage) -> None:
    """In every stage: the record is canceled at once, the work stops, and what it made is deleted."""
    house = House()
    reached_the_end = []

    def act(job: Job, lease: Lease) -> None:
        lease(stage, 0.5)
        lease.heartbeat()
        house.jobs.cancel(job.id)
        lease.heartbeat()
        lease(stage, 0.6)
        reached_the_end.append(True)

    job = house.run(act)
    assert (job.status, reached_the_end) == (Status.CANCELED, [])
    assert house.artifacts() == []
    assert list(keys_under(house.store, keys.PENDING)) == []


def test_fault_23_a_cancel_that_races_the_end_leaves_one_status() -> None:
    """Canceled just before the settle: the settle is refused."""
    house = House()
    job = house.run(lambda job, _: void(house.jobs.cancel(job.id)))
    assert job.status is Status.CANCELED
    assert house.artifacts() == []


def void(_: object) -> None:
    """Turns an expression into an act."""


def test_fault_7_a_frozen_worker_cannot_settle_after_it_was_replaced() -> None:
    """Attempt 2 wins; the zombie's settle is refused, its artifact goes, attempt 2's stays."""
    house = House()

    def freeze(job: Job, _lease: Lease) -> None:
        house.clock.advance(60)
        other = house.jobs.claim(job.id, "other")
        assert other is not None
        key = keys.artifact(job.id, other.record.attempt, "model.glb")
        house.store.put(key, b"second")
        second = Artifact(key=key, bytes=6, sha256="-", content_type="model/gltf-binary")
        house.jobs.succeed(other, artifacts={"model": second}, timings={})

    job = house.run(freeze)
    assert (job.status, job.attempt, job.crashes) == (Status.SUCCEEDED, 2, 1)
    assert house.store.get(job.artifacts["model"].key).body == b"second"
    assert house.artifacts() == ["2/model.glb"]


def test_fault_8_a_worker_that_must_leave_hands_its_job_back() -> None:
    """Queued again at once, held against nobody, rung for, and this worker takes no other."""
    house = House()
    job = house.run(lambda _job, _lease: house.worker.shutdown())
    assert (job.status, job.attempt, job.crashes, house.queue.rings) == (Status.QUEUED, 1, 0, [job.id])
    assert house.worker.run_once() is False


def test_fault_8_a_worker_told_to_leave_while_it_claims_gives_the_job_back() -> None:
    """Between the claim and the work there is no moment at which the order to leave gets lost."""
    house = House()
    job = submitted(house.jobs)

    class Telling(ListQueue):
        def dequeue(self) -> str | None:
            house.worker.shutdown()
            return job.id

    house.worker.queue = Telling()
    house.worker.run_once()
    handed_back = house.jobs.read(job.id).record
    assert (handed_back.status, handed_back.attempt, handed_back.crashes) == (Status.QUEUED, 1, 0)


@pytest.mark.parametrize("error", [WorkerUnfit("the GPU is gone"), StoreRefused("no space")])
def test_a_worker_that_cannot_go_on_gives_the_job_back_and_says_so(error: Exception) -> None:
    """The job stays queued: neither an unfit worker nor a full store is its fault."""
    house = House()
    with pytest.raises(type(error)):
        house.run(failing(error))
    (job,) = house.jobs.list("alice", limit=2).jobs
    assert (job.status, job.crashes, job.failures) == (Status.QUEUED, 0, 0)


def test_an_attempt_that_takes_too_long_ends_the_job() -> None:
    """No second attempt: it would take as long."""
    house = House()
    house.worker.deadline_s = -1.0
    job = house.run(lambda _job, lease: lease(Stage.SHAPE, 0.1))
    assert job.error is not None
    assert (job.status, job.attempt, job.error.code) == (Status.FAILED, 1, "deadline_exceeded")
