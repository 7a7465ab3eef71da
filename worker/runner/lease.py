"""Holding a job: keep its lease, tell where the work stands, notice when it is no longer ours."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from shared.domain.job import Job, Stage, Status, overall_progress
from shared.errors import DeadlineExceeded, JobStopped, LeaseLost, StoreError
from shared.log import log, log_context
from shared.repositories.jobs import LEASE_S, JobRepository
from shared.storage.versioned_records import Versioned
from worker.runner.preview import thumbnail

BEAT_S = 2.5  # how often a worker looks whether the job is still its own: a cancel acts within two beats
RENEW_S = 10.0  # how often it writes, if no news make it write earlier
NEWS = 0.1  # of the whole job: progress that is worth a write of its own
SAFETY_S = 5.0  # how long before its end a lease that could not be renewed counts as lost


class Lease:
    """One attempt's hold on one job, as a context: inside it a thread renews, outside nothing does.

    It is also the Progress that the work reports to: that is where a cancel or a takeover stops the work.
    """

    def __init__(
        self,
        jobs: JobRepository,
        held: Versioned[Job],
        *,
        deadline_s: float,
        beat_s: float = BEAT_S,
        told: Callable[[Job], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`deadline_s` is how long the attempt may take; `told` hears of each renewal; `clock` counts seconds."""
        self._jobs = jobs
        self._held = held
        self._clock = clock
        self._beat_s = beat_s
        self._told = told
        self._written_at = clock()
        self._deadline_at = self._written_at + deadline_s
        self._stage: Stage | None = None
        self._progress = 0.0
        self._preview: bytes | None = None
        self._has_shown = False
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{held.record.id}", daemon=True)

    @property
    def job(self) -> Job:
        """The job as this attempt last wrote it."""
        return self._held.record

    @property
    def is_lost(self) -> bool:
        """Whether the job is no longer ours."""
        return self._lost.is_set()

    def wait_until_lost(self, timeout_s: float) -> bool:
        """Wait for the job to be taken from us; whether it was."""
        return self._lost.wait(timeout_s)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, stage: Stage, fraction: float) -> None:
        """Note where the work stands.

        Raises:
            JobStopped: the job is no longer ours.
            DeadlineExceeded: the attempt has taken too long.
        """
        self._stage, self._progress = stage, overall_progress(stage, fraction)
        if self.is_lost:
            raise JobStopped(f"job {self.job.id} is no longer held by attempt {self.job.attempt}")
        if self._clock() > self._deadline_at:
            raise DeadlineExceeded(f"attempt {self.job.attempt} took longer than an attempt may")

    def show_preview(self, image: NDArray[np.uint8]) -> None:
        """Take a preview, one in each attempt; it is written with the next news."""
        if not self._has_shown:
            self._has_shown = True
            self._preview = thumbnail(image)

    def end(self, settle: Callable[[Versioned[Job]], Versioned[Job]]) -> Versioned[Job] | None:
        """Make the last write of this attempt; None if the job is no longer ours."""
        with self._writing:
            if not self._wrote(settle):
                return None
            self._ended.set()
            self._lost.set()
            return self._held

    def restart(self, settle: Callable[[Versioned[Job]], Versioned[Job]], deadline_s: float) -> bool:
        """Begin the next attempt under the same hold; False if the job is no longer ours."""
        with self._writing:
            if not self._wrote(settle):
                return False
            self._stage, self._progress, self._preview, self._has_shown = None, 0.0, None, False
            self._written_at = self._clock()
            self._deadline_at = self._written_at + deadline_s
            return True

    def _wrote(self, change: Callable[[Versioned[Job]], Versioned[Job]]) -> bool:
        if self.is_lost:
            return False
        try:
            self._held = change(self._held)
        except LeaseLost:
            self._lose()
            return False
        return True

    def heartbeat(self) -> None:
        """Look after the lease once: write if it is time or the stage is new, else only look."""
        with self._writing:
            if self._ended.is_set() or self.is_lost:
                return
            try:
                if self._has_news() or self._clock() - self._written_at >= RENEW_S:
                    preview = self._preview
                    self._held = self._jobs.renew(
                        self._held, stage=self._stage, progress=self._progress, preview=preview
                    )
                    if preview is self._preview:
                        self._preview = None
                    self._written_at = self._clock()
                    self._told(self._held.record)
                elif not self._is_still_ours():
                    self._lose()
            except LeaseLost:
                self._lose()
            except StoreError:
                if self._clock() - self._written_at > LEASE_S - SAFETY_S:
                    self._lose()

    def _has_news(self) -> bool:
        has_moved = self._stage is not self.job.stage or self._progress - self.job.progress >= NEWS
        return has_moved or self._preview is not None

    def _is_still_ours(self) -> bool:
        present = self._jobs.find(self.job.id)
        return (
            present is not None
            and present.record.status is Status.RUNNING
            and present.record.attempt == self.job.attempt
        )

    def _lose(self) -> None:
        self._lost.set()
        log("lease.lost", job_id=self.job.id, attempt=self.job.attempt)

    def _keep(self) -> None:
        with log_context(job_id=self.job.id):
            while not self._ended.wait(self._beat_s):
                self.heartbeat()
