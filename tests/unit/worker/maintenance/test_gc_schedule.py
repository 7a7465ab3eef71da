"""Leftovers are looked for twice an hour, not with every sweep."""

from bench.support.memory_store import MemoryStore
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from tests.support.fakes import ListQueue, ManualClock, Seconds, keys_under
from worker.maintenance.reconciler import DAY_S, GC_INTERVAL_S, Reconciler, at_gc_minutes, half_hourly

MINUTE_S = 60


def test_sweep_that_remembers_nothing_looks_twice_an_hour() -> None:
    """By the store's clock."""
    clock = ManualClock()
    looks = []
    for _ in range(60):
        looks.append(at_gc_minutes(clock)())
        clock.advance(MINUTE_S)
    assert sum(looks) == 2


def test_long_lived_sweeper_looks_at_once_and_then_each_half_hour() -> None:
    """A service that runs for minutes at a time tidies up, too."""
    seconds = Seconds()
    is_due = half_hourly(seconds)
    looks = []
    for seconds.now in (0.0, 5.0, GC_INTERVAL_S - 1, GC_INTERVAL_S, GC_INTERVAL_S + 5):
        looks.append(is_due())
    assert looks == [True, False, False, True, False]


def test_upload_outlives_its_day_by_an_hour_at_most() -> None:
    """Whatever minute it came in, with one list in thirty sweeps."""
    for minute in range(0, 60, 10):
        clock = ManualClock()
        store = MemoryStore(clock)
        jobs = build_job_repository(store)
        clock.advance(minute * MINUTE_S)
        store.put(keys.upload("alice", "up_1"), b"picture")
        clock.advance(DAY_S)
        sweeper = Reconciler(jobs, ListQueue(), collects_garbage=at_gc_minutes(clock))
        for _ in range(61):
            sweeper.reconcile()
            clock.advance(MINUTE_S)
        assert list(keys_under(store, keys.UPLOADS)) == []
