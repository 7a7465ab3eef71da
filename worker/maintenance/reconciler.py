"""The sweeper: once a minute, and only from the ledger, it repairs whatever was left undone. Idempotent."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pydantic import ValidationError

from shared.domain.job import Job, Lane
from shared.errors import QueueUnavailable
from shared.log import log
from shared.repositories.batches import BatchRepository
from shared.repositories.jobs import JobRepository, PendingMarker
from shared.storage import keys
from shared.storage.ports import JobQueue
from shared.storage.versioned_records import Versioned
from worker.maintenance.backlog import Backlog
from worker.maintenance.retention import Retention

DAY_S = 86_400.0
RINGS_AT_ONCE = 5_000
EXPIRY_GRACE_S = 600.0  # an export is refused once its source has expired; one that was accepted before is open by then
TIDY_MINUTE = 7  # of every hour: when what may be a long list is gone through
SLOT_S = 60.0  # how old a slot is before nobody can be about to claim the job that it is for
REPAIRS_AT_ONCE = 8  # a sweep reads every open job: one after the other they would fill its minute at a few thousand


@dataclass(slots=True)
class ReconcileReport:
    """What one sweep found and did."""

    enqueued: int = 0
    pending: int = 0
    leftovers_deleted: int = 0
    purged: int = 0


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Looks after open jobs and old leftovers.

    ring_after_s: how long a job may wait before it is rung for again. queue_ttl_s: how long before it expires.
    orphan_s: how long a marker may wait for its record. upload_s, idempotency_s, delivery_s: how long those are kept.
    wants_leftovers: see `worker.maintenance.gc_schedule`.
    """

    jobs: JobRepository
    queue: JobQueue
    requeue_after_s: float = 60.0
    queue_ttl_s: float = DAY_S
    orphan_s: float = 3_600.0
    upload_s: float = DAY_S
    idempotency_s: float = 2 * DAY_S
    delivery_s: float = 30 * DAY_S
    collects_garbage: Callable[[], bool] = field(default=lambda: True)

    def reconcile(self) -> ReconcileReport:
        """Repair every open job, ring for those that wait, delete what is too old.

        Raises:
            StoreError: the store does not answer; the next sweep goes on.
        """
        swept, line = ReconcileReport(), Backlog()
        wants_leftovers = self.collects_garbage()  # as it began: it may take longer than a minute
        needs = Retention(BatchRepository(self.jobs.store))
        with ThreadPoolExecutor(REPAIRS_AT_ONCE, thread_name_prefix="sweep") as repairs:
            for current in repairs.map(self._repair, self.jobs.pending_markers()):
                if current is None:
                    continue
                swept.pending += 1
                if state := current.record.input.state:
                    needs.note(keys.job_of(state.key))
                waited = self.jobs.now() - current.record.queued_at
                line.add(current.record, is_due=waited.total_seconds() >= self.requeue_after_s)
        self.jobs.slots.clear(line.slots, older_than_s=SLOT_S)
        for (lane, wave), ids in line.due().items():
            swept.enqueued += self._ring(ids, lane, wave)
        swept.purged = self.jobs.purge_expired(needs.is_referenced, grace_s=EXPIRY_GRACE_S)
        if wants_leftovers:
            swept.leftovers_deleted = self._delete_leftovers()
        log(
            "reconcile.done",
            open=swept.pending,
            enqueued=swept.enqueued,
            leftovers_deleted=swept.leftovers_deleted,
            erased=swept.purged,
        )
        return swept

    def _repair(self, marker: PendingMarker) -> Versioned[Job] | None:
        try:
            return self.jobs.repair(marker, queue_ttl_s=self.queue_ttl_s, orphan_s=self.orphan_s)
        except ValidationError:  # written by a newer version, perhaps: it must not keep the others from their repair
            log("reconcile.unreadable", level=logging.ERROR, job_id=marker.job_id)
            return None

    def _ring(self, ids: list[str], lane: Lane, wave: int) -> int:
        """Ring for the oldest, as many as a wave holds: what is left over is older by the next sweep."""
        ids = ids[:RINGS_AT_ONCE]
        try:
            self.queue.enqueue(ids, lane, tier=wave)
        except QueueUnavailable as error:
            log("reconcile.enqueue_failed", level=logging.WARNING, lane=lane, left=len(ids), reason=str(error))
            return 0
        return len(ids)

    def _delete_leftovers(self) -> int:
        deleted = self._delete_older(keys.UPLOADS, self.upload_s)
        deleted += self._delete_older(keys.IDEMPOTENCY, self.idempotency_s)
        deleted += self._delete_older(keys.BLOCKED, self.queue_ttl_s)
        if self.jobs.now().minute == TIDY_MINUTE:
            deleted += self._delete_older(keys.WEBHOOK_DELIVERIES, self.delivery_s)
        return deleted

    def _delete_older(self, prefix: str, age_s: float) -> int:
        now = self.jobs.now()
        old = [entry.key for entry in self.jobs.store.list(prefix) if (now - entry.modified_at).total_seconds() > age_s]
        for key in old:
            self.jobs.store.delete(key)
        return len(old)
