"""The doorbell over Modal: what it costs, what it bounds, and what becomes of lost answers."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from grpclib import Status

from bench.fleet.control_plane.queues import PARTITION_ITEMS
from bench.fleet.control_plane.server import ControlPlane, Faults
from bench.fleet.modal_fleet import CEILING, build_modal_queue, new_queue_name
from shared.domain.job import Lane
from shared.errors import QueueUnavailable
from tests.support.fakes import Seconds

A_DAY_S = 24 * 3600.0


def test_a_ring_sends_one_ticket(control_plane: ControlPlane) -> None:
    """Modal scales on inputs, never on the length of a queue."""
    build_modal_queue().enqueue(["a"], Lane.STANDARD)
    assert control_plane.spawned.total() == 1


def test_a_thousand_rings_at_a_full_fleet_send_one_spare_ticket(control_plane: ControlPlane) -> None:
    """The fleet could not run more; every ticket that ends is followed by another."""
    queue = build_modal_queue()
    queue.enqueue([f"first-{number}" for number in range(CEILING)], Lane.STANDARD)
    for _ in range(CEILING):
        assert control_plane.start_input(timeout_s=5)
    for number in range(100):
        queue.enqueue([f"single-{number}"], Lane.STANDARD)
    queue.enqueue([f"row-{number}" for number in range(900)], Lane.BATCH)
    assert control_plane.spawned.total() == CEILING + 1
    for _ in range(CEILING):
        control_plane.finish_input()


def test_tickets_stay_bounded_where_the_numbers_about_them_lag(control_plane: ControlPlane) -> None:
    """What was just sent counts, whatever Modal says; what was withheld for it is asked for again, once for all."""
    waiting: list[Callable[[], None]] = []
    queue = build_modal_queue(later=lambda _s, act: waiting.append(act), seconds=Seconds())
    control_plane.stats_lag = True
    for number in range(100):
        queue.enqueue([f"job-{number}"], Lane.STANDARD)
    assert (control_plane.spawned.total(), len(waiting)) == (CEILING + 1, 1)
    control_plane.stats_lag = False
    control_plane.reset_inputs()
    waiting.pop()()
    assert control_plane.spawned.total() <= CEILING + 1


def test_a_ticket_that_ends_is_followed_while_ids_wait(control_plane: ControlPlane) -> None:
    """So a backlog is worked off by a full fleet without a sweep; the last ticket is followed by none."""
    queue = build_modal_queue(ceiling=1)
    queue.enqueue(["a", "b", "c", "d"], Lane.STANDARD)
    taken = []
    while control_plane.start_input(timeout_s=0.1):
        taken.append(queue.dequeue())
        queue.spawn_next()
        control_plane.finish_input()
    assert [job_id for job_id in taken if job_id] == ["a", "b", "c", "d"]
    assert control_plane.spawned.total() <= 5


def test_fault_3_a_sweep_does_not_double_what_waits(control_plane: ControlPlane) -> None:
    """It rings for every job that waits, each minute: only those whose ring was lost are put again."""
    queue = build_modal_queue()
    queue.enqueue(["a", "b"], Lane.BATCH)
    queue.enqueue(["a", "b", "c"], Lane.BATCH)
    assert [queue.dequeue() for _ in range(4)] == ["a", "b", "c", None]
    assert control_plane.calls["QueuePut"] == 2


@pytest.fixture
def hours_later(control_plane: ControlPlane) -> Iterator[list[float]]:
    """Seconds by which the control plane's clock is ahead."""
    ahead, clock = [0.0], control_plane.clock
    control_plane.clock = lambda: clock() + ahead[0]
    yield ahead
    control_plane.clock = clock


def test_fault_3_a_lane_that_modal_cleared_is_empty_not_broken(hours_later: list[float]) -> None:
    """A day after its last put; the reconciler rings again."""
    queue = build_modal_queue()
    queue.enqueue(["a"], Lane.STANDARD)
    hours_later[0] = A_DAY_S + 1
    assert queue.dequeue() is None
    queue.enqueue(["a"], Lane.STANDARD)
    assert queue.dequeue() == "a"


def test_fault_3_a_full_lane_is_told_at_once(control_plane: ControlPlane) -> None:
    """The put is not waited for, and the other lanes still ring."""
    queue = build_modal_queue()
    queue.enqueue([f"row-{number}" for number in range(PARTITION_ITEMS)], Lane.BATCH)
    with pytest.raises(QueueUnavailable, match="full"):
        queue.enqueue(["one-more"], Lane.BATCH)
    queue.enqueue(["mine"], Lane.INTERACTIVE)
    assert queue.dequeue() == "mine"
    assert control_plane.calls["QueuePut"] == 3


