"""The rows of running batches, as planned and as they stand, and the jobs that they become."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared.domain.batch import SEGMENT_ROWS, Batch
from shared.domain.job import Input, Job, Status
from shared.errors import InputRejected, ObjectNotFound, PreconditionFailed, TransitionRefused
from shared.images.header import HEADER_BYTES, read_header
from shared.log import log
from shared.manifest.reader import open_images
from shared.manifest.zip_format import ImageArchive
from shared.repositories.batch_row_status import RowStatuses, RowStatusMarkers
from shared.repositories.batch_rows import Row, job_of, read_segment
from shared.repositories.batches import BatchRepository
from shared.repositories.jobs import JobRepository
from shared.repositories.webhooks import EndpointRepository
from shared.storage import keys

Result = TypeVar("Result")

MAX_CACHED_SEGMENTS = 24
THREADS = 8


class BatchRows:
    """Reads the rows of batches and their statuses. Segments never change, so those last used are kept in memory."""

    def __init__(self, batches: BatchRepository, jobs: JobRepository) -> None:
        self.batches = batches
        self.jobs = jobs
        self.markers = RowStatusMarkers(batches.store)
        self._segments: OrderedDict[tuple[str, int], list[Row]] = OrderedDict()

    def read(self, batch: Batch, first: int, end: int) -> Iterator[Row]:
        """Read the planned rows from `first` up to `end`."""
        for segment in range(first // SEGMENT_ROWS, -(-end // SEGMENT_ROWS)):
            yield from (row for row in self._segment(batch.id, segment) if first <= row.number < end)

    def read_running(self, batch: Batch, statuses: RowStatuses, first: int, end: int) -> list[Row]:
        """Read those rows from `first` up to `end` that run in this run of the batch."""
        return [row for row in self.read(batch, first, end) if self.runs(row, statuses)]

    def read_statuses(self, batch: Batch, first: int, end: int) -> RowStatuses:
        """Read the statuses of the rows from `first` up to `end`."""
        return self.markers.read(batch, first=first, end=end)

    def read_earlier_statuses(self, batch: Batch, first: int, end: int) -> RowStatuses:
        """Read which of these rows succeeded in earlier runs; a first run has none and needs no listing."""
        return self.read_statuses(batch, first, end) if batch.run_number else RowStatuses()

    def runs(self, row: Row, statuses: RowStatuses) -> bool:
        """Return whether a row runs in this run: it is valid, and has neither a reusable result nor a success."""
        return row.may_run and row.number not in statuses.succeeded

    def has_ended(self, row: Row, statuses: RowStatuses) -> bool:
        """Return whether a row has ended, by its status markers."""
        return row.number in statuses.statuses and statuses.statuses[row.number].has_ended

    def change(self, batch: Batch, fields: Callable[[Batch], dict[str, Any] | None]) -> Batch:
        """Change a batch's record by compare-and-set; return the present record."""
        return self.batches.change(batch.id, fields) or batch

    def in_parallel(self, do: Callable[[Row], Result], rows: Iterable[Row]) -> list[Result]:
        """Do something to each row, in THREADS threads."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="rows") as threads:
            return list(threads.map(do, rows))

    def _segment(self, batch_id: str, segment: int) -> list[Row]:
        cached = (batch_id, segment)
        if cached not in self._segments:
            self._segments[cached] = read_segment(self.batches.store, batch_id, segment)
            if len(self._segments) > MAX_CACHED_SEGMENTS:
                self._segments.popitem(last=False)
        self._segments.move_to_end(cached)
        return self._segments[cached]


@dataclass(slots=True)
class RowJobFactory:
    """Creates the jobs of one batch's rows. Safe from any thread."""

    batch: Batch
    jobs: JobRepository
    has_endpoints: bool
    images: ImageArchive | None
    _zip_lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, batch: Batch, jobs: JobRepository) -> "RowJobFactory":
        """Open the images of a batch, and look whether its caller has webhook endpoints."""
        images = open_images(jobs.store, batch.id, batch.file) if batch.file.images_bytes else None
        return cls(batch, jobs, EndpointRepository(jobs.store).any(batch.caller), images)

    def ensure(self, row: Row) -> str | None:
        """Make sure that a row has its job in this run of the batch; return the job's id if it waits for a worker.

        Any number of dispatchers may call this for one row: the id follows from the row, and the first record counts.
        """
        job = job_of(self.batch, row, now=self.jobs.now(), has_endpoints=self.has_endpoints)
        held = self.jobs.find(job.id)
        if held is None:
            return self._create(job, row)
        if held.record.run_number < self.batch.run_number:
            return self._retry(held.record)
        return job.id if held.record.status is Status.QUEUED else None

    def _create(self, job: Job, row: Row) -> str:
        with self.jobs.store.group_commit():
            self.jobs.reserve(job)
            stored = self._store_input(job, row)
            self.jobs.create(job.model_copy(update={"input": stored}))
        log("job.accepted", job_id=job.id, caller=job.caller, engine=job.engine, lane=job.lane, batch_id=job.batch_id)
        return job.id

    def _retry(self, job: Job) -> str | None:
        try:
            return self.jobs.retry(job.id, run_number=self.batch.run_number).record.id
        except TransitionRefused:  # another dispatcher was first, or the job was purged: then its row is skipped
            held = self.jobs.find(job.id)
            if held and held.record.purged_at:
                skipped = job.model_copy(update={"run_number": self.batch.run_number})
                RowStatusMarkers(self.jobs.store).record_skipped(skipped)
                return None
            return job.id

    def _store_input(self, job: Job, row: Row) -> Input:
        """Copy a row's image into the folder of its job; where the image is gone since planning, the job will fail."""
        if row.url:
            return Input(url=row.url)
        try:
            return self._store_member(job, row.member) if row.member else self._copy_upload(job, row.number)
        except (InputRejected, ObjectNotFound, PreconditionFailed) as error:
            log("batch.image_missing", level=logging.WARNING, job_id=job.id, reason=str(error))
            return Input(key=keys.job_input(job.id, "png"))

    def _store_member(self, job: Job, member: str) -> Input:
        assert self.images is not None  # noqa: S101 - a row names a member only where there is a zip
        with self._zip_lock:  # the zip takes one reader at a time, and one image in memory is enough
            body = self.images.read(member)
            header = read_header(body[:HEADER_BYTES], len(body), lambda offset, length: body[offset : offset + length])
            key = keys.job_input(job.id, header.extension)
            self.jobs.store.put(key, body, content_type=header.content_type)
        return Input(key=key, bytes=len(body))

    def _copy_upload(self, job: Job, number: int) -> Input:
        source = keys.batch_image(self.batch.id, number)
        first = self.jobs.store.get(source, length=HEADER_BYTES)
        header = read_header(
            first.body,
            first.size_bytes,
            lambda offset, length: self.jobs.store.get(source, first_byte=offset, length=length).body,
        )
        key = keys.job_input(job.id, header.extension)
        self.jobs.store.copy(source, key, if_match=first.etag)
        return Input(key=key, bytes=first.size_bytes)
