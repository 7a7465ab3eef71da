"""Change job records in the object store, by every change that a job goes through; the store is its only memory."""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import timedelta
from typing import Any, Unpack

from shared.domain import job_transitions
from shared.domain.job import Job, JobError, Stage, Status
from shared.domain.job_transitions import JobListener, JobOutput
from shared.errors import JobNotFound, StoreError, TransitionRefused
from shared.log import log
from shared.repositories.caller_usage import ConcurrencySlots
from shared.repositories.job_reader import JobReader, PendingMarker
from shared.storage import keys
from shared.storage.ports import ObjectStore
from shared.storage.versioned_records import Versioned

LEASE_S = 30.0  # how long a worker may be silent before its job is given to another
ANNOUNCED_AFTER = timedelta(days=1)  # the reconciler has announced every end by then


def lease_is_over(current: Versioned[Job]) -> bool:
    """Return whether the worker of a job has sent no heartbeat for longer than a lease.

    While a job runs only its worker writes it, so the record's age is the age of the lease.
    """
    return current.record.status is Status.RUNNING and current.age_s > LEASE_S


class JobRepository(JobReader):
    """Create, claim, renew, finish, list and repair jobs. Safe from any thread and any number of processes.

    What else a change causes (row statuses, usage, webhooks) is done by its listeners, see
    `shared.repositories.job_listeners`, which also builds one.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        slots: ConcurrencySlots,
        listeners: Sequence[JobListener],
        pause: Callable[[float], None] = time.sleep,
        announced: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the repository.

        Args:
            store: where the records are.
            slots: bound how many jobs of one caller run at once.
            listeners: called in this order at every claim, release and end.
            pause: waits between tries, in seconds.
            announced: called when a webhook is due.
        """
        super().__init__(store, pause=pause)
        self.slots = slots
        self.announced = announced
        self._listeners = tuple(listeners)

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
        _log_change(before, written.record)
        return written

    def _apply(self, target: Versioned[Job] | str, transition: Callable[[Job], Job]) -> Versioned[Job]:
        """Apply a pure transition to what the caller holds, or to a job by id."""
        job_id, start = (target, None) if isinstance(target, str) else (target.record.id, target)
        return self._change(job_id, lambda current: transition(current.record), start=start)

    def _apply_held(self, held: Versioned[Job], transition: Callable[..., Job], **fields: Any) -> Versioned[Job]:
        """Apply a timed transition that only the attempt that holds the job may make."""
        attempt = held.record.attempt
        return self._apply(held, lambda job: transition(job, attempt=attempt, now=self.now(), **fields))

    # --- the changes a job goes through

    def reserve(self, job: Job) -> None:
        """Write the markers of a job that is about to be created, before anything else of it is stored.

        A crash after this leaves markers without a record: the reconciler deletes them and the job's folder.
        """
        self.store.put(keys.pending_marker(job.lane, job.id, job.run_number, job.caller), b"")
        self.store.put(keys.caller_marker(job.caller, job.id), b"")

    def claim(self, job_id: str, worker: str) -> Versioned[Job] | None:
        """Claim a queued job, or a running one whose lease expired, for a worker; None for other jobs.

        None also if the caller has no free concurrency slot: the job stays queued until one is released.
        The attempt is counted here, before any work, so that no crash goes unseen.
        """
        reserved: Job | None = None  # with its slot

        def claimed(current: Versioned[Job]) -> Job:
            nonlocal reserved
            job = current.record
            if lease_is_over(current):
                job = job_transitions.expire_lease(job, now=self.now())
            if job.status is Status.QUEUED and job.running_limit is not None and reserved is None:
                reserved = self.slots.reserve(job)
            if job.status.is_terminal:
                return job
            slot = reserved.slot if reserved else None
            return job_transitions.claim(job, worker=worker, now=self.now(), slot=slot)

        try:
            held = self._change(job_id, claimed)
        except (JobNotFound, TransitionRefused):
            if reserved:
                self.slots.free(reserved)
            return None
        with suppress(StoreError):  # a batch that shows one row too few as running is no reason to lose the claim
            for listener in self._listeners:
                listener.on_claimed(held.record)
        return held if held.record.status is Status.RUNNING else None

    def release_slot(self, job: Job) -> Job | None:
        """Free the concurrency slot of a job that its worker is done with; return the blocked job to enqueue next."""
        if job.slot is None:
            return None
        self.slots.free(job)
        while blocked_id := self.slots.next_blocked(job.caller):
            blocked = self.find(blocked_id)
            if blocked and blocked.record.status is Status.QUEUED:
                return blocked.record
        return None

    def renew(
        self, held: Versioned[Job], *, stage: Stage | None, progress: float, preview: bytes | None = None
    ) -> Versioned[Job]:
        """Renew the lease and store progress (0 to 1) and `preview`, a small WebP.

        Raises:
            LeaseLost: the job was canceled, taken over or ended.
        """
        return self._apply(
            held,
            lambda job: job_transitions.renew(
                job, attempt=held.record.attempt, stage=stage, progress=progress, preview=preview
            ),
        )

    def release(self, held: Versioned[Job]) -> Versioned[Job]:
        """Return a job to the queue for the next worker, without counting a failure. Raises LeaseLost."""
        queued = self._apply_held(held, job_transitions.release)
        with suppress(StoreError):  # as in `claim`
            self._call_released(queued.record)
        return queued

    def next_attempt(self, held: Versioned[Job]) -> Versioned[Job]:
        """Start the next attempt by the same worker. Raises LeaseLost, or TransitionRefused after the last attempt."""
        return self._apply_held(held, job_transitions.next_attempt)

    def succeed(self, held: Versioned[Job], **output: Unpack[JobOutput]) -> Versioned[Job]:
        """Finish as succeeded: now the artifacts are the job's. Raises LeaseLost."""
        return self._finished(self._apply_held(held, job_transitions.succeed, **output))

    def fail(self, held: Versioned[Job], error: JobError) -> Versioned[Job]:
        """Finish as failed. Raises LeaseLost."""
        return self._finished(self._apply_held(held, job_transitions.fail, error=error))

    def cancel(self, job_id: str) -> Versioned[Job]:
        """Cancel a job in any status; an ended one is not changed. Raises JobNotFound.

        If a worker had it, its pending marker stays until the worker or the reconciler has deleted its leftovers.
        """
        canceled = self._apply(job_id, lambda job: job_transitions.cancel(job, now=self.now()))
        if canceled.record.attempt == 0:
            return self._finished(canceled)
        with suppress(StoreError):  # the reconciler announces it: the marker is there
            self._announce_if_recent(canceled.record)
        return canceled

    def retry(self, job_id: str, *, run_number: int | None = None) -> Versioned[Job]:
        """Queue an ended job again. run_number: of its batch, for a row; else the next.

        Raises:
            JobNotFound: there is no such record.
            TransitionRefused: it has not ended, has succeeded or was purged.
        """
        current = self.read(job_id)
        queued = job_transitions.retry(current.record, now=self.now(), run_number=run_number)
        self._announce_if_recent(current.record)  # if still needed: the record is about to forget this end
        self.store.put(keys.pending_marker(queued.lane, queued.id, queued.run_number, queued.caller), b"")
        return self._apply(current, lambda job: job_transitions.retry(job, now=self.now(), run_number=run_number))

    def purge(self, job_id: str) -> None:
        """Delete what a job holds, canceling it first if need be. Raises JobNotFound.

        The record stays as a tombstone: a worker that still runs the job could write a deleted one again.
        """
        job = self.cancel(job_id).record
        self._announce_if_recent(job)  # as in `retry`
        self._apply(job_id, lambda job: job if job.purged_at else job_transitions.purge(job, now=self.now()))
        self._delete_folder(job_id, kept={keys.job_record(job_id)})
        self.store.delete(keys.caller_marker(job.caller, job_id))

    def purge_expired(self, is_needed: Callable[[Job], bool], *, grace_s: float) -> int:
        """Purge every job that expired more than `grace_s` seconds ago and is not needed; return how many.

        The marker of a job that was retried meanwhile is only deleted.
        """
        purged = 0
        for entry in self.store.list(keys.EXPIRING):
            due_ms, job_id, run_number = keys.read_expiring(entry.key)
            if due_ms / 1000 + grace_s > self.now().timestamp():
                break
            job = current.record if (current := self.find(job_id)) else None
            if job and is_needed(job):
                continue
            if job and job.run_number == run_number and job.expires_at and not job.purged_at:
                self.purge(job_id)
                purged += 1
            self.store.delete(entry.key)
        return purged

    # --- repairing

    def repair(self, marker: PendingMarker, *, queue_ttl_s: float, orphan_s: float) -> Versioned[Job] | None:
        """Repair the job of one pending marker; idempotent, and safe while other reconcilers run.

        Expires a lease that has run out, and a job that waited longer than `queue_ttl_s`; deletes the marker of a job
        that ended, and all objects of a job that got no record within `orphan_s`.

        Returns:
            The job, if it is still unfinished; else None.
        """
        try:
            current = self._change(marker.job_id, lambda present: self._repaired(present, queue_ttl_s))
        except JobNotFound:
            if marker.age_s > orphan_s:
                self._delete_folder(marker.job_id)
                self.store.delete(keys.caller_marker(marker.caller, marker.job_id))
                self.store.delete(marker.key)
            return None
        job = current.record
        if job.status.is_terminal:
            if current.age_s > LEASE_S:
                self.clean(job)
            else:
                self._announce(job)
        elif job.status is Status.QUEUED and current.age_s == 0:  # its lease was expired just now
            self._call_released(job)
        if marker.run_number < job.run_number:
            self.store.delete(marker.key)
        return None if job.status.is_terminal else current

    def _repaired(self, current: Versioned[Job], queue_ttl_s: float) -> Job:
        job, now = current.record, self.now()
        if lease_is_over(current):
            return job_transitions.expire_lease(job, now=now)
        if job.status is Status.QUEUED and (now - job.queued_at).total_seconds() > queue_ttl_s:
            return job_transitions.expire(job, now=now)
        return job

    def clean(self, job: Job) -> None:
        """Delete what an ended job's attempts left beyond its artifacts, announce it, delete its pending marker."""
        self._delete_leftovers(job)
        self._announce(job)
        self._delete_marker(job)

    def _delete_leftovers(self, job: Job) -> None:
        artifacts = {artifact.key for artifact in job.artifacts.values()}
        for attempt in range(1, job.attempt + 1):
            self._delete_folder(job.id, f"{attempt}/", kept=artifacts)

    def _delete_folder(self, job_id: str, subfolder: str = "", *, kept: AbstractSet[str] = frozenset()) -> None:
        for entry in self.store.list(keys.job_folder(job_id) + subfolder):
            if entry.key not in kept:
                self.store.delete(entry.key)

    def _delete_marker(self, job: Job) -> None:
        self.store.delete(keys.pending_marker(job.lane, job.id, job.run_number, job.caller))

    # --- what happens along with a change

    def _finished(self, written: Versioned[Job]) -> Versioned[Job]:
        """Announce a job that has just ended, then delete leftovers and marker; the reconciler does what fails here."""
        with suppress(StoreError):
            if written.record.status.is_terminal:
                self._announce(written.record)
                if written.record.attempt > 1 or written.record.status is Status.FAILED:
                    self._delete_leftovers(written.record)
                self._delete_marker(written.record)
        return written

    def _announce(self, job: Job) -> None:
        """Call `on_finished` of every listener.

        Always before the pending marker is deleted, so that no crash can lose any of it.
        """
        results = [listener.on_finished(job) for listener in self._listeners]
        if any(results):
            self.announced()

    def _announce_if_recent(self, job: Job) -> None:
        """As `_announce`, for an end that was announced already, unless a crash came between."""
        if job.finished_at and self.now() - job.finished_at < ANNOUNCED_AFTER:
            self._announce(job)

    def _call_released(self, job: Job) -> None:
        for listener in self._listeners:
            listener.on_released(job)


def _log_change(before: Job, after: Job) -> None:
    """Log a change from outside: a cancel, an expiry, the end of a silent worker's lease. A worker logs its own."""
    if before.status is after.status and before.crashes == after.crashes:
        return
    if after.crashes > before.crashes:
        log("lease.expired", job_id=after.id, attempt=before.attempt, crashes=after.crashes, worker=before.worker)
        if after.status is Status.FAILED and after.error is not None:
            log("job.failed", job_id=after.id, attempt=after.attempt, code=after.error.code)
    elif after.status is Status.CANCELED:
        log("job.canceled", job_id=after.id, attempt=after.attempt)
    elif after.status is Status.EXPIRED:
        log("job.expired", job_id=after.id, attempt=after.attempt)
