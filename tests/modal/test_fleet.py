"""Submits, a queue over the wire, and containers: what becomes of jobs, how soon they begin, what they cost."""

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
    """A fleet that has no containers yet; its store's clock stands still until it is moved."""
    fleet = Fleet(control_plane, store=SlowStore(ManualClock()))
    yield fleet
    fleet.stop()


def test_a_job_costs_twelve_bucket_requests_at_most(fleet: Fleet) -> None:
    """Four to accept it, two to claim it, four to work on it, two to settle it."""
    fleet.start(containers=1)
    fleet.submit()
    fleet.wait_until_idle(HANG_S)
    fleet.stop()
    assert fleet.requests.total() <= 12
    assert fleet.requests == {"put": 9, "get": 2, "delete": 1}


def test_few_calls_lie_between_a_submit_and_its_claim(fleet: Fleet) -> None:
    """One each to ring, to count tickets, to send one, and to take the id: what `bench.fleet.modal_rpc` times."""
    fleet.start(containers=2)
    fleet.submit()
    fleet.wait_until_idle(HANG_S)
    fleet.control_plane.calls.clear()
    fleet.submit()
    fleet.wait_until_idle(HANG_S)
    # The lengths of partitions apart: they are asked for side by side, by every ticket that looks.
    made = {name: fleet.control_plane.calls[name] for name in QUEUE_CALLS if name != "QueueLen"}
    assert made == {"QueuePut": 1, "FunctionGetCurrentStats": 1, "FunctionMap": 1, "QueueGet": 1}


def test_fault_3_no_job_is_lost_or_run_twice_where_answers_are_lost(fleet: Fleet) -> None:
    """Every tenth queue call acts and then fails; what was taken by a call that failed, the reconciler rings for."""
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


def test_fault_3_a_submit_while_modal_is_down_is_accepted_and_run_once(fleet: Fleet) -> None:
    """The job is in the bucket; the reconciler rings once Modal is back."""
    fleet.start(containers=1)
    for call in QUEUE_CALLS:
        fleet.control_plane.faults[call] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    job_id = fleet.submit()
    assert fleet.jobs.read(job_id).record.status is Status.QUEUED
    fleet.control_plane.reset_faults()
    fleet.reconciler.reconcile()
    fleet.wait_until_idle(HANG_S)
    assert fleet.run_counts == {job_id: 1}


