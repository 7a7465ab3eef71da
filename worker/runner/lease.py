"""Hold a claimed job: renew its lease, write its progress, and stop the work once the job is lost."""

import threading
import time
from collections.abc import Callable
from io import BytesIO
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.domain.job import Job, Stage, Status, overall_progress
from shared.errors import DeadlineExceeded, JobStopped, LeaseLost, StoreError
from shared.log import log, log_context
from shared.repositories.jobs import LEASE_S, JobRepository
from shared.storage.versioned_records import Versioned
from worker.engine import ProgressListener

HEARTBEAT_S = 2.5  # how often a worker reads its job's record: a cancel takes effect within two heartbeats
RENEW_S = 10.0  # how often it writes the record when there is no new progress
MIN_PROGRESS_STEP = 0.1  # of the whole job: the least progress that is written before the next renewal
SAFETY_S = 5.0  # a lease that could not be renewed counts as lost this long before it ends

PREVIEW_SIDE_PX = 96
MAX_PREVIEW_BYTES = 3_000
PREVIEW_QUALITIES = (70, 45, 20, 0)


class Lease(ProgressListener):
    """One attempt's lease of one job. As a context manager it renews the lease in a thread of its own.

    It listens to the job's progress, writes it into the record, and raises where the work must stop.
    """

    def __init__(
        self,
        jobs: JobRepository,
        held: Versioned[Job],
        *,
        deadline_s: float,
        heartbeat_s: float = HEARTBEAT_S,
        on_progress: Callable[[Job], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the lease of a job that was just claimed.

        Args:
            jobs: where the record is written.
            held: the claimed record.
            deadline_s: how long one attempt may take.
            heartbeat_s: the time between two heartbeats.
            on_progress: called with the job after each renewal; it must return at once.
            clock: a monotonic clock, in seconds.
        """
        self._jobs = jobs
        self._held = held
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._on_progress = on_progress
        self._written_at = clock()
        self._deadline_at = self._written_at + deadline_s
        self._stage: Stage | None = None
        self._progress = 0.0
        self._preview: bytes | None = None
        self._has_preview = False
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, name=f"lease-{held.record.id}", daemon=True)

    @property
    def job(self) -> Job:
        """The job as this attempt last wrote it."""
        return self._held.record

    @property
    def is_lost(self) -> bool:
        """Whether this attempt no longer holds the job."""
        return self._lost.is_set()

    def wait_until_lost(self, timeout_s: float) -> bool:
        """Wait until the job is canceled or claimed by another worker; return whether that happened in time."""
        return self._lost.wait(timeout_s)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def on_stage(self, stage: Stage, fraction: float) -> None:
        """Keep the progress for the next heartbeat.

        Raises:
            JobStopped: this attempt no longer holds the job.
            DeadlineExceeded: the attempt has taken too long.
        """
        self._stage, self._progress = stage, overall_progress(stage, fraction)
        if self.is_lost:
            raise JobStopped(f"job {self.job.id} is no longer held by attempt {self.job.attempt}")
        if self._clock() > self._deadline_at:
            raise DeadlineExceeded(f"attempt {self.job.attempt} took longer than an attempt may")

    def on_preview(self, image: NDArray[np.uint8]) -> None:
        """Keep the first preview of each attempt; the next heartbeat writes it."""
        if not self._has_preview:
            self._has_preview = True
            self._preview = thumbnail(image)

    def finish(self, write: Callable[[Versioned[Job]], Versioned[Job]]) -> Versioned[Job] | None:
        """Make the last write of this attempt and give the lease up; None if the attempt no longer holds the job."""
        with self._writing:
            if not self._try_write(write):
                return None
            self._ended.set()
            self._lost.set()
            return self._held

    def start_next_attempt(self, write: Callable[[Versioned[Job]], Versioned[Job]], deadline_s: float) -> bool:
        """Start the next attempt under the same lease; False if this one no longer holds the job."""
        with self._writing:
            if not self._try_write(write):
                return False
            self._stage, self._progress, self._preview, self._has_preview = None, 0.0, None, False
            self._written_at = self._clock()
            self._deadline_at = self._written_at + deadline_s
            return True

    def heartbeat(self) -> None:
        """Renew the lease if that is due or there is progress to write; else only check that the job is still held."""
        with self._writing:
            if self._ended.is_set() or self.is_lost:
                return
            try:
                if self._should_write() or self._clock() - self._written_at >= RENEW_S:
                    preview = self._preview
                    self._held = self._jobs.renew(
                        self._held, stage=self._stage, progress=self._progress, preview=preview
                    )
                    if preview is self._preview:
                        self._preview = None
                    self._written_at = self._clock()
                    self._on_progress(self._held.record)
                elif not self._is_still_held():
                    self._lose()
            except LeaseLost:
                self._lose()
            except StoreError:
                if self._clock() - self._written_at > LEASE_S - SAFETY_S:
                    self._lose()

    def _try_write(self, write: Callable[[Versioned[Job]], Versioned[Job]]) -> bool:
        if self.is_lost:
            return False
        try:
            self._held = write(self._held)
        except LeaseLost:
            self._lose()
            return False
        return True

    def _should_write(self) -> bool:
        has_moved = self._stage is not self.job.stage or self._progress - self.job.progress >= MIN_PROGRESS_STEP
        return has_moved or self._preview is not None

    def _is_still_held(self) -> bool:
        present = self._jobs.find(self.job.id)
        if present is None:
            return False
        return present.record.status is Status.RUNNING and present.record.attempt == self.job.attempt

    def _lose(self) -> None:
        self._lost.set()
        log("lease.lost", job_id=self.job.id, attempt=self.job.attempt)

    def _send_heartbeats(self) -> None:
        with log_context(job_id=self.job.id):
            while not self._ended.wait(self._heartbeat_s):
                self.heartbeat()


def thumbnail(image: NDArray[np.uint8]) -> bytes | None:
    """Encode an image as a WebP that fits into a job record: PREVIEW_SIDE_PX and MAX_PREVIEW_BYTES at most.

    Args:
        image: uint8 [height, width, 3 or 4], sRGB, straight alpha.

    Returns:
        The WebP file; None where no quality makes it small enough.
    """
    step = max(1, min(image.shape[:2]) // (4 * PREVIEW_SIDE_PX))  # first a coarse, cheap reduction by whole pixels
    preview = Image.fromarray(np.ascontiguousarray(image[::step, ::step]))
    preview.thumbnail((PREVIEW_SIDE_PX, PREVIEW_SIDE_PX))
    for quality in PREVIEW_QUALITIES:
        out = BytesIO()
        preview.save(out, "WEBP", quality=quality, alpha_quality=quality)
        if out.tell() <= MAX_PREVIEW_BYTES:
            return out.getvalue()
    return None
