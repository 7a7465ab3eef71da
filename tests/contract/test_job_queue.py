"""The job queue port: every adapter passes this suite."""

from collections.abc import Callable

import pytest

from bench.fleet.modal_fleet import build_modal_queue
from infra.queues.local import MemoryQueue
from shared.domain.job import Lane
from shared.storage.ports import JobQueue


def over_the_wire(request: pytest.FixtureRequest) -> JobQueue:
    """Modal's, through its real SDK."""
    request.getfixturevalue("control_plane")
    return build_modal_queue()


def in_memory(request: pytest.FixtureRequest) -> JobQueue:  # noqa: ARG001 - it needs nothing
    """The embedded one."""
    return MemoryQueue()


@pytest.fixture(params=[in_memory, over_the_wire])
def queue(request: pytest.FixtureRequest) -> JobQueue:
    """An empty queue."""
    make: Callable[[pytest.FixtureRequest], JobQueue] = request.param
    return make(request)


def dequeue_all(queue: JobQueue, most: int = 100) -> list[str]:
    """Dequeue up to `most` ids."""
    ids = []
    while len(ids) < most and (job_id := queue.dequeue()) is not None:
        ids.append(job_id)
    return ids


def test_an_empty_queue_gives_none_and_does_not_wait(queue: JobQueue) -> None:
    """An invocation never waits in dequeue."""
    assert queue.dequeue() is None


def test_ids_of_one_lane_come_in_the_order_of_their_enqueues(queue: JobQueue) -> None:
    """First in, first out."""
    queue.enqueue(["a", "b"], Lane.STANDARD)
    queue.enqueue(["c"], Lane.STANDARD)
    assert dequeue_all(queue) == ["a", "b", "c"]


def test_dequeued_id_is_gone(queue: JobQueue) -> None:
    """Delivery is at most once: the reconciler enqueues a job that its worker does not end."""
    queue.enqueue(["a"], Lane.STANDARD)
    assert (queue.dequeue(), queue.dequeue()) == ("a", None)


@pytest.mark.parametrize("rows_before", range(5))
def test_fault_24_interactive_job_is_dequeued_next(queue: JobQueue, rows_before: int) -> None:
    """However many rows of another caller's batch were dequeued before."""
    queue.enqueue([f"row-{row}" for row in range(1_000)], Lane.BATCH, tier=3)
    dequeue_all(queue, most=rows_before)
    queue.enqueue(["mine"], Lane.INTERACTIVE)
    assert queue.dequeue() == "mine"


def test_fault_24_first_job_of_a_caller_overtakes_many_of_another(queue: JobQueue) -> None:
    """Within a lane a lower tier goes first."""
    queue.enqueue([f"many-{number}" for number in range(100)], Lane.STANDARD, tier=3)
    queue.enqueue(["mine"], Lane.STANDARD, tier=0)
    assert queue.dequeue() == "mine"


def test_a_batch_is_not_starved_by_interactive_jobs(queue: JobQueue) -> None:
    """Some dequeues start at the least urgent lane."""
    queue.enqueue([f"single-{number}" for number in range(1_000)], Lane.INTERACTIVE)
    queue.enqueue(["row"], Lane.BATCH)
    assert "row" in dequeue_all(queue, most=8)
