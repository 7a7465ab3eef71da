"""A lock on a container's GPU: an invocation dequeues a job only shortly before the job may sample.

A claimed job waits for its container, even if a more urgent one is enqueued meanwhile; a queued one can be overtaken.
So the next job is dequeued when the present one has sampled most of its texture: in the remaining time it is claimed,
downloaded and decoded, and the GPU does not idle.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.domain.job import Job, Stage
from worker.engine import ProgressListener

RELEASE_AT = 2 / 3  # of the last stage of sampling
SAMPLING = (Stage.SPARSE_STRUCTURE, Stage.SHAPE, Stage.TEXTURE)


@dataclass(slots=True)
class GpuLock:
    """What the leases of one container share: which of them holds the GPU. Safe from any thread."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    holder: "GpuLease | None" = None
    is_closed: bool = False

    def close(self) -> None:
        """End all waits: the container shuts down."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()


class GpuLease(ProgressListener):
    """One invocation's use of the lock: taken before each job, released by the job's progress."""

    def __init__(self, lock: GpuLock) -> None:
        self._lock = lock

    def acquire(self) -> bool:
        """Wait until a job may be dequeued; return False where the container shuts down."""
        lock = self._lock
        with lock.changed:
            lock.changed.wait_for(lambda: lock.is_closed or lock.holder is None)
            if not lock.is_closed:
                lock.holder = self
            return not lock.is_closed

    def release(self) -> None:
        """Let another invocation dequeue a job, if this one still holds the lock."""
        with self._lock.changed:
            if self._lock.holder is self:
                self._lock.holder = None
                self._lock.changed.notify()

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
