"""A fleet over the queue on Modal: each job runs once, starts soon, and costs few requests."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from grpclib import Status as GrpcStatus

from bench.fleet.control_plane.server import ControlPlane, Faults
from bench.fleet.modal_fleet import Fleet, SlowStore, raise_unavailable
from shared.domain.job import Job, Lane, Stage, Status
from shared.errors import GpuOutOfMemory, ServiceError, WorkerUnfit
from tests.support.batch_harness import BatchHarness
from tests.support.fakes import ManualClock
from tests.support.waiting import HANG_S
from worker.engine import Progress

QUEUE_CALLS = ("QueuePut", "QueueGet", "QueueLen", "FunctionMap", "FunctionGetCurrentStats")


@pytest.fixture
def fleet(control_plane: ControlPlane) -> Iterator[Fleet]:
    """A fleet without containers yet; the test moves its store's clock."""
    fleet = Fleet(control_plane, store=SlowStore(ManualClock()))
    yield fleet
    fleet.stop()


def test_job_costs_twelve_bucket_requests_at_most(fleet: Fleet) -> None:
    """Four to accept it, two to claim it, four to work on it, two to finish it."""
    fleet.start(containers=1)
    fleet.submit()
    fleet.wait_until_idle(HANG_S)
    fleet.stop()
    assert fleet.requests.total() <= 12
    assert fleet.requests == {"put": 9, "get": 2, "delete": 1}


def test_four_calls_happen_between_a_submit_and_its_claim(fleet: Fleet) -> None:
    """Enqueue, count invocations, spawn one, dequeue: the calls that `bench.fleet.modal_rpc` times."""
    fleet.start(containers=2)
    fleet.submit()
    fleet.wait_until_idle(HANG_S)
    fleet.control_plane.calls.clear()
    fleet.submit()
    fleet.wait_until_idle(HANG_S)
    # Without QueueLen: every invocation that dequeues asks for the lengths of all partitions at once.
    calls = {name: fleet.control_plane.calls[name] for name in QUEUE_CALLS if name != "QueueLen"}
    assert calls == {"QueuePut": 1, "FunctionGetCurrentStats": 1, "FunctionMap": 1, "QueueGet": 1}


def test_fault_3_no_job_is_lost_or_run_twice_when_answers_are_lost(fleet: Fleet) -> None:
    """Every tenth queue call acts and then fails; the reconciler enqueues the ids that failed calls dequeued."""
    fleet.start(containers=4)
    for call in QUEUE_CALLS:
        fleet.control_plane.faults[call] = Faults(fail_after=0.1)
    with ThreadPoolExecutor(8) as pool:
        job_list = list(pool.map(lambda _: fleet.submit(), range(100)))
    for _ in range(20):
        fleet.reconciler.reconcile()
        try:
            fleet.wait_until_idle(2.0)
            break
        except TimeoutError:
            continue
    assert fleet.count_statuses() == {Status.SUCCEEDED: 100}
    assert fleet.run_counts == dict.fromkeys(job_list, 1)


def test_fault_3_submit_while_modal_is_down_is_accepted_and_run_once(fleet: Fleet) -> None:
    """The job is in the bucket; the reconciler enqueues it once Modal is back."""
    fleet.start(containers=1)
    for call in QUEUE_CALLS:
        fleet.control_plane.faults[call] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    job_id = fleet.submit()
    assert fleet.jobs.read(job_id).record.status is Status.QUEUED
    fleet.control_plane.reset_faults()
    fleet.reconciler.reconcile()
    fleet.wait_until_idle(HANG_S)
    assert fleet.run_counts == {job_id: 1}


