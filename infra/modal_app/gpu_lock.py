"""Turns at a container's GPU: a ticket takes a job only shortly before it may sample, so that none is held in waiting.

A job that is claimed waits for its container, whatever more urgent one comes meanwhile; one that is in the queue is
passed. So the next job is taken when the one before has sampled most of its texture: in what is left, the next is
claimed, fetched and decoded, and the GPU does not idle.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.domain.job import Job, Stage
from worker.engine import ProgressListener

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


class GpuLease(ProgressListener):
    """One ticket's part in the turns: it takes one before each job, and its work passes it on."""

    def __init__(self, turns: GpuLock) -> None:
        self._turns = turns

    def take(self) -> bool:
        """Wait until a job may be taken; False where the container leaves."""
        return self._turns.take(self)

    def release(self) -> None:
        """Let another ticket take a job, if none may already."""
        self._turns.pass_on(self)

    @contextmanager
    def listen(self, _job: Job) -> Iterator["GpuLease"]:
        """Listen to one attempt: release the GPU when little is left to sample, at the latest when it ends.

        After a failure the next attempt waits at the engine, as any other job does.
        """
        try:
            yield self
        finally:
            self.release()

    def on_stage(self, stage: Stage, fraction: float) -> None:
        """Release the GPU near the end of the last stage of sampling."""
        if stage not in SAMPLING or (stage is SAMPLING[-1] and fraction >= RELEASE_AT):
            self.release()
