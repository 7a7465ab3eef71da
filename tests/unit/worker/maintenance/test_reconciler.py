"""The reconciler repairs jobs from their records, purges expired ones, and deletes leftovers."""

import threading
from typing import Any

import pytest

from bench.support.memory_store import MemoryStore
from shared.domain.batch import cancel
from shared.domain.job import Artifact, Input, Job, Status
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from shared.storage.ports import Fetched
from tests.support.batch_harness import BatchHarness, images, table
from tests.support.fakes import ListQueue, ManualClock, Seconds, keys_under, new_job, submitted
from tests.support.waiting import HANG_S
from tests.support.worker_harness import WorkerHarness
from worker.maintenance.reconciler import (
    DAY_S,
    DELIVERIES_MINUTE,
    EXPIRY_GRACE_S,
    GC_INTERVAL_S,
    Reconciler,
    at_gc_minutes,
    half_hourly,
)


def test_fault_3_lost_queue_item_is_enqueued_again_after_a_minute() -> None:
    """Not before: a worker may still dequeue the first one."""
    harness = WorkerHarness()
    job = submitted(harness.jobs)
    harness.clock.advance(59)
    assert harness.reconciler.reconcile().enqueued == 0
    harness.clock.advance(2)
    assert harness.reconciler.reconcile().enqueued == 1
    assert harness.queue.enqueued == [job.id]


def test_fault_3_pass_continues_while_the_queue_is_down() -> None:
    """The next pass enqueues what this one could not."""
    harness = WorkerHarness()
    submitted(harness.jobs)
    harness.clock.advance(61)
    harness.queue.is_down = True
    assert harness.reconciler.reconcile().enqueued == 0
    harness.queue.is_down = False
    assert harness.reconciler.reconcile().enqueued == 1


def test_fault_4_job_with_an_expired_lease_is_queued_again() -> None:
    """Its worker has died; the crash is counted."""
    harness = WorkerHarness()
    job = submitted(harness.jobs)
    harness.jobs.claim(job.id, "doomed")
    harness.clock.advance(31)
    harness.reconciler.reconcile()
    expired = harness.jobs.read(job.id).record
    assert (expired.status, expired.crashes) == (Status.QUEUED, 1)


def test_fault_2_input_without_a_record_is_deleted_within_a_day() -> None:
    """The gateway died between storing the image and writing the record."""
    harness = WorkerHarness()
    job = new_job(harness.clock())
    harness.jobs.reserve(job)
    harness.store.put(keys.job_input(job.id, "png"), b"image")
    harness.clock.advance(60)
    harness.reconciler.reconcile()
    assert list(keys_under(harness.store, "jobs/")) == [keys.job_input(job.id, "png")]
    harness.clock.advance(DAY_S - 60)
    harness.reconciler.reconcile()
    assert list(keys_under(harness.store, "")) == []


def test_job_that_waited_a_day_expires() -> None:
    """Every accepted job reaches a terminal status, even without any worker."""
    harness = WorkerHarness()
    job = submitted(harness.jobs)
    harness.clock.advance(DAY_S + 1)
    harness.reconciler.reconcile()
    assert harness.jobs.read(job.id).record.status is Status.EXPIRED


def test_old_uploads_and_idempotency_records_are_deleted() -> None:
    """Uploads after a day, records of an Idempotency-Key after two."""
    harness = WorkerHarness()
    harness.store.put(keys.upload("alice", "up_1"), b"image")
    harness.store.put(keys.idempotency("alice", "abc"), b"{}")
    harness.clock.advance(DAY_S + 1)
    assert harness.reconciler.reconcile().leftovers_deleted == 1
    assert list(keys_under(harness.store, "")) == [keys.idempotency("alice", "abc")]
    harness.clock.advance(DAY_S)
    assert harness.reconciler.reconcile().leftovers_deleted == 1


def test_pass_continues_after_an_unreadable_record() -> None:
    """After a rollback a newer release's record may be one: it stays unchanged, and the other jobs are repaired."""
    harness = WorkerHarness()
    unreadable, job = submitted(harness.jobs), submitted(harness.jobs)
    body = harness.store.get(keys.job_record(unreadable.id)).body.replace(b"{", b'{"written_by": "tomorrow",', 1)
    harness.store.put(keys.job_record(unreadable.id), body)
    harness.clock.advance(61)
    assert harness.reconciler.reconcile().enqueued == 1
    assert harness.queue.enqueued == [job.id]
    assert harness.store.get(keys.job_record(unreadable.id)).body == body


