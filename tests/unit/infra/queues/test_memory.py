"""What only the doorbell of the embedded service does."""

import threading

from infra.queues.local import MemoryQueue
from shared.domain.job import Lane
from tests.support.waiting import HANG_S


def test_fault_3_a_doubled_ring_waits_once() -> None:
    """The sweeper may ring for the same job every few seconds, for as long as the job waits."""
    queue = MemoryQueue()
    for _ in range(3):
        queue.enqueue(["a"], Lane.STANDARD)
    assert (queue.dequeue(), queue.dequeue()) == ("a", None)


def test_a_ring_wakes_a_waiting_worker() -> None:
    """Long before its own time is up."""
    queue = MemoryQueue()
    woken = threading.Event()

    def wait() -> None:
        queue.wait(timeout_s=60)
        woken.set()

    threading.Thread(target=wait, daemon=True).start()
    queue.enqueue(["a"], Lane.STANDARD)
    assert woken.wait(timeout=HANG_S)
