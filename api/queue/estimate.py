"""How long a job will still take, guessed from the ledger at hardly any cost.

Nothing here moves with the clock, only with records: so a job that has not changed keeps its ETag.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from shared.domain.job import Job, Lane, Status
from shared.errors import StoreError
from shared.repositories.jobs import JobRepository

LISTING_TTL_S = 2.0  # how old a listing of a lane may be
MAX_LISTED_JOBS = 1_000  # how far down a lane anybody is counted
FIRST_GUESS_S = 30.0  # until the first job of a kind has been seen to end
WEIGHT = 0.2  # of the newest duration in the running mean
REMEMBERED_JOBS = 1_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """queue_position: unfinished jobs of its lane that came before, None past LINE_JOBS. eta_seconds: to its end."""

    queue_position: int | None = None
    eta_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class _LaneListing:
    """A lane's unfinished jobs as last listed: each one's place, and whether the listing saw its end."""

    places: dict[str, int]
    is_whole: bool
    listed_at: float


class Estimates:
    """Keeps a listing of each lane for LINE_S, and the mean duration of each kind of job. Safe from any thread."""

    def __init__(self, jobs: JobRepository, *, parallel_jobs: int, monotonic: Callable[[], float]) -> None:
        self._jobs = jobs
        self._parallel_jobs = parallel_jobs
        self._monotonic = monotonic
        self._lines: dict[Lane, _LaneListing] = {}
        self._listing = {lane: threading.Lock() for lane in Lane}
        self._typical_s: dict[tuple[str, str, bool], float] = {}
        self._learned: set[str] = set()

    def estimate(self, job: Job) -> Estimate:
        """The estimate for one job; may list its lane. Nothing for an ended job."""
        if job.status is Status.QUEUED:
            place = self._place(job)
            waves = 1 if place is None else place // self._parallel_jobs + 1
            return Estimate(place, None if place is None else math.ceil(waves * self._typical(job)))
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

    def _place(self, job: Job) -> int | None:
        try:
            line = self._line(job.lane)
        except StoreError:  # an estimate is not worth an error, least of all once a job is accepted
            return None
        if job.id in line.places:
            return line.places[job.id]
        return len(line.places) if line.is_whole else None

    def _line(self, lane: Lane) -> _LaneListing:
        """The lane as last listed; whoever finds it old lists it again while the others go on with the old one."""
        line = self._lines.get(lane)
        if line and self._monotonic() - line.listed_at < LISTING_TTL_S:
            return line
        lock = self._listing[lane]
        if not lock.acquire(blocking=line is None):
            assert line is not None  # noqa: S101 - only a first listing is waited for
            return line
        try:
            fresh = self._lines.get(lane)
            if fresh is None or fresh is line:
                self._lines[lane] = fresh = self._list(lane)
            return fresh
        finally:
            lock.release()

    def _list(self, lane: Lane) -> _LaneListing:
        listed_at = self._monotonic()
        markers = list(islice(self._jobs.pending_markers(lane), MAX_LISTED_JOBS + 1))
        places = {marker.job_id: place for place, marker in enumerate(markers[:MAX_LISTED_JOBS])}
        return _LaneListing(places, len(markers) <= MAX_LISTED_JOBS, listed_at)


def _kind(job: Job) -> tuple[str, str, bool]:
    return job.engine, job.parameters.pipeline_type, job.input.state is not None