def test_pending_jobs_are_read_eight_at_a_time() -> None:
    """Otherwise a backlog of a few thousand would take longer than a minute."""

    class BarrierStore(MemoryStore):
        """A store whose reads of records wait for each other, eight at a time."""

        barrier = threading.Barrier(8)

        def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
            self.barrier.wait(timeout=HANG_S)
            return super().get(key, first_byte=first_byte, length=length)

    store = BarrierStore(ManualClock())
    jobs = build_job_repository(store)
    for _ in range(8):
        submitted(jobs)
    assert Reconciler(jobs, ListQueue(), collects_garbage=lambda: False).reconcile().pending == 8


def test_jobs_are_enqueued_in_their_callers_priority_tiers() -> None:
    """Running jobs count: a caller has a job in tier 0 only while none of its jobs runs."""
    harness = WorkerHarness()
    enqueued: list[tuple[str, int]] = []
    harness.queue.enqueue = lambda ids, _lane, *, tier=0: enqueued.extend((job_id, tier) for job_id in ids)  # type: ignore[method-assign]
    job_list = []
    for _ in range(3):
        job_list.append(submitted(harness.jobs).id)
        harness.clock.advance(1)
    foreign = submitted(harness.jobs, caller="bob").id
    harness.clock.advance(61)
    harness.jobs.claim(job_list[0], "worker")
    harness.reconciler.reconcile()
    assert sorted(enqueued) == sorted([(job_list[1], 1), (job_list[2], 1), (foreign, 0)])


# --- retention


KEEP_S = 3_600.0
ALL = ["model.glb", "state.safetensors", "input.png", "job.json"]


def retaining() -> WorkerHarness:
    """Create a harness whose queued jobs do not expire."""
    return WorkerHarness(queue_ttl_s=1e9)


def succeeded(harness: WorkerHarness, **fields: Any) -> Job:
    """Run a job with an input image, a model and a state in the store."""
    job = submitted(harness.jobs, **{"keep_s": KEEP_S, **fields})
    harness.store.put(keys.job_input(job.id, "png"), b"png")
    held = harness.jobs.claim(job.id, "worker")
    assert held
    files = {name: keys.artifact(job.id, 1, name) for name in ("model.glb", "state.safetensors")}
    for key in files.values():
        harness.store.put(key, b"file")
    artifacts = {
        name: Artifact(key=key, bytes=4, sha256="-", content_type="application/octet-stream")
        for name, key in files.items()
    }
    return harness.jobs.succeed(held, artifacts=artifacts, timings={}).record


def files_of(harness: WorkerHarness, job: Job) -> list[str]:
    """List the names of a job's files."""
    return [key.rpartition("/")[2] for key in keys_under(harness.store, keys.job_folder(job.id))]


def test_job_is_purged_when_its_retention_ends_and_not_before() -> None:
    """Image, state and model go; the record stays and says when it was purged."""
    harness = retaining()
    job = succeeded(harness)
    harness.clock.advance(KEEP_S + EXPIRY_GRACE_S - 1)
    assert (harness.reconciler.reconcile().purged, files_of(harness, job)) == (0, ALL)
    harness.clock.advance(1)
    assert (harness.reconciler.reconcile().purged, files_of(harness, job)) == (1, ["job.json"])
    assert harness.jobs.read(job.id).record.purged_at == harness.clock()
    assert list(keys_under(harness.store, keys.EXPIRING)) == []
    assert harness.reconciler.reconcile().purged == 0


def test_job_of_a_caller_without_a_retention_limit_is_kept() -> None:
    """It needs no marker."""
    harness = retaining()
    job = succeeded(harness, keep_s=None)
    assert list(keys_under(harness.store, keys.EXPIRING)) == []
    harness.clock.advance(1e9)
    harness.reconciler.reconcile()
    assert files_of(harness, job) == ALL


def test_state_is_kept_until_the_export_that_needs_it_has_ended() -> None:
    """Also for an export of an export, whose state is in the first job's folder."""
    harness = retaining()
    job = succeeded(harness)
    state = job.artifacts["state.safetensors"]
    export = submitted(harness.jobs, input=Input(state=state, job_id="job_of_another_export"))
    harness.clock.advance(KEEP_S + EXPIRY_GRACE_S)
    assert (harness.reconciler.reconcile().purged, files_of(harness, job)) == (0, ALL)
    harness.jobs.cancel(export.id)
    assert harness.reconciler.reconcile().purged == 1


