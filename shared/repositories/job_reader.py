"""Read job records in the object store: one, a page of a caller's, or the markers of all unfinished ones."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from shared.domain.job import Job, Lane
from shared.errors import JobNotFound
from shared.storage import keys
from shared.storage.ports import ObjectStore
from shared.storage.versioned_records import Versioned, VersionedRecords

READERS = 8  # records of a page that are read at once
MAX_SCANNED = 1_000  # records read for one page, at most


@dataclass(frozen=True, slots=True)
class PendingMarker:
    """A marker under `pending/`: one run of one job that may be unfinished, written `age_s` seconds ago."""

    key: str
    job_id: str
    run_number: int
    caller: str
    age_s: float

    @property
    def lane(self) -> Lane:
        """The lane in its key."""
        return Lane(self.key.removeprefix(keys.PENDING).partition("/")[0])


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some of a caller's jobs, newest first; `next_cursor` continues after them, None at the end."""

    jobs: list[Job]
    next_cursor: str | None


class JobReader:
    """Find and list jobs. Safe from any thread."""

    def __init__(self, store: ObjectStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Open the records. pause: waits between tries of a write, in seconds."""
        self.store = store
        self._records = VersionedRecords(store, Job, pause=pause)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="job-reader")

    def now(self) -> datetime:
        """Return the store's clock, aware UTC: the only clock for leases and for what job records say."""
        return self.store.now()

    def find(self, job_id: str) -> Versioned[Job] | None:
        """Return the job as it is now, purged or not; None where there is no record."""
        return self._records.find(keys.job_record(job_id))

    def read(self, job_id: str) -> Versioned[Job]:
        """As `find`.

        Raises:
            JobNotFound: there is no such record.
        """
        return self._require(job_id, self.find(job_id))

    @staticmethod
    def _require(job_id: str, present: Versioned[Job] | None) -> Versioned[Job]:
        if present is None:
            raise JobNotFound(f"no job {job_id}")
        return present

    def list(
        self, caller: str, *, limit: int, after: str = "", matches: Callable[[Job], bool] = lambda _: True
    ) -> JobPage:
        """Return a page of a caller's jobs that satisfy `matches`, newest first.

        Reads at most MAX_SCANNED records: a page may hold fewer than `limit` jobs, even none, and have a next one.
        """
        folder = keys.caller_folder(caller)
        markers = (entry.key for entry in self.store.list(folder, after=folder + after if after else ""))
        jobs: list[Job] = []
        cursor = ""
        for scanned, (marker, job) in enumerate(self._jobs_of(markers, at_once=limit + 1)):
            is_match = job and not job.purged_at and job.caller == caller and matches(job)
            if scanned == MAX_SCANNED or (is_match and len(jobs) == limit):
                return JobPage(jobs, next_cursor=cursor)
            if job and is_match:
                jobs.append(job)
            cursor = marker.removeprefix(folder)
        return JobPage(jobs, next_cursor=None)

    def _jobs_of(self, markers: Iterator[str], *, at_once: int) -> Iterator[tuple[str, Job | None]]:
        def job_of(marker: str) -> Job | None:
            current = self.find(keys.job_of_marker(marker))
            return current.record if current else None

        while chunk := list(islice(markers, at_once)):
            yield from zip(chunk, self._readers.map(job_of, chunk), strict=True)

    def pending_markers(self, lane: Lane | None = None, *, after: str = "") -> Iterator[PendingMarker]:
        """Yield the markers of unfinished jobs, oldest first in each lane."""
        prefix = keys.pending_lane(lane) if lane else keys.PENDING
        for entry in self.store.list(prefix, after=after):
            job_id, run_number, caller = keys.read_pending_marker(entry.key)
            age_s = (self.now() - entry.modified_at).total_seconds()
            yield PendingMarker(entry.key, job_id, run_number, caller, age_s)
