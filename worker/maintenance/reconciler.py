"""Restore every job to what its record says, once a minute and from the records alone. Idempotent."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import ValidationError

from shared.domain.job import Job, Lane, Status, tier_of
from shared.errors import QueueUnavailable
from shared.log import log
from shared.repositories.batch_rows import read_rows
from shared.repositories.batches import BatchRepository
from shared.repositories.job_reader import PendingMarker
from shared.repositories.jobs import JobRepository
from shared.storage import keys
from shared.storage.ports import JobQueue
from shared.storage.versioned_records import Versioned

DAY_S = 86_400.0
MAX_ENQUEUED = 5_000  # jobs of one priority tier in one pass
EXPIRY_GRACE_S = 600.0  # exports of an expired source are refused; one accepted before has its marker by then
DELIVERIES_MINUTE = 7  # of every hour: when the deliveries, perhaps a long list, are collected
SLOT_S = 60.0  # a younger concurrency slot may belong to a claim that is not written yet
PARALLEL_REPAIRS = 8  # one after the other, a few thousand pending jobs would take longer than a minute
GC_MINUTES = (7, 37)  # of every hour
GC_INTERVAL_S = 1_800.0


@dataclass(slots=True)
class ReconcileReport:
    """What one pass saw and did."""

    enqueued: int = 0
    pending: int = 0
    leftovers_deleted: int = 0
    purged: int = 0


@dataclass(slots=True)
class Backlog:
    """Pending jobs of one pass, added lane by lane, the oldest first.

    slots: job id -> concurrency slot of each running job; None where it has none.
    """

    slots: dict[str, str | None] = field(default_factory=dict)
    _ahead: Counter[tuple[str, Lane]] = field(default_factory=Counter)
    _running: Counter[str] = field(default_factory=Counter)
    _due: list[tuple[Job, int]] = field(default_factory=list)

    def add(self, job: Job, *, is_due: bool) -> None:
        """Add a job; `is_due` where it is to be enqueued if it is queued."""
        position = self._ahead[job.caller, job.lane]
        self._ahead[job.caller, job.lane] += 1
        if job.status is Status.RUNNING:
            self.slots[job.id] = job.slot
            self._running[job.caller] += 1
        elif is_due:
            self._due.append((job, position))

    def due(self) -> dict[tuple[Lane, int], list[str]]:
        """Return the ids to enqueue by lane and priority tier: of a caller with a running limit, as many as may run."""
        ids: dict[tuple[Lane, int], list[str]] = defaultdict(list)
        started = Counter(self._running)
        for job, position in sorted(self._due, key=lambda entry: list(Lane).index(entry[0].lane)):
            if job.running_limit is None or started[job.caller] < job.running_limit:
                started[job.caller] += 1
                ids[job.lane, tier_of(position)].append(job.id)
        return ids


class Retention:
    """Which expired jobs one pass must keep, since exports or batches still use them.

    Batches are read only once there is a job to purge.
    """

    def __init__(self, batches: BatchRepository) -> None:
        self._batches = batches
        self._sources: set[str] = set()
        self._live: set[str] | None = None
        self._reused: dict[str, set[str]] = {}

    def add_source(self, job_id: str) -> None:
        """Add a job whose state an unfinished export reads."""
        self._sources.add(job_id)

    def is_referenced(self, job: Job) -> bool:
        """Return whether a job's results are needed: by an export, its batch, or a batch that reuses them."""
        if job.id in self._sources:
            return True
        if self._live is None:
            self._live = self._read_batches()
        return job.batch_id in self._live or job.id in self._reused.get(job.caller, ())

    def _read_batches(self) -> set[str]:
        live: set[str] = set()
        for batch in self._batches.unfinished():
            live.add(batch.id)
            if batch.reused:
                rows = read_rows(self._batches.store, batch, 0, batch.planned)
                self._reused.setdefault(batch.caller, set()).update(row.reused for row in rows if row.reused)
        return live


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Repairs pending jobs and deletes old leftovers.

    requeue_after_s: how long a job may wait before it is enqueued again. queue_ttl_s: how long before it expires.
    orphan_s: how long a marker may wait for its record. upload_s, idempotency_s, delivery_s: how long those are kept.
    collects_garbage: whether this pass deletes leftovers, see `at_gc_minutes` and `half_hourly`.
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
        """Repair every pending job, enqueue those that wait, delete what is too old.

        Raises:
            StoreError: the store does not answer; the next pass continues.
        """
        report, backlog = ReconcileReport(), Backlog()
        collects_garbage = self.collects_garbage()  # at the start: a pass may take longer than a minute
        retention = Retention(BatchRepository(self.jobs.store))
        with ThreadPoolExecutor(PARALLEL_REPAIRS, thread_name_prefix="reconciler") as repairs:
            for current in repairs.map(self._repair, self.jobs.pending_markers()):
                if current is None:
                    continue
                report.pending += 1
                if state := current.record.input.state:
                    retention.add_source(keys.job_of(state.key))
                waited = self.jobs.now() - current.record.queued_at
                backlog.add(current.record, is_due=waited.total_seconds() >= self.requeue_after_s)
        self.jobs.slots.clear(backlog.slots, older_than_s=SLOT_S)
        for (lane, tier), ids in backlog.due().items():
            report.enqueued += self._enqueue(ids, lane, tier)
        report.purged = self.jobs.purge_expired(retention.is_referenced, grace_s=EXPIRY_GRACE_S)
        if collects_garbage:
            report.leftovers_deleted = self._delete_leftovers()
        log(
            "reconcile.done",
            pending=report.pending,
            enqueued=report.enqueued,
            leftovers_deleted=report.leftovers_deleted,
            purged=report.purged,
        )
        return report

    def _repair(self, marker: PendingMarker) -> Versioned[Job] | None:
        try:
            return self.jobs.repair(marker, queue_ttl_s=self.queue_ttl_s, orphan_s=self.orphan_s)
        except ValidationError:  # perhaps of a newer version: it must not keep other jobs from their repair
            log("reconcile.unreadable", level=logging.ERROR, job_id=marker.job_id)
            return None

    def _enqueue(self, ids: list[str], lane: Lane, tier: int) -> int:
        """Enqueue the oldest jobs, as many as a tier holds: the others are older at the next pass."""
        ids = ids[:MAX_ENQUEUED]
        try:
            self.queue.enqueue(ids, lane, tier=tier)
        except QueueUnavailable as error:
            log("reconcile.enqueue_failed", level=logging.WARNING, lane=lane, left=len(ids), reason=str(error))
            return 0
        return len(ids)

    def _delete_leftovers(self) -> int:
        deleted = self._delete_older(keys.UPLOADS, self.upload_s)
        deleted += self._delete_older(keys.IDEMPOTENCY, self.idempotency_s)
        deleted += self._delete_older(keys.BLOCKED, self.queue_ttl_s)
        if self.jobs.now().minute == DELIVERIES_MINUTE:
            deleted += self._delete_older(keys.WEBHOOK_DELIVERIES, self.delivery_s)
        return deleted

    def _delete_older(self, prefix: str, age_s: float) -> int:
        now = self.jobs.now()
        old = [entry.key for entry in self.jobs.store.list(prefix) if (now - entry.modified_at).total_seconds() > age_s]
        for key in old:
            self.jobs.store.delete(key)
        return len(old)


# Garbage collection lists what grows with all traffic, and so does not run every minute. What is kept for a day is
# deleted within half an hour after it, or an hour where a pass fails.


def at_gc_minutes(now: Callable[[], datetime]) -> Callable[[], bool]:
    """Return the schedule for passes without common memory, started once a minute; `now` is the store's clock."""
    return lambda: now().minute in GC_MINUTES


def half_hourly(seconds: Callable[[], float]) -> Callable[[], bool]:
    """Return the schedule for passes of one long-lived process, the first included; `seconds` is a monotonic clock."""
    next_at = float("-inf")

    def is_due() -> bool:
        nonlocal next_at
        if seconds() < next_at:
            return False
        next_at = seconds() + GC_INTERVAL_S
        return True

    return is_due
