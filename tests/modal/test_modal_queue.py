"""The job queue on Modal: its calls, its bounds, and lost answers."""

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
from tests.support.waiting import HANG_S

A_DAY_S = 24 * 3600.0


def test_enqueue_spawns_one_invocation(control_plane: ControlPlane) -> None:
    """Modal scales on function inputs, never on the length of a queue."""
    build_modal_queue().enqueue(["a"], Lane.STANDARD)
    assert control_plane.spawned.total() == 1


def test_a_thousand_jobs_at_a_full_fleet_spawn_one_spare_invocation(control_plane: ControlPlane) -> None:
    """The fleet cannot run more; each invocation spawns the next when it ends."""
    queue = build_modal_queue()
    queue.enqueue([f"first-{number}" for number in range(CEILING)], Lane.STANDARD)
    for _ in range(CEILING):
        assert control_plane.start_input(timeout_s=HANG_S)
    for number in range(100):
        queue.enqueue([f"single-{number}"], Lane.STANDARD)
    queue.enqueue([f"row-{number}" for number in range(900)], Lane.BATCH)
    assert control_plane.spawned.total() == CEILING + 1
    for _ in range(CEILING):
        control_plane.finish_input()


def test_invocations_stay_bounded_while_modals_statistics_lag(control_plane: ControlPlane) -> None:
    """Recent spawns count even if Modal does not report them; one later call asks again for all that were withheld."""
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


def test_ending_invocation_spawns_the_next_while_ids_wait(control_plane: ControlPlane) -> None:
    """A full fleet works off a backlog without the reconciler; the last invocation spawns none."""
    queue = build_modal_queue(ceiling=1)
    queue.enqueue(["a", "b", "c", "d"], Lane.STANDARD)
    dequeued = []
    while control_plane.start_input(timeout_s=0.1):
        dequeued.append(queue.dequeue())
        queue.spawn_next()
        control_plane.finish_input()
    assert [job_id for job_id in dequeued if job_id] == ["a", "b", "c", "d"]
    assert control_plane.spawned.total() <= 5


def test_fault_3_enqueue_does_not_double_waiting_ids(control_plane: ControlPlane) -> None:
    """The reconciler enqueues every waiting job each minute: only ids that were lost are put again."""
    queue = build_modal_queue()
    queue.enqueue(["a", "b"], Lane.BATCH)
    queue.enqueue(["a", "b", "c"], Lane.BATCH)
    assert [queue.dequeue() for _ in range(4)] == ["a", "b", "c", None]
    assert control_plane.calls["QueuePut"] == 2


@pytest.fixture
def hours_later(control_plane: ControlPlane) -> Iterator[list[float]]:
    """The seconds by which the control plane's clock is ahead."""
    ahead, clock = [0.0], control_plane.clock
    control_plane.clock = lambda: clock() + ahead[0]
    yield ahead
    control_plane.clock = clock


def test_fault_3_lane_that_modal_cleared_is_empty_not_broken(hours_later: list[float]) -> None:
    """Modal clears it a day after its last put; the reconciler enqueues again."""
    queue = build_modal_queue()
    queue.enqueue(["a"], Lane.STANDARD)
    hours_later[0] = A_DAY_S + 1
    assert queue.dequeue() is None
    queue.enqueue(["a"], Lane.STANDARD)
    assert queue.dequeue() == "a"


def test_fault_3_full_lane_is_refused_at_once(control_plane: ControlPlane) -> None:
    """The put does not wait, and the other lanes still work."""
    queue = build_modal_queue()
    queue.enqueue([f"row-{number}" for number in range(PARTITION_ITEMS)], Lane.BATCH)
    with pytest.raises(QueueUnavailable, match="full"):
        queue.enqueue(["one-more"], Lane.BATCH)
    queue.enqueue(["mine"], Lane.INTERACTIVE)
    assert queue.dequeue() == "mine"
    assert control_plane.calls["QueuePut"] == 3