def test_retention_of_a_retried_job_starts_at_its_new_end() -> None:
    """The time of the old end no longer counts."""
    harness = retaining()
    job = submitted(harness.jobs, keep_s=KEEP_S)
    harness.jobs.cancel(job.id)
    harness.clock.advance(KEEP_S)
    harness.jobs.retry(job.id)
    harness.clock.advance(EXPIRY_GRACE_S)
    harness.jobs.cancel(job.id)
    assert harness.reconciler.reconcile().purged == 0
    harness.clock.advance(KEEP_S + EXPIRY_GRACE_S)
    assert harness.reconciler.reconcile().purged == 1


@pytest.mark.parametrize(("minute", "left"), [(DELIVERIES_MINUTE, 0), (DELIVERIES_MINUTE + 1, 1)])
def test_deliveries_are_deleted_after_a_month_once_an_hour(minute: int, left: int) -> None:
    """The list may be long, so most passes skip it."""
    harness = retaining()
    name = keys.delivery("alice", f"{keys.event_id(keys.new_id('job', harness.clock()), 0)}-url_{'0' * 16}")
    harness.store.put(name, b"{}")
    harness.clock.advance(30 * DAY_S + 60 * minute)
    harness.reconciler.reconcile()
    assert len(list(keys_under(harness.store, keys.WEBHOOK_DELIVERIES))) == left


def test_results_of_a_batch_are_kept_until_it_has_ended() -> None:
    """Its first rows may end long before its last ones start."""
    clock = ManualClock()
    harness = BatchHarness(clock=clock, max_jobs=2)
    reconciler = Reconciler(harness.jobs, ListQueue(), queue_ttl_s=1e9)
    batch = harness.running(4, keep_s=KEEP_S)
    harness.dispatch(batch)
    harness.work()
    clock.advance(KEEP_S + EXPIRY_GRACE_S)
    assert (reconciler.reconcile().purged, harness.counts(batch).succeeded) == (0, 2)
    ended = harness.run(batch)
    harness.batches.announce(ended)
    assert reconciler.reconcile().purged == 2


def test_results_that_a_batch_reuses_are_kept_until_it_has_ended() -> None:
    """Its rows point at the earlier batch's jobs."""
    clock = ManualClock()
    harness = BatchHarness(clock=clock)
    reconciler = Reconciler(harness.jobs, ListQueue(), queue_ttl_s=1e9)
    first = harness.run(harness.running(2, keep_s=KEEP_S))
    harness.batches.announce(first)
    second = harness.planned(table(3), images(3))
    assert second.reused == 2
    clock.advance(KEEP_S + EXPIRY_GRACE_S)
    assert reconciler.reconcile().purged == 0
    harness.batches.change(second.id, lambda now: cancel(now, clock()))
    harness.batches.announce(harness.read(second))
    assert reconciler.reconcile().purged == 2


# --- schedule of the garbage collection


MINUTE_S = 60


def test_garbage_is_collected_twice_an_hour_by_the_stores_clock() -> None:
    """Also where each pass is a new process."""
    clock = ManualClock()
    collects = []
    for _ in range(60):
        collects.append(at_gc_minutes(clock)())
        clock.advance(MINUTE_S)
    assert sum(collects) == 2


def test_long_lived_reconciler_collects_at_once_and_then_every_half_hour() -> None:
    """A service that runs only for minutes collects garbage, too."""
    seconds = Seconds()
    is_due = half_hourly(seconds)
    collects = []
    for seconds.now in (0.0, 5.0, GC_INTERVAL_S - 1, GC_INTERVAL_S, GC_INTERVAL_S + 5):
        collects.append(is_due())
    assert collects == [True, False, False, True, False]


def test_upload_is_deleted_within_a_day_and_an_hour() -> None:
    """In whatever minute it was stored, though one pass in thirty lists the uploads."""
    for minute in range(0, 60, 10):
        clock = ManualClock()
        store = MemoryStore(clock)
        jobs = build_job_repository(store)
        clock.advance(minute * MINUTE_S)
        store.put(keys.upload("alice", "up_1"), b"image")
        clock.advance(DAY_S)
        reconciler = Reconciler(jobs, ListQueue(), collects_garbage=at_gc_minutes(clock))
        for _ in range(61):
            reconciler.reconcile()
            clock.advance(MINUTE_S)
        assert list(keys_under(store, keys.UPLOADS)) == []