def test_fault_3_the_reconciler_mends_what_has_its_id_but_lost_its_ticket(fleet: Fleet) -> None:
    """Its id waits in the lane, so it is not put again; but a ticket is sent."""
    fleet.control_plane.faults["FunctionMap"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    job_id = fleet.submit()
    fleet.control_plane.reset_faults()
    fleet.start(containers=1)
    fleet.reconciler.reconcile()
    fleet.wait_until_idle(HANG_S)
    assert fleet.run_counts == {job_id: 1}


def test_fault_3_a_queue_that_was_emptied_is_filled_again(fleet: Fleet) -> None:
    """Its ids are gone, and its tickets found nothing: the reconciler rings for each job, and each runs once."""
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


def test_fault_3_a_ring_that_came_twice_runs_its_job_once(fleet: Fleet) -> None:
    """The second claim is refused, and its ticket ends with nothing."""
    job_id = fleet.submit()
    fleet.queue.enqueue([job_id], Lane.STANDARD)
    container = fleet.build_container()
    for _ in range(2):
        container.run_once()
    assert fleet.run_counts == {job_id: 1}
    assert fleet.jobs.read(job_id).record.attempt == 1


def test_fault_7_a_frozen_container_is_replaced_and_its_settle_refused(fleet: Fleet) -> None:
    """Sixty seconds without a word: attempt 2 wins; thawed, the first container stops and leaves nothing behind."""
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
        fleet.build_container("other").run_once()
        won = fleet.jobs.read(job_id).record
        thawed.set()
        zombie.result(HANG_S)
    assert (won.status, won.attempt, won.crashes) == (Status.SUCCEEDED, 2, 1)
    assert fleet.jobs.read(job_id).record == won
    assert {artifact.key.split("/")[2] for artifact in won.artifacts.values()} == {"2"}
    assert list(fleet.store.list(f"jobs/{job_id}/1/")) == []


def test_fault_8_a_container_that_must_leave_hands_back_both_jobs(fleet: Fleet) -> None:
    """Within five seconds both are queued again, held against nobody, and another container runs them."""
    both_began, may_go_on = threading.Barrier(3), threading.Event()

    def act(job: Job, progress: Progress) -> None:
        progress(Stage.TEXTURE, 1.0)  # the other may begin
        if job.attempt == 1:
            both_began.wait(HANG_S)
            may_go_on.wait(HANG_S)
            progress(Stage.EXTRACT, 0.5)

    fleet.on_job = act
    leaving = fleet.build_container("leaving")
    job_list = [fleet.submit() for _ in range(2)]
    with ThreadPoolExecutor(2) as inputs:
        tickets = [inputs.submit(leaving.run_once) for _ in job_list]
        both_began.wait(HANG_S)
        leaving.shutdown()
        assert fleet.count_statuses() == {Status.QUEUED: 2}
        may_go_on.set()
        for ticket in tickets:
            ticket.result(HANG_S)
    fleet.start(containers=1)
    fleet.wait_until_idle(HANG_S)
    records = [fleet.jobs.read(job_id).record for job_id in job_list]
    assert [(job.status, job.attempt, job.crashes) for job in records] == [(Status.SUCCEEDED, 2, 0)] * 2


def test_fault_9_a_container_whose_gpu_failed_goes_and_its_neighbour_ends_in_peace(fleet: Fleet) -> None:
    """It takes no more inputs; its job is given back, the other ticket's is settled."""
    neighbour_began, gpu_failed = threading.Event(), threading.Event()

    def act(job: Job, progress: Progress) -> None:
        progress(Stage.TEXTURE, 1.0)  # the other may begin
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
        tickets = [inputs.submit(container.run_once) for _ in range(2)]
        assert fleet.unfit.wait(HANG_S)
        gpu_failed.set()
        for ticket in tickets:
            ticket.result(HANG_S)
    ends = {job_id: fleet.jobs.read(job_id).record for job_id in (broken, neighbour)}
    assert (ends[broken].status, ends[broken].crashes) == (Status.QUEUED, 0)
    assert (ends[neighbour].status, ends[neighbour].attempt) == (Status.SUCCEEDED, 1)


def test_fault_9_a_process_whose_gpu_was_too_small_is_replaced(fleet: Fleet) -> None:
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


def test_fault_9_a_process_that_had_room_only_for_less_is_replaced(fleet: Fleet) -> None:
    """The job succeeds; what is left of the GPU's memory is in pieces all the same."""
    fleet.out_of_memory = True
    container = fleet.build_container()
    job_id = fleet.submit()
    container.run_once()
    assert fleet.jobs.read(job_id).record.status is Status.SUCCEEDED
    assert fleet.unfit.is_set()


@pytest.mark.parametrize("fault", [WorkerUnfit("the GPU is gone"), GpuOutOfMemory("too large")])
def test_fault_9_a_ticket_that_still_waited_takes_no_job_to_a_gpu_that_failed(
    fleet: Fleet, fault: ServiceError
) -> None:
    """It had been sent to the container before: it ends with nothing, and another one is sent in its place."""
    waits = threading.Event()

    def fail(*_: object) -> None:
        assert waits.wait(HANG_S)
        raise fault

    fleet.on_job = fail
    container = fleet.build_container()
    broken, spared = fleet.submit(), fleet.submit()
    with ThreadPoolExecutor(2) as inputs:
        tickets = [inputs.submit(container.run_once)]
        while not fleet.claimed_at:
            time.sleep(0.001)
        tickets.append(inputs.submit(container.run_once))
        waits.set()
        for ticket in tickets:
            ticket.result(HANG_S)
    assert fleet.run_counts == {broken: 1}
    assert fleet.jobs.read(spared).record.attempt == 0
    fleet.on_job = lambda *_: None
    fleet.start(containers=1)
    fleet.wait_until_idle(HANG_S)
    assert fleet.jobs.read(spared).record.status is Status.SUCCEEDED


def test_a_silent_store_ends_a_ticket_without_a_successor(fleet: Fleet) -> None:
    """Or a fleet would take one id after the other out of the queue for nothing."""
    fleet.on_job = raise_unavailable
    fleet.submit()
    fleet.submit()
    sent = fleet.control_plane.spawned.total()
    fleet.build_container().run_once()
    assert fleet.control_plane.spawned.total() == sent + 1  # for the job that was given back
    assert fleet.count_statuses() == {Status.QUEUED: 2}


def test_fault_24_an_interactive_job_is_the_next_to_begin(fleet: Fleet) -> None:
    """Whatever of another caller's batch has begun."""
    for _ in range(20):
        fleet.submit(Lane.BATCH, caller="shop")
    container = fleet.build_container()
    for _ in range(3):
        container.run_once()
    mine = fleet.submit(Lane.INTERACTIVE, caller="alice")
    container.run_once()
    assert list(fleet.claimed_at)[3:] == [mine]


def test_fault_24_no_row_is_taken_before_it_may_sample(fleet: Fleet) -> None:
    """Another ticket of a busy container takes what is most urgent by then: the wait is the rest of one sampling."""
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
        tickets = [inputs.submit(container.run_once) for _ in range(2)]
        assert sampling.wait(HANG_S)
        mine = fleet.submit(Lane.INTERACTIVE, caller="alice")
        may_go_on.set()
        for ticket in tickets:
            ticket.result(HANG_S)
    assert list(fleet.claimed_at)[1:] == [mine]


def test_a_container_samples_on_while_two_jobs_are_finished(fleet: Fleet) -> None:
    """Neither of them has ended when the third begins, nor when a fourth would: that one waits for a ticket."""
    begun, may_end = threading.Semaphore(0), threading.Event()

    def act(_job: Job, progress: Progress) -> None:
        begun.release()
        progress(Stage.TEXTURE, 1.0)
        assert may_end.wait(HANG_S)

    fleet.on_job = act
    job_list = [fleet.submit() for _ in range(4)]
    container = fleet.build_container()
    with ThreadPoolExecutor(4) as inputs:
        tickets = [inputs.submit(container.run_once) for _ in job_list]
        began = [begun.acquire(timeout=HANG_S) for _ in range(3)]
        at_once = len(fleet.claimed_at)
        may_end.set()
        for ticket in tickets:
            ticket.result(HANG_S)
    assert (all(began), at_once) == (True, 3)
    assert fleet.count_statuses() == {Status.SUCCEEDED: 4}


def test_fault_24_beside_10000_rows_a_lone_job_waits_until_the_first_of_them_has_sampled(fleet: Fleet) -> None:
    """Every container of the fleet is busy with the catalog, and 500 rows are rung for: one job's length is all."""
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
