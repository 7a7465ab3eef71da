"""Turns at a container's GPU: a ticket takes a job only shortly before it may sample, so that none is held in waiting.

A job that is claimed waits for its container, whatever more urgent one comes meanwhile; one that is in the queue is
passed. So the next job is taken when the one before has sampled most of its texture: in what is left, the next is
claimed, fetched and decoded, and the GPU does not idle.
"""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.domain.job import Job, Stage
from worker.engine import Progress, show_preview
from worker.runner.result import JobFunction, JobResult

RELEASE_AT = 2 / 3  # of the last stage of sampling
SAMPLING = (Stage.SPARSE_STRUCTURE, Stage.SHAPE, Stage.TEXTURE)


class GpuLock:
    """One turn, which tickets of one container take and pass on. Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holder: object | None = None
        self._is_closed = False

    @property
    def is_taken(self) -> bool:
        """Whether some ticket has the turn."""
        return self._holder is not None

    def take(self, holder: object) -> bool:
        """Wait for the turn; False once there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._holder is None)
            if self._is_closed:
                return False
            self._holder = holder
            return True

    def pass_on(self, holder: object) -> None:
        """Let the next one take its turn, if this one still has it."""
        with self._changed:
            if self._holder is holder:
                self._holder = None
                self._changed.notify()

    def close(self) -> None:
        """Let nobody wait any longer: the container leaves."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class GpuLease:
    """One ticket's part in the turns: it takes one before each job, and its work passes it on."""

    def __init__(self, turns: GpuLock, work: JobFunction) -> None:
        self._turns = turns
        self._work = work

    def take(self) -> bool:
        """Wait until a job may be taken; False where the container leaves."""
        return self._turns.take(self)

    def release(self) -> None:
        """Let another ticket take a job, if none may already."""
        self._turns.pass_on(self)

    def work(self, job: Job, progress: Progress) -> JobResult:
        """The work, with an ear on its progress."""
        try:
            return self._work(job, _Heard(progress, self.release))
        finally:
            self.release()  # it failed: another attempt waits at the engine as any other does


class _Heard:
    """A Progress that passes on what it hears, and the turn when little is left to sample."""

    def __init__(self, progress: Progress, pass_on: Callable[[], None]) -> None:
        self._progress = progress
        self._pass_on = pass_on

    def __call__(self, stage: Stage, fraction: float) -> None:
        """Listen, then pass on."""
        if stage not in SAMPLING or (stage is SAMPLING[-1] and fraction >= RELEASE_AT):
            self._pass_on()
        self._progress(stage, fraction)

    def show_preview(self, image: NDArray[np.uint8]) -> None:
        """Pass on a preview."""
        show_preview(self._progress, image)
