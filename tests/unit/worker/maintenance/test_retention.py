"""What a job holds is kept as long as its caller's limits say, and no longer; what is needed is never erased."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.support.memory_store import MemoryStore
from shared.domain.batch import cancel
from shared.domain.job import Artifact, Input, Job
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from tests.support.batch_harness import BatchHarness, images, table
from tests.support.fakes import ListQueue, ManualClock, keys_under, no_pause, submitted
from worker.maintenance.reconciler import DAY_S, DELIVERIES_MINUTE, EXPIRY_GRACE_S, Reconciler

KEEP_S = 3_600.0


@dataclass
class House:
    """A ledger with a sweeper."""

    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store, pause=no_pause)
        self.sweeper = Reconciler(self.jobs, ListQueue(), queue_ttl_s=1e9)

    def succeeded(self, **fields: Any) -> Job:
        """A job with a picture, a model and a state, all in the store."""
        job = submitted(self.jobs, **{"keep_s": KEEP_S, **fields})
        self.store.put(keys.job_input(job.id, "png"), b"png")
        held = self.jobs.claim(job.id, "worker")
        assert held
        made = {name: keys.artifact(job.id, 1, name) for name in ("model.glb", "state.safetensors")}
        for key in made.values():
            self.store.put(key, b"made")
        artifacts = {
            name: Artifact(key=key, bytes=4, sha256="-", content_type="application/octet-stream")
            for name, key in made.items()
        }
        return self.jobs.succeed(held, artifacts=artifacts, timings={}).record

    def files_of(self, job: Job) -> list[str]:
        return [key.rpartition("/")[2] for key in keys_under(self.store, keys.job_folder(job.id))]


ALL = ["model.glb", "state.safetensors", "input.png", "job.json"]


def test_job_is_erased_once_its_time_is_over_and_not_before() -> None:
    """Picture, state and model; what stays is a record that says that it was."""
    house = House()
    job = house.succeeded()
    house.clock.advance(KEEP_S + EXPIRY_GRACE_S - 1)
    assert (house.sweeper.reconcile().purged, house.files_of(job)) == (0, ALL)
    house.clock.advance(1)
    assert (house.sweeper.reconcile().purged, house.files_of(job)) == (1, ["job.json"])
    assert house.jobs.read(job.id).record.purged_at == house.clock()
    assert list(keys_under(house.store, keys.EXPIRING)) == []
    assert house.sweeper.reconcile().purged == 0


def test_job_of_a_caller_without_such_a_limit_is_kept() -> None:
    """And costs no marker."""
    house = House()
    job = house.succeeded(keep_s=None)
    assert list(keys_under(house.store, keys.EXPIRING)) == []
    house.clock.advance(1e9)
    house.sweeper.reconcile()
    assert house.files_of(job) == ALL


def test_state_that_an_unfinished_export_needs_stays_until_it_is_done() -> None:
    """An export of an export too: its state lies in the first job's folder."""
    house = House()
    job = house.succeeded()
    state = job.artifacts["state.safetensors"]
    export = submitted(house.jobs, input=Input(state=state, job_id="job_of_another_export"))
    house.clock.advance(KEEP_S + EXPIRY_GRACE_S)
    assert (house.sweeper.reconcile().purged, house.files_of(job)) == (0, ALL)
    house.jobs.cancel(export.id)
    assert house.sweeper.reconcile().purged == 1


def test_job_that_was_retried_is_kept_for_its_new_end() -> None:
    """The old end's time says nothing any more."""
    house = House()
    job = submitted(house.jobs, keep_s=KEEP_S)
    house.jobs.cancel(job.id)
    house.clock.advance(KEEP_S)
    house.jobs.retry(job.id)
    house.clock.advance(EXPIRY_GRACE_S)
    house.jobs.cancel(job.id)
    assert house.sweeper.reconcile().purged == 0
    house.clock.advance(KEEP_S + EXPIRY_GRACE_S)
    assert house.sweeper.reconcile().purged == 1


@pytest.mark.parametrize(("minute", "left"), [(DELIVERIES_MINUTE, 0), (DELIVERIES_MINUTE + 1, 1)])
def test_deliveries_are_forgotten_after_a_month_once_an_hour(minute: int, left: int) -> None:
    """They may be many: most sweeps do not look."""
    house = House()
    name = keys.delivery("alice", f"{keys.event_id(keys.new_id('job', house.clock()), 0)}-url_{'0' * 16}")
    house.store.put(name, b"{}")
    house.clock.advance(30 * DAY_S + 60 * minute)
    house.sweeper.reconcile()
    assert len(list(keys_under(house.store, keys.WEBHOOK_DELIVERIES))) == left


def test_results_of_an_unfinished_batch_stay_until_it_has_ended() -> None:
    """Its first rows may be over long before its last have begun."""
    clock = ManualClock()
    harness = BatchHarness(clock=clock, max_jobs=2)
    sweeper = Reconciler(harness.jobs, ListQueue(), queue_ttl_s=1e9)
    batch = harness.running(4, keep_s=KEEP_S)
    harness.dispatch(batch)
    harness.work()
    clock.advance(KEEP_S + EXPIRY_GRACE_S)
    assert (sweeper.reconcile().purged, harness.counts(batch).succeeded) == (0, 2)
    ended = harness.run(batch)
    harness.batches.announce(ended)
    assert sweeper.reconcile().purged == 2


def test_results_that_an_unfinished_batch_has_from_an_earlier_one_stay_until_it_has_ended() -> None:
    """Rows that were made before are not made again: their job must be there."""
    clock = ManualClock()
    harness = BatchHarness(clock=clock)
    sweeper = Reconciler(harness.jobs, ListQueue(), queue_ttl_s=1e9)
    first = harness.run(harness.running(2, keep_s=KEEP_S))
    harness.batches.announce(first)
    second = harness.planned(table(3), images(3))
    assert second.reused == 2
    clock.advance(KEEP_S + EXPIRY_GRACE_S)
    assert sweeper.reconcile().purged == 0
    harness.batches.change(second.id, lambda now: cancel(now, clock()))
    harness.batches.announce(harness.read(second))
    assert sweeper.reconcile().purged == 2
