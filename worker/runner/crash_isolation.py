"""Jobs side by side in one process; but one that a worker has died of runs alone, so that no neighbour dies with it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.domain.job import Job, Stage
from worker.engine import Progress
from worker.runner.result import JobFunction, JobResult

POLL_S = 0.2  # how long a cancel may go unheard by a job that waits


class CrashIsolation:
    """What the workers of one process share. Safe from any thread.

    When a process dies, every job in it counts a crash, and the third makes it poison: without this, a job that kills
    would take its neighbour along each time, since both are queued again at the same moment.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work = 0
        self._suspects = 0  # at work, or waiting to be

    def wrap(self, work: JobFunction) -> JobFunction:
        """The same work, begun once the company suits the job."""

        def run(job: Job, progress: Progress) -> JobResult:
            def alive() -> None:
                progress(Stage.SPARSE_STRUCTURE, 0.0)

            with self._alone(alive) if job.crashes else self._place(alive, lambda: self._suspects == 0):
                return work(job, progress)

        return run

    @contextmanager
    def _alone(self, alive: Callable[[], None]) -> Iterator[None]:
        with self._changed:
            self._suspects += 1
        try:
            with self._place(alive, lambda: self._at_work == 0):
                yield
        finally:
            with self._changed:
                self._suspects -= 1
                self._changed.notify_all()

    @contextmanager
    def _place(self, alive: Callable[[], None], is_free: Callable[[], bool]) -> Iterator[None]:
        """Wait until it is free; `alive` is called meanwhile, and what it raises passes through."""
        with self._changed:
            while not is_free():
                self._changed.wait(POLL_S)
                alive()
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()
