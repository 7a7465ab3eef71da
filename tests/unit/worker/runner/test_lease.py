"""A lease is renewed while its worker lives, tells progress, and knows when it is lost."""

import pytest

from infra.queues.memory import MemoryStore
from shared.domain.job import Stage, Status
from shared.errors import JobStopped, StoreUnavailable
from shared.repositories.jobs import JobRepository
from tests.support.fakes import HandClock, LossyStore, Seconds, no_pause, submitted
from worker.runner.lease import RENEW_S, Lease


def a_lease(store: MemoryStore, seconds: Seconds) -> tuple[JobRepository, Lease]:
    """A claimed job's lease whose own thread never beats: the test does."""
    jobs = JobRepository(store, pause=no_pause)
    held = jobs.claim(submitted(jobs).id, "worker")
    assert held is not None
    return jobs, Lease(jobs, held, deadline_s=900, beat_s=3_600, clock=seconds)


def test_a_new_stage_is_written_at_the_next_beat() -> None:
    """So that a caller sees it within seconds."""
    jobs, lease = a_lease(MemoryStore(HandClock()), Seconds())
    lease(Stage.SHAPE, 0.5)
    lease.heartbeat()
    job = jobs.read(lease.job.id).record
    assert (job.stage, job.progress, job.version) == (Stage.SHAPE, pytest.approx(0.225), 3)


def test_a_tenth_of_the_job_is_news_and_less_is_not() -> None:
    """A long stage moves its progress bar, at the price of few writes."""
    jobs, lease = a_lease(MemoryStore(HandClock()), Seconds())
    seen = []
    for fraction in (0.0, 0.2, 0.3, 0.5, 0.6):
        lease(Stage.EXTRACT, fraction)
        lease.heartbeat()
        seen.append(jobs.read(lease.job.id).record.progress)
    assert seen == pytest.approx([0.55, 0.55, 0.67, 0.67, 0.79])


def test_within_a_stage_the_record_is_written_every_ten_seconds_only() -> None:
    """Between renewals a beat only reads: writes are what stores charge and throttle."""
    seconds = Seconds()
    jobs, lease = a_lease(MemoryStore(HandClock()), seconds)
    lease(Stage.SHAPE, 0.1)
    versions = []
    for now in (0.0, 5.0, RENEW_S - 0.1, RENEW_S, RENEW_S + 5):
        seconds.now = now
        lease.heartbeat()
        versions.append(jobs.read(lease.job.id).record.version)
    assert versions == [3, 3, 3, 4, 4]


def test_a_renewal_keeps_others_from_taking_the_job() -> None:
    """The lease's age counts from its last write."""
    clock, seconds = HandClock(), Seconds()
    jobs, lease = a_lease(MemoryStore(clock), seconds)
    for now in (25.0, 50.0):
        clock.advance(25)
        seconds.now = now
        lease.heartbeat()
    assert jobs.claim(lease.job.id, "thief") is None
    clock.advance(31)
    taken = jobs.claim(lease.job.id, "heir")
    assert taken is not None
    assert taken.record.attempt == 2


def test_a_lease_that_the_store_will_not_renew_counts_as_lost_before_it_ends() -> None:
    """A worker that cannot write must stop before another may begin."""
    seconds = Seconds()
    store = LossyStore()
    _, lease = a_lease(store, seconds)

    def refuse(_: str) -> None:
        raise StoreUnavailable("down")

    store.before_put = refuse
    seconds.now = 20.0
    lease.heartbeat()
    assert not lease.is_lost
    seconds.now = 26.0
    lease.heartbeat()
    assert lease.is_lost
    with pytest.raises(JobStopped):
        lease(Stage.SHAPE, 0.2)


def test_the_thread_of_a_lease_beats_by_itself() -> None:
    """Entered as a context it needs nobody to call `beat`."""
    jobs = JobRepository(MemoryStore())
    held = jobs.claim(submitted(jobs).id, "worker")
    assert held is not None
    with Lease(jobs, held, deadline_s=900, beat_s=0.001) as lease:
        jobs.cancel(held.record.id)
        assert lease.wait_until_lost(timeout_s=10)
    assert jobs.read(held.record.id).record.status is Status.CANCELED
