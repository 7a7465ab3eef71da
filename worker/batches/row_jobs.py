"""The rows of batches that are being fed, and the jobs that they become."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.domain.batch import SEGMENT_ROWS, Batch
from shared.domain.job import Input, Job, Status
from shared.errors import (
    InputRejected,
    ObjectNotFound,
    PreconditionFailed,
    TransitionRefused,
)
from shared.images.header import HEADER_BYTES, read_header
from shared.log import log
from shared.manifest.reader import open_images
from shared.manifest.zip_format import ImageArchive
from shared.repositories.batch_row_status import RowStatusMarkers
from shared.repositories.batch_rows import Row, job_of, read_segment
from shared.repositories.jobs import JobRepository
from shared.repositories.webhooks import EndpointRepository
from shared.storage import keys
from shared.storage.ports import ObjectStore

KEPT = 24  # segments in memory


class RowStore:
    """Planned rows by their numbers; segments never change, so those that were read last are kept."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, int], list[Row]] = OrderedDict()

    def rows(self, batch: Batch, first: int, end: int) -> Iterator[Row]:
        """The rows from `first` up to `end`."""
        for segment in range(first // SEGMENT_ROWS, -(-end // SEGMENT_ROWS)):
            yield from (row for row in self._segment(batch.id, segment) if first <= row.number < end)

    def _segment(self, batch_id: str, segment: int) -> list[Row]:
        place = (batch_id, segment)
        if place not in self._kept:
            self._kept[place] = read_segment(self._store, batch_id, segment)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        return self._kept[place]

    @contextmanager
    def filling(self, batch: Batch, jobs: JobRepository) -> Iterator["RowJobFactory"]:
        """What gives rows their jobs."""
        images = open_images(self._store, batch.id, batch.file) if batch.file.images_bytes else None
        yield RowJobFactory(batch, jobs, EndpointRepository(self._store).any(batch.caller), images)


@dataclass(slots=True)
class RowJobFactory:
    """Gives rows of one batch their jobs. Safe from any thread."""

    batch: Batch
    jobs: JobRepository
    has_endpoints: bool
    images: ImageArchive | None
    _zip: threading.Lock = field(default_factory=threading.Lock)

    def ensure(self, row: Row) -> str | None:
        """See that a row has its job, in this round; its id where that waits for a worker.

        However often, and by however many: the id follows from the row, and the record that is there first counts.
        """
        job = job_of(self.batch, row, now=self.jobs.now(), has_endpoints=self.has_endpoints)
        present = self.jobs.find(job.id)
        if present is None:
            return self._make(job, row)
        if present.record.run_number < self.batch.run_number:
            return self._run_again(present.record)
        return job.id if present.record.status is Status.QUEUED else None

    def _make(self, job: Job, row: Row) -> str:
        with self.jobs.store.group_commit():
            self.jobs.reserve(job)
            stored = self._put_input(job, row)
            self.jobs.create(job.model_copy(update={"input": stored}))
        log("job.accepted", job_id=job.id, caller=job.caller, engine=job.engine, lane=job.lane, batch_id=job.batch_id)
        return job.id

    def _run_again(self, job: Job) -> str | None:
        try:
            return self.jobs.retry(job.id, run_number=self.batch.run_number).record.id
        except TransitionRefused:  # another feeder was first, or the job was deleted: then there is nothing to run
            found = self.jobs.find(job.id)
            if found and found.record.purged_at:
                RowStatusMarkers(self.jobs.store).record_skipped(
                    job.model_copy(update={"run_number": self.batch.run_number})
                )
                return None
            return job.id

    def _put_input(self, job: Job, row: Row) -> Input:
        """The picture in the job's folder; where it has gone since it was looked at, the job will say so."""
        if row.url:
            return Input(url=row.url)
        try:
            return self._put_member(job, row.member) if row.member else self._copy_upload(job, row.number)
        except (InputRejected, ObjectNotFound, PreconditionFailed) as error:
            log("batch.image_missing", level=logging.WARNING, job_id=job.id, reason=str(error))
            return Input(key=keys.job_input(job.id, "png"))

    def _put_member(self, job: Job, member: str) -> Input:
        assert self.images is not None  # noqa: S101 - a row names a member only where there is a zip
        with self._zip:  # which one reader at a time may read; and one picture in memory is enough
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
