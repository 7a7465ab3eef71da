"""Estimate queue positions and remaining times from cached listings.

Estimates depend on records only, not on the clock: an unchanged job keeps its ETag.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from shared.domain.job import Job, Lane, Status
from shared.errors import StoreError
from shared.repositories.jobs import JobRepository

LISTING_TTL_S = 2.0  # maximum age of a lane's listing
MAX_LISTED_JOBS = 1_000  # maximum number of listed jobs of a lane
FIRST_GUESS_S = 30.0  # until the first job of a kind has ended
WEIGHT = 0.2  # of the newest duration in the running mean
REMEMBERED_JOBS = 1_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """queue_position: unfinished jobs before it in its lane, None beyond MAX_LISTED_JOBS. eta_seconds: to its end."""

    queue_position: int | None = None
    eta_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class _LaneListing:
    """The unfinished jobs of a lane when last listed: their positions, and whether the listing is complete."""

    positions: dict[str, int]
    is_complete: bool
    listed_at: float


class Estimates:
    """Keeps a listing of each lane for LINE_S, and the mean duration of each kind of job. Thread-safe."""

    def __init__(self, jobs: JobRepository, *, parallel_jobs: int, monotonic: Callable[[], float]) -> None:
        self._jobs = jobs
        self._parallel_jobs = parallel_jobs
        self._monotonic = monotonic
        self._listings: dict[Lane, _LaneListing] = {}
        self._locks = {lane: threading.Lock() for lane in Lane}
        self._typical_s: dict[tuple[str, str, bool], float] = {}
        self._learned: set[str] = set()

    def estimate(self, job: Job) -> Estimate:
        """Return the estimate for one job; may list its lane. An ended job has none."""
        if job.status is Status.QUEUED:
            position = self._position(job)
            if position is None:
                return Estimate()
            return Estimate(position, math.ceil((position // self._parallel_jobs + 1) * self._typical(job)))
        if job.status is Status.RUNNING:
            return Estimate(None, math.ceil((1 - job.progress) * self._typical(job)))
        self._learn(job)
        return Estimate()

    def _typical(self, job: Job) -> float:
        return self._typical_s.get(_kind(job), FIRST_GUESS_S)

    def _learn(self, job: Job) -> None:
        if job.status is not Status.SUCCEEDED or job.id in self._learned or not (job.started_at and job.finished_at):
            return
        if len(self._learned) >= REMEMBERED_JOBS:
            self._learned.clear()
        self._learned.add(job.id)
        took_s = (job.finished_at - job.started_at).total_seconds()
        before_s = self._typical_s.get(_kind(job), took_s)
        self._typical_s[_kind(job)] = before_s + WEIGHT * (took_s - before_s)

    def _position(self, job: Job) -> int | None:
        try:
            listing = self._listing_of(job.lane)
        except StoreError:  # an estimate must not fail a request, least of all for an accepted job
            return None
        if job.id in listing.positions:
            return listing.positions[job.id]
        return len(listing.positions) if listing.is_complete else None

    def _listing_of(self, lane: Lane) -> _LaneListing:
        """Return the lane's listing. One thread renews an expired listing while the others use the old one."""
        listing = self._listings.get(lane)
        if listing and self._monotonic() - listing.listed_at < LISTING_TTL_S:
            return listing
        lock = self._locks[lane]
        if not lock.acquire(blocking=listing is None):
            assert listing is not None  # noqa: S101 - only the first listing blocks
            return listing
        try:
            fresh = self._listings.get(lane)
            if fresh is None or fresh is listing:
                self._listings[lane] = fresh = self._list(lane)
            return fresh
        finally:
            lock.release()

    def _list(self, lane: Lane) -> _LaneListing:
        listed_at = self._monotonic()
        markers = list(islice(self._jobs.pending_markers(lane), MAX_LISTED_JOBS + 1))
        positions = {marker.job_id: position for position, marker in enumerate(markers[:MAX_LISTED_JOBS])}
        return _LaneListing(positions, len(markers) <= MAX_LISTED_JOBS, listed_at)


def _kind(job: Job) -> tuple[str, str, bool]:
    return job.engine, job.parameters.pipeline_type, job.input.state is not None
