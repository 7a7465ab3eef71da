"""On a GPU one extraction runs at a time; on the CPU as many as come."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import JobStopped
from worker.extraction.kernels.lock import gpu_lock

WAIT_S = 10.0


class Tree:
    """What an extraction holds on the device."""


def silent() -> None:
    """An `alive` that nothing stops."""


def test_on_a_gpu_one_waits_for_the_other() -> None:
    """The second is inside only once the first has left, and is asked meanwhile whether it still wants to be."""
    inside, asked, left = list[str](), threading.Event(), threading.Event()

    def second() -> None:
        with gpu_lock("cuda:0", asked.set):
            assert left.is_set()
            inside.append("second")

    with ThreadPoolExecutor(1) as pool:
        with gpu_lock("cuda:0", silent):
            waiting = pool.submit(second)
            assert asked.wait(WAIT_S)
            assert inside == []
            left.set()
        waiting.result(WAIT_S)
    assert inside == ["second"]


def test_on_the_cpu_nobody_waits() -> None:
    """Two are inside at once."""
    meeting = threading.Barrier(2)

    def one() -> int:
        with gpu_lock("cpu", silent):
            return meeting.wait(WAIT_S)

    with ThreadPoolExecutor(2) as pool:
        places = [pool.submit(one), pool.submit(one)]
        assert {each.result(WAIT_S) for each in places} == {0, 1}


def test_one_that_waits_can_be_canceled() -> None:
    """It never gets inside, and the turn is the next one's."""

    def canceled() -> None:
        raise JobStopped

    def second() -> None:
        with gpu_lock("cuda:0", canceled):
            pytest.fail("it is inside")

    with ThreadPoolExecutor(1) as pool, gpu_lock("cuda:0", silent), pytest.raises(JobStopped):
        pool.submit(second).result(WAIT_S)
    with gpu_lock("cuda:0", silent):
        pass


def test_what_a_failed_one_held_is_gone_when_the_next_comes() -> None:
    """Though whoever caught the error still has its traceback, and through it the frames."""
    held = list[weakref.ref[Tree]]()

    def fail() -> None:
        tree = Tree()
        held.append(weakref.ref(tree))
        raise ValueError

    try:
        with gpu_lock("cuda:0", silent):
            fail()
    except ValueError:
        with gpu_lock("cuda:0", silent):
            assert held[0]() is None
    else:
        pytest.fail("it did not fail")
