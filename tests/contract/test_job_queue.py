"""What every doorbell does; each adapter passes the same suite."""

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
    """An empty doorbell."""
    make: Callable[[pytest.FixtureRequest], JobQueue] = request.param
    return make(request)


def taken(queue: JobQueue, most: int = 100) -> list[str]:
    """Everything that is waiting, in the order in which it is taken."""
    ids = []
    while len(ids) < most and (job_id := queue.dequeue()) is not None:
        ids.append(job_id)
    return ids


def test_an_empty_queue_gives_none_and_does_not_wait(queue: JobQueue) -> None:
    """A ticket never waits inside take."""
    assert queue.dequeue() is None


def test_ids_of_one_lane_come_in_the_order_of_their_rings(queue: JobQueue) -> None:
    """First in, first out."""
    queue.enqueue(["a", "b"], Lane.STANDARD)
    queue.enqueue(["c"], Lane.STANDARD)
    assert taken(queue) == ["a", "b", "c"]


def test_an_id_that_was_taken_is_gone(queue: JobQueue) -> None:
    """At most once: whoever took it must bring it to its end, or the reconciler rings again."""
    queue.enqueue(["a"], Lane.STANDARD)
    assert (queue.dequeue(), queue.dequeue()) == ("a", None)


@pytest.mark.parametrize("rows_before", range(5))
def test_fault_24_an_interactive_job_is_the_next_that_is_taken(queue: JobQueue, rows_before: int) -> None:
    """Whatever part of another caller's batch was taken before it came."""
    queue.enqueue([f"row-{row}" for row in range(1_000)], Lane.BATCH, tier=3)
    taken(queue, most=rows_before)
    queue.enqueue(["mine"], Lane.INTERACTIVE)
    assert queue.dequeue() == "mine"


def test_fault_24_a_callers_first_job_passes_the_many_of_another_in_its_lane(queue: JobQueue) -> None:
    """An earlier wave goes first."""
    queue.enqueue([f"many-{number}" for number in range(100)], Lane.STANDARD, tier=3)
    queue.enqueue(["mine"], Lane.STANDARD, tier=0)
    assert queue.dequeue() == "mine"


def test_a_batch_is_not_starved_by_interactive_jobs(queue: JobQueue) -> None:
    """Some takes begin at the other end."""
    queue.enqueue([f"single-{number}" for number in range(1_000)], Lane.INTERACTIVE)
    queue.enqueue(["row"], Lane.BATCH)
    assert "row" in taken(queue, most=8)
