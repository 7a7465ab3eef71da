"""The queues of the embedded service: in memory, or polled from the job records."""

import threading

from bench.support.memory_store import MemoryStore
from infra.queues.local import LISTING_VALID_S, SKIP_S, MemoryQueue, PollingQueue
from shared.domain.job import Lane
from shared.repositories.job_listeners import build_job_repository
from tests.support.fakes import ManualClock, Seconds, submitted
from tests.support.waiting import HANG_S


def test_open_jobs_are_offered_lane_by_lane_oldest_first() -> None:
    """Without any enqueue."""
    clock = ManualClock()
    jobs = build_job_repository(MemoryStore(clock))
    batch = submitted(jobs, lane=Lane.BATCH)
    first = submitted(jobs)
    clock.advance(1)
    second = submitted(jobs)
    interactive = submitted(jobs, lane=Lane.INTERACTIVE)
    queue = PollingQueue(jobs, clock=Seconds())
    assert [queue.dequeue() for _ in range(5)] == [interactive.id, first.id, second.id, batch.id, None]


def test_an_offered_id_is_not_offered_again_until_its_lease_may_be_over() -> None:
    """It is running here, or another worker has it; later the claim will tell."""
    jobs = build_job_repository(MemoryStore(ManualClock()))
    job = submitted(jobs)
    seconds = Seconds()
    queue = PollingQueue(jobs, clock=seconds)
    offers = []
    for pause_s in (0.0, LISTING_VALID_S, SKIP_S):
        seconds.now += pause_s
        offers.append(queue.dequeue())
    assert offers == [job.id, None, job.id]


def test_an_idle_worker_lists_no_more_often_than_it_must() -> None:
    """A listing is what the store charges for."""
    jobs = build_job_repository(MemoryStore(ManualClock()))
    seconds = Seconds()
    queue = PollingQueue(jobs, clock=seconds)
    assert queue.dequeue() is None
    job = submitted(jobs)
    seconds.now += LISTING_VALID_S / 2
    assert queue.dequeue() is None
    seconds.now += LISTING_VALID_S / 2
    assert queue.dequeue() == job.id


def test_fault_24_an_interactive_job_passes_a_batch_that_was_listed_before_it_came() -> None:
    """A listing is believed for a quarter of a second, not until all that it showed is done."""
    jobs, seconds = build_job_repository(MemoryStore(ManualClock())), Seconds()
    for _ in range(20):
        submitted(jobs, lane=Lane.BATCH)
    queue = PollingQueue(jobs, clock=seconds)
    assert queue.dequeue()
    mine = submitted(jobs, caller="bob", lane=Lane.INTERACTIVE)
    seconds.now += LISTING_VALID_S
    assert queue.dequeue() == mine.id


def test_fault_24_a_callers_first_job_passes_the_many_of_another_in_its_lane() -> None:
    """By tier: one job of each caller, then seven."""
    clock = ManualClock()
    jobs = build_job_repository(MemoryStore(clock))
    many = []
    for _ in range(3):
        many.append(submitted(jobs).id)
        clock.advance(1)
    mine = submitted(jobs, caller="bob").id
    queue = PollingQueue(jobs, clock=Seconds())
    assert [queue.dequeue() for _ in range(4)] == [many[0], mine, *many[1:]]


def test_a_batch_is_not_starved_by_interactive_jobs() -> None:
    """Those that ran count; an offer that was refused, being back at once, does not."""
    jobs, seconds = build_job_repository(MemoryStore(ManualClock())), Seconds()
    row = submitted(jobs, lane=Lane.BATCH)
    for _ in range(10):
        submitted(jobs, lane=Lane.INTERACTIVE)
    queue, offers = PollingQueue(jobs, clock=seconds), []
    for _ in range(4):
        offers.append(queue.dequeue())
        seconds.now += LISTING_VALID_S
    assert offers[3] == row.id


# --- the queue in memory


def test_fault_3_id_that_is_enqueued_again_waits_once() -> None:
    """The reconciler may enqueue a waiting job every few seconds."""
    queue = MemoryQueue()
    for _ in range(3):
        queue.enqueue(["a"], Lane.STANDARD)
    assert (queue.dequeue(), queue.dequeue()) == ("a", None)


def test_enqueue_wakes_a_waiting_worker() -> None:
    """Long before its own time is up."""
    queue = MemoryQueue()
    woken = threading.Event()

    def wait() -> None:
        queue.wait(timeout_s=60)
        woken.set()

    threading.Thread(target=wait, daemon=True).start()
    queue.enqueue(["a"], Lane.STANDARD)
    assert woken.wait(timeout=HANG_S)
