"""Job records in the bucket: read, and changed only by compare-and-set."""

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from shared.domain.job import Job, Status
from shared.errors import JobNotFound, ObjectNotFound, PreconditionFailed, StoreUnavailable
from shared.repositories.job_audit_log import log_change
from shared.storage import keys
from shared.storage.ports import ObjectStore

LEASE_S = 30.0
WRITE_TRIES = 8


@dataclass(frozen=True, slots=True)
class Versioned:
    """A job as read or written, with the ETag its next change must name.

    age_s: seconds from its last write to this read, both by the store's clock; 0 right after a write. While a job
    runs only its worker writes it, so this is the age of the lease.
    """

    job: Job
    etag: str
    age_s: float = 0.0

    @property
    def lease_is_over(self) -> bool:
        """Whether the worker has gone silent for longer than a lease."""
        return self.job.status is Status.RUNNING and self.age_s > LEASE_S


class Records:
    """One object per job. Safe from any thread and any number of processes."""

    def __init__(self, store: ObjectStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        """`pause` waits between tries, in seconds."""
        self.store = store
        self._pause = pause

    def now(self) -> datetime:
        """The store's clock, the only one the ledger knows."""
        return self.store.now()

    def read(self, job_id: str) -> Versioned:
        """The job as it is now, erased or not.

        Raises:
            JobNotFound: there is no such record.
        """
        try:
            fetched = self.store.get(keys.job_record(job_id))
        except ObjectNotFound as error:
            raise JobNotFound(f"no job {job_id}") from error
        age = (fetched.read_at - fetched.modified_at).total_seconds()
        return Versioned(Job.model_validate_json(fetched.body), fetched.etag, age)

    def find(self, job_id: str) -> Versioned | None:
        """As `read`, with None where there is no record."""
        try:
            return self.read(job_id)
        except JobNotFound:
            return None

    def create(self, job: Job) -> Versioned:
        """Make the record of a reserved job, durable when this returns. If the id is taken, the record there wins."""
        try:
            return self._write(job, etag=None)
        except PreconditionFailed:
            return self.read(job.id)

    def change(self, job_id: str, transition: Callable[[Job], Job]) -> Versioned:
        """Apply a pure transition by compare-and-set, again on every lost race; its errors pass through.

        Raises:
            JobNotFound: there is no such record.
            StoreUnavailable: the store gave no usable answer in WRITE_TRIES tries.
        """
        return self._apply(lambda: self.read(job_id), lambda current: transition(current.job))

    def change_from(self, held: Versioned, transition: Callable[[Job], Job]) -> Versioned:
        """As `change`, starting from what the caller holds: one write, no read, unless somebody else wrote."""
        first = [held]
        return self._apply(
            lambda: first.pop() if first else self.read(held.job.id), lambda current: transition(current.job)
        )

    def _apply(self, read: Callable[[], Versioned], transition: Callable[[Versioned], Job]) -> Versioned:
        for attempt in range(WRITE_TRIES):
            current = read()
            changed = transition(current)
            if changed is current.job:
                return current
            try:
                written = self._write(changed, etag=current.etag)
            except PreconditionFailed:
                self._pause(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter, not a secret
            else:
                log_change(current.job, written.job)
                return written
        raise StoreUnavailable(f"job {current.job.id} changed under every one of {WRITE_TRIES} writes")

    def _write(self, job: Job, *, etag: str | None) -> Versioned:
        """One conditional write; after an ambiguous answer the record itself tells whether it was ours."""
        job = job.model_copy(update={"write_id": secrets.token_hex(8)})
        body = job.model_dump_json(exclude_none=True).encode()
        key = keys.job_record(job.id)
        for attempt in range(WRITE_TRIES):
            try:
                written = self.store.put(
                    key, body, content_type="application/json", if_absent=etag is None, if_match=etag
                )
                return Versioned(job, written)
            except (PreconditionFailed, StoreUnavailable) as error:
                present = self.find(job.id)
                if present and present.job.write_id == job.write_id:
                    return present
                if isinstance(error, PreconditionFailed) or attempt == WRITE_TRIES - 1:
                    raise
                self._pause(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")