def test_fault_3_reconciler_spawns_an_invocation_for_a_waiting_id(fleet: Fleet) -> None:
    """The id is still in its lane and is not put again."""
    fleet.control_plane.faults["FunctionMap"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    job_id = fleet.submit()
    fleet.control_plane.reset_faults()
    fleet.start(containers=1)
    fleet.reconciler.reconcile()
    fleet.wait_until_idle(HANG_S)
    assert fleet.run_counts == {job_id: 1}


def test_fault_3_reconciler_refills_an_emptied_queue(fleet: Fleet) -> None:
    """The ids are lost and their invocations ended without a job; still each job runs once."""
    job_list = [fleet.submit() for _ in range(3)]
    container = fleet.build_container()
    while fleet.queue.dequeue():
        pass
    for _ in job_list:
        container.run_once()
    assert fleet.count_statuses() == {Status.QUEUED: 3}
    fleet.start(containers=1)
    fleet.reconciler.reconcile()
    fleet.wait_until_idle(HANG_S)
    assert fleet.run_counts == dict.fromkeys(job_list, 1)


def test_fault_3_job_that_is_enqueued_twice_runs_once(fleet: Fleet) -> None:
    """The second claim is refused, and its invocation ends without a job."""
    job_id = fleet.submit()
    fleet.queue.enqueue([job_id], Lane.STANDARD)
    container = fleet.build_container()
    for _ in range(2):
        container.run_once()
    assert fleet.run_counts == {job_id: 1}
    assert fleet.jobs.read(job_id).record.attempt == 1


def test_fault_7_frozen_container_is_replaced_and_its_result_refused(fleet: Fleet) -> None:
    """After sixty seconds without a heartbeat attempt 2 succeeds; the first container then stops without leftovers."""
    clock = fleet.store._clock
    frozen, thawed = threading.Event(), threading.Event()

    def act(job: Job, _: Progress) -> None:
        if job.attempt == 1:
            frozen.set()
            assert thawed.wait(HANG_S)

    fleet.on_job = act
    job_id = fleet.submit()
    with ThreadPoolExecutor(1) as inputs:
        zombie = inputs.submit(fleet.build_container("frozen").run_once)
        assert frozen.wait(HANG_S)
        clock.advance(60)
        fleet.reconciler.reconcile()
        fleet.build_container("second").run_once()
        won = fleet.jobs.read(job_id).record
        thawed.set()
        zombie.result(HANG_S)
    assert (won.status, won.attempt, won.crashes) == (Status.SUCCEEDED, 2, 1)
    assert fleet.jobs.read(job_id).record == won
    assert {artifact.key.split("/")[2] for artifact in won.artifacts.values()} == {"2"}
    assert list(fleet.store.list(f"jobs/{job_id}/1/")) == []


def test_fault_8_stopping_container_releases_both_jobs(fleet: Fleet) -> None:
    """Both are queued again without a crash counted, and another container runs them."""
    both_began, may_go_on = threading.Barrier(3), threading.Event()

    def act(job: Job, progress: Progress) -> None:
        progress(Stage.TEXTURE, 1.0)  # the next job may begin
        if job.attempt == 1:
            both_began.wait(HANG_S)
            may_go_on.wait(HANG_S)
            progress(Stage.EXTRACT, 0.5)

    fleet.on_job = act
    stopping = fleet.build_container("stopping")
    job_list = [fleet.submit() for _ in range(2)]
    with ThreadPoolExecutor(2) as inputs:
        invocations = [inputs.submit(stopping.run_once) for _ in job_list]
        both_began.wait(HANG_S)
        stopping.shutdown()
        assert fleet.count_statuses() == {Status.QUEUED: 2}
        may_go_on.set()
        for invocation in invocations:
            invocation.result(HANG_S)
    fleet.start(containers=1)
    fleet.wait_until_idle(HANG_S)
    records = [fleet.jobs.read(job_id).record for job_id in job_list]
    assert [(job.status, job.attempt, job.crashes) for job in records] == [(Status.SUCCEEDED, 2, 0)] * 2


def test_fault_9_container_with_a_failed_gpu_ends_after_its_other_job(fleet: Fleet) -> None:
    """It takes no more inputs; its own job is released, the other one finishes."""
    neighbour_began, gpu_failed = threading.Event(), threading.Event()

    def act(job: Job, progress: Progress) -> None:
        progress(Stage.TEXTURE, 1.0)  # the next job may begin
        if job.id == broken and job.attempt == 1:
            neighbour_began.wait(HANG_S)
            raise WorkerUnfit("the GPU is gone")
        neighbour_began.set()
        gpu_failed.wait(HANG_S)

    fleet.on_job = act
    container = fleet.build_container()
    broken = fleet.submit()
    neighbour = fleet.submit()
    with ThreadPoolExecutor(2) as inputs:
        invocations = [inputs.submit(container.run_once) for _ in range(2)]
        assert fleet.unfit.wait(HANG_S)
        gpu_failed.set()
        for invocation in invocations:
            invocation.result(HANG_S)
    ends = {job_id: fleet.jobs.read(job_id).record for job_id in (broken, neighbour)}
    assert (ends[broken].status, ends[broken].crashes) == (Status.QUEUED, 0)
    assert (ends[neighbour].status, ends[neighbour].attempt) == (Status.SUCCEEDED, 1)


def test_fault_9_process_is_replaced_after_a_job_ran_out_of_gpu_memory(fleet: Fleet) -> None:
    """The job fails with its own code; the container takes no more inputs."""

    def too_large(*_: object) -> None:
        raise GpuOutOfMemory("the job needs more memory than the GPU has")

    fleet.on_job = too_large
    container = fleet.build_container()
    job_id = fleet.submit()
    container.run_once()
    job = fleet.jobs.read(job_id).record
    assert job.error is not None
    assert (job.status, job.error.code, job.crashes) == (Status.FAILED, "gpu_out_of_memory", 0)
    assert fleet.unfit.is_set()


def test_fault_9_process_is_replaced_after_a_job_was_reduced_to_fit(fleet: Fleet) -> None:
    """The job succeeds, but the GPU's memory is fragmented."""
    fleet.out_of_memory = True
    container = fleet.build_container()
    job_id = fleet.submit()
    container.run_once()
    assert fleet.jobs.read(job_id).record.status is Status.SUCCEEDED
    assert fleet.unfit.is_set()


@pytest.mark.parametrize("fault", [WorkerUnfit("the GPU is gone"), GpuOutOfMemory("too large")])
def test_fault_9_waiting_invocation_takes_no_job_to_a_failed_gpu(fleet: Fleet, fault: ServiceError) -> None:
    """It was sent to the container before the failure: it ends without a job, and a new one is spawned."""
    waits = threading.Event()

    def fail(*_: object) -> None:
        assert waits.wait(HANG_S)
        raise fault

    fleet.on_job = fail
    container = fleet.build_container()
    broken, spared = fleet.submit(), fleet.submit()
    with ThreadPoolExecutor(2) as inputs:
        invocations = [inputs.submit(container.run_once)]
        while not fleet.claimed_at:
            time.sleep(0.001)
        invocations.append(inputs.submit(container.run_once))
        waits.set()
        for invocation in invocations:
            invocation.result(HANG_S)
    assert fleet.run_counts == {broken: 1}
    assert fleet.jobs.read(spared).record.attempt == 0
    fleet.on_job = lambda *_: None
    fleet.start(containers=1)
    fleet.wait_until_idle(HANG_S)
    assert fleet.jobs.read(spared).record.status is Status.SUCCEEDED


def test_invocation_spawns_no_successor_while_the_store_is_silent(fleet: Fleet) -> None:
    """Otherwise the fleet would empty the queue without running a job."""
    fleet.on_job = raise_unavailable
    fleet.submit()
    fleet.submit()
    sent = fleet.control_plane.spawned.total()
    fleet.build_container().run_once()
    assert fleet.control_plane.spawned.total() == sent + 1  # for the released job
    assert fleet.count_statuses() == {Status.QUEUED: 2}


def test_fault_24_interactive_job_starts_next(fleet: Fleet) -> None:
    """Even while another caller's batch runs."""
    for _ in range(20):
        fleet.submit(Lane.BATCH, caller="shop")
    container = fleet.build_container()
    for _ in range(3):
        container.run_once()
    mine = fleet.submit(Lane.INTERACTIVE, caller="alice")
    container.run_once()
    assert list(fleet.claimed_at)[3:] == [mine]


def test_fault_24_no_row_is_dequeued_before_it_may_sample(fleet: Fleet) -> None:
    """The next invocation of a busy container dequeues the most urgent job by then: it waits for one sampling."""
    sampling, may_go_on = threading.Event(), threading.Event()

    def act(_job: Job, progress: Progress) -> None:
        sampling.set()
        assert may_go_on.wait(HANG_S)
        progress(Stage.TEXTURE, 1.0)

    fleet.on_job = act
    for _ in range(20):
        fleet.submit(Lane.BATCH, caller="shop")
    container = fleet.build_container()
    with ThreadPoolExecutor(2) as inputs:
        invocations = [inputs.submit(container.run_once) for _ in range(2)]
        assert sampling.wait(HANG_S)
        mine = fleet.submit(Lane.INTERACTIVE, caller="alice")
        may_go_on.set()
        for invocation in invocations:
            invocation.result(HANG_S)
    assert list(fleet.claimed_at)[1:] == [mine]


def test_container_samples_while_two_jobs_are_finishing(fleet: Fleet) -> None:
    """Both are unfinished when the third starts; the fourth waits for an invocation."""
    begun, may_end = threading.Semaphore(0), threading.Event()

    def act(_job: Job, progress: Progress) -> None:
        begun.release()
        progress(Stage.TEXTURE, 1.0)
        assert may_end.wait(HANG_S)

    fleet.on_job = act
    job_list = [fleet.submit() for _ in range(4)]
    container = fleet.build_container()
    with ThreadPoolExecutor(4) as inputs:
        invocations = [inputs.submit(container.run_once) for _ in job_list]
        began = [begun.acquire(timeout=HANG_S) for _ in range(3)]
        at_once = len(fleet.claimed_at)
        may_end.set()
        for invocation in invocations:
            invocation.result(HANG_S)
    assert (all(began), at_once) == (True, 3)
    assert fleet.count_statuses() == {Status.SUCCEEDED: 4}


def test_fault_24_single_job_waits_for_one_sampling_of_10000_rows(fleet: Fleet) -> None:
    """Every container runs rows of the catalog, and 500 more are enqueued."""
    batches = BatchHarness(
        clock=fleet.store._clock, queue=fleet.open_queue(bound_s=20.0), store=fleet.store, max_jobs=512
    )
    assert batches.dispatch(batches.running(10_000)).claimed == 512
    sampling, may_go_on = threading.Semaphore(0), threading.Semaphore(0)

    def act(_job: Job, progress: Progress) -> None:
        sampling.release()
        assert may_go_on.acquire(timeout=HANG_S)
        progress(Stage.TEXTURE, 1.0)

    fleet.on_job = act
    fleet.start(containers=3)
    for _ in range(3):
        assert sampling.acquire(timeout=HANG_S)
    mine = fleet.submit(Lane.INTERACTIVE, caller="alice")
    may_go_on.release()
    assert sampling.acquire(timeout=HANG_S)
    assert list(fleet.claimed_at)[3:] == [mine]
    fleet.on_job = lambda _job, _progress: None
    may_go_on.release(100)
