"""A ticket takes a job only when the one before has nearly sampled."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.modal_app.gpu_lock import GpuLease, GpuLock
from shared.domain.job import Stage
from tests.support.fakes import CallingListener, ManualClock, new_job
from tests.support.waiting import HANG_S
from worker.engine import Progress

JOB = new_job(ManualClock().at)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Somebody to wait."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def taken_after(*news: tuple[Stage, float]) -> bool:
    """Whether the turn is still taken while a job is at work that has reported these."""
    turns = GpuLock()
    turn = GpuLease(turns)
    assert turn.take()
    with turn.listen(JOB) as listener:
        for stage, fraction in news:
            listener.on_stage(stage, fraction)
        return turns.is_taken


def test_turn_is_kept_while_the_job_samples() -> None:
    """Also in the first part of its last stage."""
    assert taken_after((Stage.SHAPE, 1.0), (Stage.TEXTURE, 0.5)) is True


def test_turn_is_passed_on_when_little_is_left_to_sample() -> None:
    """So that the next job is there when the GPU is free; one that only extracts needs no turn at all."""
    assert taken_after((Stage.TEXTURE, 0.7)) is False
    assert taken_after((Stage.DECODE, 0.0)) is False


def test_turn_is_passed_on_once_however_long_the_job_still_takes(threads: ThreadPoolExecutor) -> None:
    """What an earlier job reports later does not end the turn of the one after it."""
    turns = GpuLock()
    first, second, third = (GpuLease(turns) for _ in range(3))
    assert first.take()
    first.release()
    assert second.take()
    waiting = threads.submit(third.take)
    first.release()
    first.release()
    assert not waiting.done()
    second.release()
    assert waiting.result(HANG_S)


def test_sampling_waits_for_no_finishing_and_one_job_samples_at_a_time() -> None:
    """Three tickets: one's job is finished slowly, and meanwhile the jobs of the two others sample in turn."""
    turns, samples, may_end = GpuLock(), threading.Lock(), threading.Event()

    def sample(progress: Progress) -> None:
        assert samples.acquire(blocking=False)
        for stage in (Stage.SPARSE_STRUCTURE, Stage.SHAPE):
            progress(stage, 1.0)
        samples.release()
        progress(Stage.TEXTURE, 1.0)

    def sample_and_finish_slowly(progress: Progress) -> None:
        sample(progress)
        assert may_end.wait(HANG_S)

    def run_jobs(work: Callable[[Progress], None], count: int) -> int:
        turn = GpuLease(turns)
        for _ in range(count):
            assert turn.take()
            with turn.listen(JOB) as listener:
                work(Progress(listener, CallingListener(lambda *_: time.sleep(0))))  # lets another thread run
        return count

    with ThreadPoolExecutor(3) as tickets:
        slow = tickets.submit(run_jobs, sample_and_finish_slowly, 1)
        others = [tickets.submit(run_jobs, sample, 100) for _ in range(2)]
        try:
            assert [ticket.result(HANG_S) for ticket in others] == [100, 100]
            assert not slow.done()
        finally:
            may_end.set()
        assert slow.result(HANG_S) == 1


def test_turn_of_a_failed_job_is_passed_on(threads: ThreadPoolExecutor) -> None:
    """Its next attempt waits at the engine."""
    turns = GpuLock()
    turn, other = (GpuLease(turns) for _ in range(2))
    assert turn.take()
    with pytest.raises(RuntimeError), turn.listen(JOB):
        raise RuntimeError("broken")
    assert threads.submit(other.take).result(HANG_S)


def test_nobody_waits_for_a_turn_once_the_container_leaves(threads: ThreadPoolExecutor) -> None:
    """Its ticket ends with nothing in hand."""
    turns = GpuLock()
    turn, other = (GpuLease(turns) for _ in range(2))
    assert turn.take()
    waiting = threads.submit(other.take)
    turns.close()
    assert waiting.result(HANG_S) is False
