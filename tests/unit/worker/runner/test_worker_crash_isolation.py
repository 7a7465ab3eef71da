"""Jobs share a process, but a job that a worker has crashed on runs alone in its process."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from shared.domain.job import Job
from shared.errors import JobStopped
from tests.support.fakes import ManualClock, new_job
from tests.support.waiting import HANG_S
from worker.runner.worker import CrashIsolation

JOB = new_job(ManualClock().at)
SUSPECT = JOB.model_copy(update={"crashes": 1})


class Process:
    """A process whose jobs run until the test ends them."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._isolation = CrashIsolation()
        self._changed = threading.Condition()
        self._may_end: set[int] = set()
        self.running: list[Job] = []

    def _run(self, job: Job, keep_alive: Callable[[], None]) -> None:
        with self._isolation.admit(job, keep_alive), self._changed:
            self.running.append(job)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: id(job) in self._may_end, HANG_S)
            self.running.remove(job)

    def start(self, job: Job, keep_alive: Callable[[], None] = lambda: None) -> Future[None]:
        return self._threads.submit(self._run, job, keep_alive)

    def wait_until_running(self, *jobs: Job) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: [*map(id, self.running)] == [*map(id, jobs)], HANG_S)

    def end(self, job: Job) -> None:
        with self._changed:
            self._may_end.add(id(job))
            self._changed.notify_all()


@pytest.fixture
def process() -> Iterator[Process]:
    """A process of up to four jobs."""
    with ThreadPoolExecutor(4) as threads:
        yield Process(threads)


def copies(job: Job, count: int) -> list[Job]:
    """Distinct copies of a job."""
    return [job.model_copy() for _ in range(count)]


def test_jobs_run_side_by_side(process: Process) -> None:
    """As many as there are workers."""
    first, second = copies(JOB, 2)
    first_end = process.start(first)
    process.wait_until_running(first)
    second_end = process.start(second)
    process.wait_until_running(first, second)
    process.end(second)
    process.end(first)
    first_end.result(HANG_S)
    second_end.result(HANG_S)


def test_job_with_a_crash_waits_until_it_is_alone_and_stays_alone(process: Process) -> None:
    """Jobs that run end first; jobs that come later, another suspect too, start after it."""
    before, after = copies(JOB, 2)
    suspect, next_suspect = copies(SUSPECT, 2)
    process.start(before)
    process.wait_until_running(before)
    suspect_waits, after_waits = threading.Event(), threading.Event()
    process.start(suspect, suspect_waits.set)
    assert suspect_waits.wait(HANG_S)
    process.start(after, after_waits.set)
    assert after_waits.wait(HANG_S)
    assert process.running == [before]
    process.end(before)
    process.wait_until_running(suspect)
    next_end = process.start(next_suspect)
    process.end(suspect)
    process.wait_until_running(next_suspect)
    process.end(next_suspect)
    next_end.result(HANG_S)
    process.wait_until_running(after)
    process.end(after)


def test_job_that_is_canceled_while_it_waits_leaves_no_trace(process: Process) -> None:
    """Its report raises, as at any other point of the work, and the jobs behind it start."""

    def stop() -> None:
        raise JobStopped("canceled")

    before, after = copies(JOB, 2)
    process.start(before)
    process.wait_until_running(before)
    with pytest.raises(JobStopped):
        process.start(SUSPECT, stop).result(HANG_S)
    process.start(after)
    process.wait_until_running(before, after)
    process.end(before)
    process.end(after)
