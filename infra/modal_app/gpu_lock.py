"""A lock on a container's GPU: an invocation dequeues a job only shortly before the job may sample.

A claimed job waits for its container, even if a more urgent one is enqueued meanwhile; a queued one can be overtaken.
So the next job is dequeued when the present one has sampled most of its texture: in the remaining time it is claimed,
downloaded and decoded, and the GPU does not idle.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.domain.job import Job, Stage
from worker.engine import ProgressListener

RELEASE_AT = 2 / 3  # of the last stage of sampling
SAMPLING = (Stage.SPARSE_STRUCTURE, Stage.SHAPE, Stage.TEXTURE)


class GpuLock:
    """A lock that the invocations of one container take in turn. Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holder: object | None = None
        self._is_closed = False

    @property
    def is_taken(self) -> bool:
        """Whether an invocation holds the lock."""
        return self._holder is not None

    def take(self, holder: object) -> bool:
        """Wait for the lock; return False once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._holder is None)
            if self._is_closed:
                return False
            self._holder = holder
            return True

    def release(self, holder: object) -> None:
        """Release the lock, if this holder still has it."""
        with self._changed:
            if self._holder is holder:
                self._holder = None
                self._changed.notify()

    def close(self) -> None:
        """End all waits: the container shuts down."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class GpuLease(ProgressListener):
    """One invocation's use of the lock: taken before each job, released by the job's progress."""

    def __init__(self, lock: GpuLock) -> None:
        self._lock = lock

    def take(self) -> bool:
        """Wait until a job may be dequeued; return False where the container shuts down."""
        return self._lock.take(self)

    def release(self) -> None:
        """Let another invocation dequeue a job, if none may already."""
        self._lock.release(self)

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