def test_fault_3_reconcilers_queue_clears_a_partition_full_of_ended_jobs(control_plane: ControlPlane) -> None:
    """They were enqueued again in more urgent tiers and ran; their ids stayed in this partition."""
    name = new_queue_name()
    build_modal_queue(name).enqueue([f"gone-{number}" for number in range(PARTITION_ITEMS)], Lane.BATCH)
    build_modal_queue(name, clears_stale=True, bound_s=20.0).enqueue(["a", "b"], Lane.BATCH)
    queue = build_modal_queue(name)
    assert [queue.dequeue() for _ in range(3)] == ["a", "b", None]
    assert control_plane.calls["QueueClear"] == 1


def test_fault_3_partition_full_of_waiting_jobs_is_never_cleared(control_plane: ControlPlane) -> None:
    """What does not fit is enqueued later; only the reconciler knows which jobs still wait."""
    name = new_queue_name()
    rows = [f"row-{number}" for number in range(PARTITION_ITEMS)]
    build_modal_queue(name).enqueue(rows, Lane.BATCH)
    for ids, clears_stale in ((["late", *rows[:4_000]], True), (["a", "b"], False)):
        with pytest.raises(QueueUnavailable, match="full"):
            build_modal_queue(name, clears_stale=clears_stale, bound_s=20.0).enqueue(ids, Lane.BATCH)
    assert control_plane.calls["QueueClear"] == 0


def test_fault_3_enqueue_whose_answer_is_lost_is_doubled_at_worst(control_plane: ControlPlane) -> None:
    """The SDK retries: the id is there more than once, and later claims are refused."""
    queue = build_modal_queue()
    queue.enqueue(["first"], Lane.STANDARD)
    control_plane.faults["QueuePut"] = Faults(lose=2)
    queue.enqueue(["a"], Lane.STANDARD)
    assert [queue.dequeue() for _ in range(5)] == ["first", "a", "a", "a", None]


def test_fault_3_id_of_a_dequeue_whose_answer_is_lost_is_gone(control_plane: ControlPlane) -> None:
    """The SDK retries and gets the next id; the reconciler enqueues the lost one."""
    queue = build_modal_queue()
    queue.enqueue(["a", "b"], Lane.INTERACTIVE)
    control_plane.faults["QueueGet"] = Faults(lose=1)
    assert [queue.dequeue(), queue.dequeue()] == ["b", None]


@pytest.mark.parametrize("call", ["QueuePut", "FunctionMap", "FunctionGetCurrentStats"])
def test_fault_3_enqueue_that_modal_refuses_raises(control_plane: ControlPlane, call: str) -> None:
    """The gateway still answers 202; the reconciler enqueues again."""
    queue = build_modal_queue()
    queue.enqueue(["warm"], Lane.STANDARD)
    control_plane.faults[call] = Faults(fail_before=1.0, status=Status.PERMISSION_DENIED)
    with pytest.raises(QueueUnavailable):
        queue.enqueue(["a"], Lane.STANDARD)


def test_dequeue_that_modal_refuses_returns_none(control_plane: ControlPlane) -> None:
    """The invocation ends without a job; the reconciler enqueues what waits."""
    queue = build_modal_queue()
    queue.enqueue(["a"], Lane.STANDARD)
    control_plane.faults["QueueGet"] = Faults(fail_before=1.0, status=Status.PERMISSION_DENIED)
    assert queue.dequeue() is None


def test_silent_modal_is_cut_off_and_then_not_called(control_plane: ControlPlane) -> None:
    """The first enqueue waits for its bound; the next ones are refused at once, so that no submit waits."""
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


def test_fault_3_first_call_to_an_unreachable_modal_is_bounded_too() -> None:
    """The SDK alone would try to connect for a minute; the enqueue ends at its own bound, and so does the process."""
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))
        environment = {
            **os.environ,
            "MODAL_SERVER_URL": f"http://127.0.0.1:{unanswered.getsockname()[1]}",
            "MODAL_TOKEN_ID": "ak-test",
            "MODAL_TOKEN_SECRET": "as-test",
        }
        command = [sys.executable, "-c", FIRST_ENQUEUE]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "Modal did not answer in time\n"
