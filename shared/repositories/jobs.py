"""The ledger: what jobs there are, and every change one goes through; the bucket is its only memory."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from shared.domain import job_transitions
from shared.domain.job import Artifact, Check, Job, JobError, Lane, SamplingResult, Stage, Status
from shared.errors import JobNotFound, StoreError, TransitionRefused
from shared.repositories.batch_row_status import RowStatusMarkers
from shared.repositories.concurrency_slots import ConcurrencySlots
from shared.repositories.job_audit_log import log_change
from shared.repositories.outbox import Outbox
from shared.repositories.usage import UsageRepository
from shared.storage import keys
from shared.storage.ports import ObjectStore
from shared.storage.versioned_records import Versioned, VersionedRecords

LEASE_S = 30.0  # how long a worker may be silent before its job is given to another
ANNOUNCED_AFTER = timedelta(days=1)  # by then the sweeper has seen to every end
MAX_SCANNED = 1_000  # records that one page may look at


@dataclass(frozen=True, slots=True)
class PendingMarker:
    """One marker under `open/`: some round of some job that calls itself unfinished, for `age_s` seconds so far."""

    key: str
    job_id: str
    run_number: int
    caller: str
    age_s: float

    @property
    def lane(self) -> Lane:
        """The lane that it lies in."""
        return Lane(self.key.removeprefix(keys.PENDING).partition("/")[0])


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some of a caller's jobs, newest first; `next_cursor` asks for those after them, None at the end."""

    jobs: list[Job]
    next_cursor: str | None


def lease_is_over(current: Versioned[Job]) -> bool:
    """Whether the worker that runs a job has been silent for longer than a lease.

    While a job runs only its worker writes it, so the record's age is the age of the lease.
    """
    return current.record.status is Status.RUNNING and current.age_s > LEASE_S


