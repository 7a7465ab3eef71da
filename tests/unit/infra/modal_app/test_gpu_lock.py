"""An invocation takes a job only when the one before has nearly sampled."""

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
    """A thread that waits."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def is_locked_after(*reports: tuple[Stage, float]) -> bool:
    """Report this progress of a running job; return whether the GPU is still locked."""
    lock = GpuLock()
    lease = GpuLease(lock)
    assert lease.acquire()
    with lease.listen(JOB) as listener:
        for stage, fraction in reports:
            listener.on_stage(stage, fraction)
        return lock.holder is not None


def test_lock_is_kept_while_the_job_samples() -> None:
    """Also in the first part of its last stage."""
    assert is_locked_after((Stage.SHAPE, 1.0), (Stage.TEXTURE, 0.5)) is True


def test_lock_is_released_when_little_is_left_to_sample() -> None:
    """The next job is ready when the GPU is free; a job that only extracts needs no lock."""
    assert is_locked_after((Stage.TEXTURE, 0.7)) is False
    assert is_locked_after((Stage.DECODE, 0.0)) is False


def test_lock_is_released_once_by_each_job(threads: ThreadPoolExecutor) -> None:
    """A later report of an earlier job does not release the lock of the next one."""
    lock = GpuLock()
    first, second, third = (GpuLease(lock) for _ in range(3))
    assert first.acquire()
    first.release()
    assert second.acquire()
    waiting = threads.submit(third.acquire)
    first.release()
    first.release()
    assert not waiting.done()
    second.release()
    assert waiting.result(HANG_S)


def test_sampling_waits_for_no_finishing_and_one_job_samples_at_a_time() -> None:
    """Of three invocations one finishes its job slowly; meanwhile the jobs of the other two sample in turn."""
    lock, samples, may_end = GpuLock(), threading.Lock(), threading.Event()

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
        lease = GpuLease(lock)
        for _ in range(count):
            assert lease.acquire()
            with lease.listen(JOB) as listener:
                work(Progress(listener, CallingListener(lambda *_: time.sleep(0))))  # lets another thread run
        return count

    with ThreadPoolExecutor(3) as invocations:
        slow = invocations.submit(run_jobs, sample_and_finish_slowly, 1)
        others = [invocations.submit(run_jobs, sample, 100) for _ in range(2)]
        try:
            assert [invocation.result(HANG_S) for invocation in others] == [100, 100]
            assert not slow.done()
        finally:
            may_end.set()
        assert slow.result(HANG_S) == 1


def test_lock_of_a_failed_job_is_released(threads: ThreadPoolExecutor) -> None:
    """Its next attempt waits at the engine."""
    lock = GpuLock()
    lease, waiter = (GpuLease(lock) for _ in range(2))
    assert lease.acquire()
    with pytest.raises(RuntimeError), lease.listen(JOB):
        raise RuntimeError("broken")
    assert threads.submit(waiter.acquire).result(HANG_S)


def test_waiting_ends_when_the_container_stops(threads: ThreadPoolExecutor) -> None:
    """Its invocation ends with nothing in hand."""
    lock = GpuLock()
    lease, waiter = (GpuLease(lock) for _ in range(2))
    assert lease.acquire()
    waiting = threads.submit(waiter.acquire)
    lock.close()
    assert waiting.result(HANG_S) is False