def test_fault_3_a_sweep_empties_a_wave_that_is_full_of_jobs_long_gone(control_plane: ControlPlane) -> None:
    """They were rung for again in earlier waves, and run; nobody came by to take their ids out of this one."""
    name = new_queue_name()
    build_modal_queue(name).enqueue([f"gone-{number}" for number in range(PARTITION_ITEMS)], Lane.BATCH)
    build_modal_queue(name, clears_stale=True, bound_s=20.0).enqueue(["a", "b"], Lane.BATCH)
    queue = build_modal_queue(name)
    assert [queue.dequeue() for _ in range(3)] == ["a", "b", None]
    assert control_plane.calls["QueueClear"] == 1


def test_fault_3_a_sweep_empties_no_wave_that_is_full_of_jobs_that_wait(control_plane: ControlPlane) -> None:
    """What does not fit is rung for later; nor does anybody but a sweep know enough to empty one."""
    name = new_queue_name()
    rows = [f"row-{number}" for number in range(PARTITION_ITEMS)]
    build_modal_queue(name).enqueue(rows, Lane.BATCH)
    for ids, clears_stale in ((["late", *rows[:4_000]], True), (["a", "b"], False)):
        with pytest.raises(QueueUnavailable, match="full"):
            build_modal_queue(name, clears_stale=clears_stale, bound_s=20.0).enqueue(ids, Lane.BATCH)
    assert control_plane.calls["QueueClear"] == 0


def test_fault_3_a_ring_whose_answer_is_lost_arrives_doubled_at_worst(control_plane: ControlPlane) -> None:
    """The SDK tries again: the id is there twice, and the second claim will be refused."""
    queue = build_modal_queue()
    queue.enqueue(["first"], Lane.STANDARD)
    control_plane.faults["QueuePut"] = Faults(lose=2)
    queue.enqueue(["a"], Lane.STANDARD)
    assert [queue.dequeue() for _ in range(5)] == ["first", "a", "a", "a", None]


def test_fault_3_an_id_whose_take_was_answered_to_nobody_is_gone(control_plane: ControlPlane) -> None:
    """The SDK asks again and gets the next one; the reconciler rings for what was lost."""
    queue = build_modal_queue()
    queue.enqueue(["a", "b"], Lane.INTERACTIVE)
    control_plane.faults["QueueGet"] = Faults(lose=1)
    assert [queue.dequeue(), queue.dequeue()] == ["b", None]


@pytest.mark.parametrize("call", ["QueuePut", "FunctionMap", "FunctionGetCurrentStats"])
def test_fault_3_a_ring_that_modal_refuses_says_so(control_plane: ControlPlane, call: str) -> None:
    """The gateway answers 202 all the same; the reconciler rings again."""
    queue = build_modal_queue()
    queue.enqueue(["warm"], Lane.STANDARD)
    control_plane.faults[call] = Faults(fail_before=1.0, status=Status.PERMISSION_DENIED)
    with pytest.raises(QueueUnavailable):
        queue.enqueue(["a"], Lane.STANDARD)


def test_a_take_that_modal_refuses_gives_none(control_plane: ControlPlane) -> None:
    """The ticket ends with nothing in hand; the reconciler rings for what waits."""
    queue = build_modal_queue()
    queue.enqueue(["a"], Lane.STANDARD)
    control_plane.faults["QueueGet"] = Faults(fail_before=1.0, status=Status.PERMISSION_DENIED)
    assert queue.dequeue() is None


def test_a_silent_modal_is_cut_off_and_then_left_alone(control_plane: ControlPlane) -> None:
    """One ring waits out its bound; those after it are refused at once, so that no submit waits for a dead queue."""
    build_modal_queue(bound_s=60.0).enqueue(["warm"], Lane.STANDARD)
    queue = build_modal_queue(bound_s=0.2)
    control_plane.faults["QueuePut"] = Faults(delay_s=5.0)
    calls_before = control_plane.calls["QueuePut"]
    for reason in ("in time", "a moment ago", "a moment ago"):
        with pytest.raises(QueueUnavailable, match=reason):
            queue.enqueue(["a"], Lane.STANDARD)
    assert control_plane.calls["QueuePut"] - calls_before <= 1


FIRST_ENQUEUE = """
from shared.errors import QueueUnavailable
from shared.domain.job import Lane
from bench.fleet.modal_fleet import build_modal_queue

queue = build_modal_queue()
try:
    queue.enqueue(["a"], Lane.STANDARD)
except QueueUnavailable as error:
    print(error)
"""


def test_fault_3_the_first_call_to_an_unreachable_modal_is_bounded_too() -> None:
    """The SDK alone would try to connect for a minute; the enqueue is cut by its own bound, and the process ends."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        environment = {
            **os.environ,
            "MODAL_SERVER_URL": f"http://127.0.0.1:{nobody.getsockname()[1]}",
            "MODAL_TOKEN_ID": "ak-test",
            "MODAL_TOKEN_SECRET": "as-test",
        }
        command = [sys.executable, "-c", FIRST_ENQUEUE]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "Modal did not answer in time\n"