class JobRepository:
    """Create, claim, renew, finish, list and repair jobs. Safe from any thread and any number of processes."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        pause: Callable[[float], None] = time.sleep,
        readers: int = 8,
        announced: Callable[[], None] = lambda: None,
    ) -> None:
        """`readers` is how many records of a page are read at once; `announced` is called when a webhook is due."""
        self.store = store
        self._records = VersionedRecords(store, Job, pause=pause)
        self._outbox = Outbox(store)
        self.slots = ConcurrencySlots(store)
        self._usage = UsageRepository(store)
        self._rows = RowStatusMarkers(store)
        self.announced = announced
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="job-reader")

    # --- reading and writing

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

    def create(self, job: Job) -> Versioned[Job]:
        """Write the record of a reserved job, durable when this returns. If the id is taken, that record wins."""
        return self._records.create(keys.job_record(job.id), job) or self.read(job.id)

    def _change(
        self, job_id: str, transition: Callable[[Versioned[Job]], Job], *, start: Versioned[Job] | None = None
    ) -> Versioned[Job]:
        before: Job | None = None

        def noted(current: Versioned[Job]) -> Job:
            nonlocal before
            before = current.record
            return transition(current)

        written = self._require(job_id, self._records.change(keys.job_record(job_id), noted, start=start))
        assert before is not None  # noqa: S101 - there was a record
        log_change(before, written.record)
        return written

    def _apply(self, target: Versioned[Job] | str, transition: Callable[[Job], Job]) -> Versioned[Job]:
        """Apply a pure transition to what the caller holds, or to a job by id."""
        job_id, start = (target, None) if isinstance(target, str) else (target.record.id, target)
        return self._change(job_id, lambda current: transition(current.record), start=start)

    @staticmethod
    def _require(job_id: str, present: Versioned[Job] | None) -> Versioned[Job]:
        if present is None:
            raise JobNotFound(f"no job {job_id}")
        return present

    # --- listing

    def list(
        self, caller: str, *, limit: int, after: str = "", wanted: Callable[[Job], bool] = lambda _: True
    ) -> JobPage:
        """A page of a caller's jobs, newest first, of those that are `wanted`.

        Looks at MAX_SCANNED jobs at most: a page may hold fewer than `limit`, even none, and still have a next one.
        """
        folder = keys.caller_folder(caller)
        markers = (entry.key for entry in self.store.list(folder, after=folder + after if after else ""))
        job_list: list[Job] = []
        cursor = ""
        for scanned, (marker, job) in enumerate(self._jobs_of(markers, at_once=limit + 1)):
            is_wanted = job and not job.purged_at and job.caller == caller and wanted(job)
            if scanned == MAX_SCANNED or (is_wanted and len(job_list) == limit):
                return JobPage(job_list, next_cursor=cursor)
            if job and is_wanted:
                job_list.append(job)
            cursor = marker.removeprefix(folder)
        return JobPage(job_list, next_cursor=None)

    def _jobs_of(self, markers: Iterator[str], *, at_once: int) -> Iterator[tuple[str, Job | None]]:
        def job_of(marker: str) -> Job | None:
            found = self.find(keys.job_of_caller_marker(marker))
            return found.record if found else None

        while chunk := list(islice(markers, at_once)):
            yield from zip(chunk, self._readers.map(job_of, chunk), strict=True)

    def pending_markers(self, lane: Lane | None = None, *, after: str = "") -> Iterator[PendingMarker]:
        """What calls itself unfinished, oldest first in each lane."""
        prefix = keys.pending_lane(lane) if lane else keys.PENDING
        for entry in self.store.list(prefix, after=after):
            job_id, round_, caller = keys.read_pending_marker(entry.key)
            age_s = (self.now() - entry.modified_at).total_seconds()
            yield PendingMarker(entry.key, job_id, round_, caller, age_s)

    # --- the changes a job goes through

    def reserve(self, job: Job) -> None:
        """Put the markers of a job that is about to be created, before anything else of it is stored.

        A crash after this leaves markers without a record: the sweeper clears them, and whatever lies in the folder.
        """
        self.store.put(keys.pending_marker(job.lane, job.id, job.run_number, job.caller), b"")
        self.store.put(keys.caller_marker(job.caller, job.id), b"")

    def claim(self, job_id: str, worker: str) -> Versioned[Job] | None:
        """Take a job for a worker: a queued one, or a running one whose lease is over. None where neither is so.

        None, too, where as many jobs of its caller run as may: it stays queued until one of them is released.
        The attempt is counted here, before any work, so that a crash cannot go unseen.
        """
        reserved: Job | None = None  # with its slot

        def claimed(current: Versioned[Job]) -> Job:
            nonlocal reserved
            job = current.record
            if lease_is_over(current):
                job = job_transitions.expire_lease(job, now=self.now())
            if job.status is Status.QUEUED and job.running_limit is not None and reserved is None:
                reserved = self.slots.reserve(job)
            slot = reserved.slot if reserved else None
            return (
                job if job.status.is_terminal else job_transitions.claim(job, worker=worker, now=self.now(), slot=slot)
            )

        try:
            held = self._change(job_id, claimed)
        except (JobNotFound, TransitionRefused):
            if reserved:
                self.slots.free(reserved)
            return None
        with suppress(StoreError):  # a batch that shows one row too few as running is no reason to lose the claim
            self._rows.record(held.record)
        return held if held.record.status is Status.RUNNING else None

    def release_slot(self, job: Job) -> Job | None:
        """Note that a worker is done with a job, however it ended; the queued one that may run instead, to ring for."""
        if job.slot is None:
            return None
        self.slots.free(job)
        while parked := self.slots.next_blocked(job.caller):
            found = self.find(parked)
            if found and found.record.status is Status.QUEUED:
                return found.record
        return None

    def renew(
        self, held: Versioned[Job], *, stage: Stage | None, progress: float, preview: bytes | None = None
    ) -> Versioned[Job]:
        """Keep the lease; `preview`: a small WebP. Raises LeaseLost where the job was canceled, taken over or ended."""
        attempt = held.record.attempt
        return self._apply(
            held,
            lambda job: job_transitions.renew(job, attempt=attempt, stage=stage, progress=progress, preview=preview),
        )

    def release(self, held: Versioned[Job]) -> Versioned[Job]:
        """Give a job back untouched, ready for the next worker. Raises LeaseLost."""
        attempt = held.record.attempt
        queued = self._apply(held, lambda job: job_transitions.release(job, attempt=attempt, now=self.now()))
        with suppress(StoreError):  # likewise
            self._rows.clear_running(queued.record)
        return queued

    def next_attempt(self, held: Versioned[Job]) -> Versioned[Job]:
        """Start the next attempt in place. Raises LeaseLost, or TransitionRefused when there may be no more."""
        attempt = held.record.attempt
        return self._apply(held, lambda job: job_transitions.next_attempt(job, attempt=attempt, now=self.now()))

    def succeed(
        self,
        held: Versioned[Job],
        *,
        artifacts: dict[str, Artifact],
        timings: dict[str, float],
        checks: tuple[Check, ...] = (),
        sampled: SamplingResult | None = None,
        gpu_seconds: float = 0.0,
        cost_usd: float = 0.0,
    ) -> Versioned[Job]:
        """Settle as succeeded: from here on the artifacts are the job's. Raises LeaseLost."""
        attempt = held.record.attempt
        return self._settled(
            self._apply(
                held,
                lambda job: job_transitions.succeed(
                    job,
                    attempt=attempt,
                    now=self.now(),
                    artifacts=artifacts,
                    checks=checks,
                    sampled=sampled,
                    timings=timings,
                    gpu_seconds=gpu_seconds,
                    cost_usd=cost_usd,
                ),
            )
        )

    def fail(self, held: Versioned[Job], error: JobError) -> Versioned[Job]:
        """Settle as failed. Raises LeaseLost."""
        attempt = held.record.attempt
        return self._settled(
            self._apply(held, lambda job: job_transitions.fail(job, attempt=attempt, now=self.now(), error=error))
        )

    def cancel(self, job_id: str) -> Versioned[Job]:
        """Cancel a job in any status; an ended one stays as it is. Raises JobNotFound.

        If a worker had it, its open marker stays until the worker, or the sweeper, has cleaned up after it.
        """
        canceled = self._apply(job_id, lambda job: job_transitions.cancel(job, now=self.now()))
        if canceled.record.attempt == 0:
            return self._settled(canceled)
        with suppress(StoreError):  # the sweeper announces it: the marker is there
            self._announce_if_recent(canceled.record)
        return canceled

    def retry(self, job_id: str, *, round_: int | None = None) -> Versioned[Job]:
        """Queue an ended job again, for a round of its batch's where one is given.

        Raises JobNotFound, TransitionRefused.
        """
        read = self.read(job_id)
        queued = job_transitions.retry(read.record, now=self.now(), round_=round_)
        self._announce_if_recent(read.record)  # if that is still to be done: the record is about to forget this end
        self.store.put(keys.pending_marker(queued.lane, queued.id, queued.run_number, queued.caller), b"")
        return self._apply(read, lambda job: job_transitions.retry(job, now=self.now(), round_=round_))

    def purge(self, job_id: str) -> None:
        """Delete what a job holds, canceling it first if need be. Raises JobNotFound.

        The record stays behind as a tombstone: a deleted one could be written anew by a worker that knows no better.
        """
        job = self.cancel(job_id).record
        self._announce_if_recent(job)  # likewise
        self._apply(job_id, lambda job: job if job.purged_at else job_transitions.purge(job, now=self.now()))
        record = keys.job_record(job_id)
        for entry in self.store.list(keys.job_folder(job_id)):
            if entry.key != record:
                self.store.delete(entry.key)
        self.store.delete(keys.caller_marker(job.caller, job_id))

    def purge_expired(self, is_needed: Callable[[Job], bool], *, grace_s: float) -> int:
        """Erase every job whose time is over by `grace_s`, but those that are needed; how many.

        A marker whose job has gone on meanwhile (retried) says nothing any more.
        """
        erased = 0
        for entry in self.store.list(keys.EXPIRING):
            due_ms, job_id, round_ = keys.read_expiring(entry.key)
            if due_ms / 1000 + grace_s > self.now().timestamp():
                break
            found = self.find(job_id)
            if found and is_needed(found.record):
                continue
            if found and found.record.run_number == round_ and found.record.expires_at and not found.record.purged_at:
                self.purge(job_id)
                erased += 1
            self.store.delete(entry.key)
        return erased

    # --- repairing

    def repair(self, marker: PendingMarker, *, queue_ttl_s: float, orphan_s: float) -> Versioned[Job] | None:
        """What the sweeper does about one open marker; idempotent, and safe beside any number of other sweepers.

        Takes a job back whose lease is over, expires one that waited longer than `queue_ttl_s`, clears the marker of
        one that ended, and everything of one that never got a record within `orphan_s`.
        Returns the job as it stands then; None where there is nothing to look after any more.
        """
        try:
            current = self._change(marker.job_id, self._repaired(queue_ttl_s))
        except JobNotFound:
            if marker.age_s > orphan_s:
                self._clear_orphan(marker)
            return None
        if current.record.status.is_terminal:
            if current.age_s > LEASE_S:
                self.clean(current.record)
            else:
                self._announce(current.record)
        elif current.record.status is Status.QUEUED and current.age_s == 0:  # it was taken back just now
            self._rows.clear_running(current.record)
        if marker.run_number < current.record.run_number:
            self.store.delete(marker.key)
        return None if current.record.status.is_terminal else current

    def _repaired(self, queue_ttl_s: float) -> Callable[[Versioned[Job]], Job]:
        def repaired(current: Versioned[Job]) -> Job:
            now = self.now()
            if lease_is_over(current):
                return job_transitions.expire_lease(current.record, now=now)
            waited_s = (now - current.record.queued_at).total_seconds()
            if current.record.status is Status.QUEUED and waited_s > queue_ttl_s:
                return job_transitions.expire(current.record, now=now)
            return current.record

        return repaired

    def clean(self, job: Job) -> None:
        """Delete what the attempts of an ended job left beside its artifacts, announce it, delete its open marker."""
        self._delete_leftovers(job)
        self._announce(job)
        self._clear_marker(job)

    def _delete_leftovers(self, job: Job) -> None:
        kept = {keys.job_record(job.id), *(artifact.key for artifact in job.artifacts.values())}
        attempts = (f"{keys.job_folder(job.id)}{attempt}/" for attempt in range(1, job.attempt + 1))
        for entry in (entry for folder in attempts for entry in self.store.list(folder)):
            if entry.key not in kept:
                self.store.delete(entry.key)

    def _clear_orphan(self, marker: PendingMarker) -> None:
        for entry in self.store.list(keys.job_folder(marker.job_id)):
            self.store.delete(entry.key)
        self.store.delete(keys.caller_marker(marker.caller, marker.job_id))
        self.store.delete(marker.key)

    def _settled(self, written: Versioned[Job]) -> Versioned[Job]:
        """Clear up after a job that has just ended; what fails here, the sweeper does."""
        try:
            if written.record.status.is_terminal:
                self._announce(written.record)
                if written.record.attempt > 1 or written.record.status is Status.FAILED:
                    self._delete_leftovers(written.record)
                self._clear_marker(written.record)
        except StoreError:
            return written
        return written

    def _announce(self, job: Job) -> None:
        """See that the job's end is in the outbox, what it used counted, and its expiry planned.

        Always before its marker goes, so that no crash can swallow any of them.
        """
        self._usage.count(job)
        self._rows.record(job)
        if job.expires_at and not job.purged_at:
            self.store.put(keys.expiring(job.expires_at, job.id, job.run_number), b"")
        if self._outbox.announce(job):
            self.announced()

    def _announce_if_recent(self, job: Job) -> None:
        """As `_announce`, for ends that were told long ago as a rule: nobody may remember that they were."""
        if job.finished_at and self.now() - job.finished_at < ANNOUNCED_AFTER:
            self._announce(job)

    def _clear_marker(self, job: Job) -> None:
        self.store.delete(keys.pending_marker(job.lane, job.id, job.run_number, job.caller))
