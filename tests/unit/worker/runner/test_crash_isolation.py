"""Jobs share a process, but one that a worker has died of has it to itself."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from shared.domain.job import Job, Stage
from shared.errors import JobStopped
from tests.support.fakes import HandClock, a_job
from worker.engine import Progress
from worker.runner.crash_isolation import CrashIsolation
from worker.runner.result import JobResult

PATIENCE_S = 10.0
JOB = a_job(HandClock().at)
SUSPECT = JOB.model_copy(update={"crashes": 1})
MADE = JobResult({}, {})


class Room:
    """Work that lasts until it is let go, and who is at it."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._work = CrashIsolation().wrap(self._stay)
        self._changed = threading.Condition()
        self._open: set[int] = set()
        self.inside: list[Job] = []

    def _stay(self, job: Job, _progress: Progress) -> JobResult:
        with self._changed:
            self.inside.append(job)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: id(job) in self._open, PATIENCE_S)
            self.inside.remove(job)
        return MADE

    def enter(self, job: Job, progress: Callable[[Stage, float], None] = lambda *_: None) -> Future[JobResult]:
        return self._threads.submit(self._work, job, progress)

    def wait_for(self, *jobs: Job) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: [*map(id, self.inside)] == [*map(id, jobs)], PATIENCE_S)

    def let_go(self, job: Job) -> None:
        with self._changed:
            self._open.add(id(job))
            self._changed.notify_all()


@pytest.fixture
def room() -> Iterator[Room]:
    """A company of up to four."""
    with ThreadPoolExecutor(4) as threads:
        yield Room(threads)


def copies(job: Job, count: int) -> list[Job]:
    """The same job again, to be told apart."""
    return [job.model_copy() for _ in range(count)]


def test_jobs_are_worked_on_side_by_side(room: Room) -> None:
    """As many as there are workers."""
    one, other = copies(JOB, 2)
    first = room.enter(one)
    room.wait_for(one)
    second = room.enter(other)
    room.wait_for(one, other)
    room.let_go(other)
    room.let_go(one)
    assert (first.result(PATIENCE_S), second.result(PATIENCE_S)) == (MADE, MADE)


def test_job_that_a_worker_has_died_of_waits_until_it_is_alone_and_stays_alone(room: Room) -> None:
    """Whoever is at work ends first; whoever comes later, another suspect too, begins afterwards."""
    before, after = copies(JOB, 2)
    suspect, another = copies(SUSPECT, 2)
    room.enter(before)
    room.wait_for(before)
    waits = threading.Event()
    room.enter(suspect, lambda *_: waits.set())
    assert waits.wait(PATIENCE_S)
    late = threading.Event()
    room.enter(after, lambda *_: late.set())
    assert late.wait(PATIENCE_S)
    assert room.inside == [before]
    room.let_go(before)
    room.wait_for(suspect)
    ends = room.enter(another)
    room.let_go(suspect)
    room.wait_for(another)
    room.let_go(another)
    assert ends.result(PATIENCE_S) is MADE
    room.wait_for(after)
    room.let_go(after)


def test_job_that_is_canceled_while_it_waits_leaves_no_trace(room: Room) -> None:
    """Its report raises, as at any other point of the work, and those behind it begin."""

    def stop(_stage: Stage, _fraction: float) -> None:
        raise JobStopped("canceled")

    before, after = copies(JOB, 2)
    room.enter(before)
    room.wait_for(before)
    with pytest.raises(JobStopped):
        room.enter(SUSPECT, stop).result(PATIENCE_S)
    room.enter(after)
    room.wait_for(before, after)
    room.let_go(before)
    room.let_go(after)
