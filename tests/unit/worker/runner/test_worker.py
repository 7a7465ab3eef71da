"""A worker runs one job to its end, whatever happens on the way."""

import pytest

from shared.domain.job import Artifact, Job, Stage, Status
from shared.errors import EngineFailed, NoObjectFound, StoreRefused, WorkerUnfit
from shared.storage import keys
from tests.support.fakes import ListQueue, keys_under, submitted
from tests.support.worker_harness import WorkerHarness, failing
from worker.runner.lease import Lease


def test_a_job_succeeds_with_its_artifacts_and_its_cost() -> None:
    """The artifact is in the store, the record points at it, and no pending marker is left."""
    harness = WorkerHarness()
    job = harness.run()
    assert (job.status, job.attempt, job.cost_usd, list(job.artifacts)) == (Status.SUCCEEDED, 1, 1.0, ["model"])
    assert harness.store.get(job.artifacts["model"].key).body == b"glb"
    assert list(keys_under(harness.store, keys.PENDING)) == []


def test_an_empty_queue_runs_nothing() -> None:
    """The worker returns False, so that its loop can wait."""
    assert WorkerHarness().worker.run_once() is False


def test_fault_11_a_bad_input_fails_at_once_and_is_never_retried() -> None:
    """Only the caller can correct InputRejected: one attempt, its code in the record, no cost."""
    job = WorkerHarness().run(failing(NoObjectFound("nothing to see")))
    assert (job.status, job.attempt, job.cost_usd) == (Status.FAILED, 1, 0.0)
    assert job.error is not None
    assert (job.error.code, job.error.retryable, job.error.stage) == ("no_object_found", False, Stage.SHAPE)


def test_an_engine_failure_is_retried_in_the_same_worker() -> None:
    """Two failures, then success: the third attempt's artifact is kept and the others are deleted."""
    harness = WorkerHarness()
    job = harness.run(failing(EngineFailed("cold")), failing(RuntimeError("a bug")))
    assert (job.status, job.attempt, job.failures) == (Status.SUCCEEDED, 3, 2)
    assert harness.artifacts() == ["3/model.glb"]


def test_an_engine_that_always_fails_ends_the_job_with_its_code() -> None:
    """After three attempts, whose files are deleted."""
    harness = WorkerHarness()
    job = harness.run(*[failing(EngineFailed("broken"))] * 3)
    assert (job.status, job.attempt) == (Status.FAILED, 3)
    assert job.error is not None
    assert (job.error.code, job.error.retryable) == ("engine_failed", True)
    assert harness.artifacts() == []


def test_fault_10_a_job_that_kills_its_workers_is_poison_after_three() -> None:
    """Three claims whose leases run out: failed, with the last stage in the record."""
    harness = WorkerHarness()
    job = submitted(harness.jobs)
    for _ in range(3):
        held = harness.jobs.claim(job.id, "doomed")
        assert held is not None
        harness.jobs.renew(held, stage=Stage.EXTRACT, progress=0.6)
        harness.clock.advance(31)
    assert harness.jobs.claim(job.id, "fourth") is None
    ended = harness.jobs.read(job.id).record
    assert ended.error is not None
    assert (ended.status, ended.error.code, ended.error.stage) == (Status.FAILED, "poison", Stage.EXTRACT)


@pytest.mark.parametrize("stage", list(Stage))
def test_fault_23_a_cancel_stops_the_work_at_its_next_report(stage: Stage) -> None:
    """In every stage: the record is canceled at once, the work stops, and its files are deleted."""
    harness = WorkerHarness()
    after_the_cancel = []

    def act(job: Job, lease: Lease) -> None:
        lease.on_stage(stage, 0.5)
        lease.heartbeat()
        harness.jobs.cancel(job.id)
        lease.heartbeat()
        lease.on_stage(stage, 0.6)
        after_the_cancel.append(True)

    job = harness.run(act)
    assert (job.status, after_the_cancel) == (Status.CANCELED, [])
    assert harness.artifacts() == []
    assert list(keys_under(harness.store, keys.PENDING)) == []


def test_fault_23_a_cancel_that_races_the_end_leaves_one_status() -> None:
    """Canceled just before the worker's last write: that write is refused."""
    harness = WorkerHarness()
    job = harness.run(lambda job, _: void(harness.jobs.cancel(job.id)))
    assert job.status is Status.CANCELED
    assert harness.artifacts() == []


def void(_: object) -> None:
    """Turn an expression into an act."""


def test_fault_7_a_frozen_worker_cannot_finish_a_job_after_it_was_replaced() -> None:
    """Attempt 2 counts; the frozen worker's last write is refused and its artifact deleted, attempt 2's is kept."""
    harness = WorkerHarness()

    def freeze(job: Job, _lease: Lease) -> None:
        harness.clock.advance(60)
        replacement = harness.jobs.claim(job.id, "replacement")
        assert replacement is not None
        key = keys.artifact(job.id, replacement.record.attempt, "model.glb")
        harness.store.put(key, b"second")
        second = Artifact(key=key, bytes=6, sha256="-", content_type="model/gltf-binary")
        harness.jobs.succeed(replacement, artifacts={"model": second}, timings={})

    job = harness.run(freeze)
    assert (job.status, job.attempt, job.crashes) == (Status.SUCCEEDED, 2, 1)
    assert harness.store.get(job.artifacts["model"].key).body == b"second"
    assert harness.artifacts() == ["2/model.glb"]


def test_fault_8_a_worker_that_shuts_down_releases_its_job() -> None:
    """The job is queued and enqueued again at once, counts no crash, and the worker dequeues no other."""
    harness = WorkerHarness()
    job = harness.run(lambda _job, _lease: harness.worker.shutdown())
    assert (job.status, job.attempt, job.crashes, harness.queue.enqueued) == (Status.QUEUED, 1, 0, [job.id])
    assert harness.worker.run_once() is False


def test_fault_8_a_shutdown_during_a_claim_releases_the_job() -> None:
    """A shutdown between the claim and the work is not lost."""
    harness = WorkerHarness()
    job = submitted(harness.jobs)

    class ShuttingDown(ListQueue):
        def dequeue(self) -> str | None:
            harness.worker.shutdown()
            return job.id

    harness.worker.queue = ShuttingDown()
    harness.worker.run_once()
    released = harness.jobs.read(job.id).record
    assert (released.status, released.attempt, released.crashes) == (Status.QUEUED, 1, 0)


@pytest.mark.parametrize("error", [WorkerUnfit("the GPU is gone"), StoreRefused("no space")])
def test_a_worker_that_cannot_continue_releases_the_job_and_raises(error: Exception) -> None:
    """The job stays queued: neither an unfit worker nor a full store is its fault."""
    harness = WorkerHarness()
    with pytest.raises(type(error)):
        harness.run(failing(error))
    (job,) = harness.jobs.list("alice", limit=2).jobs
    assert (job.status, job.crashes, job.failures) == (Status.QUEUED, 0, 0)


def test_an_attempt_that_takes_too_long_ends_the_job() -> None:
    """Without a second attempt, which would take as long."""
    harness = WorkerHarness()
    harness.worker.deadline_s = -1.0
    job = harness.run(lambda _job, lease: lease.on_stage(Stage.SHAPE, 0.1))
    assert job.error is not None
    assert (job.status, job.attempt, job.error.code) == (Status.FAILED, 1, "deadline_exceeded")
