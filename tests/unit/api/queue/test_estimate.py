"""How long a job will take, guessed at hardly any cost."""

from datetime import timedelta

from api.queue.estimate import FIRST_GUESS_S, MAX_LISTED_JOBS, Estimate, Estimates
from bench.support.memory_store import MemoryStore
from shared.domain.job import Job, Lane, Status
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import JobRepository
from tests.support.fakes import ManualClock, new_job, submitted
from tests.support.gateway_harness import ManualTime


class CountingStore(MemoryStore):
    """Counts its listings."""

    listings = 0

    def list(self, prefix: str, *, after: str = ""):  # type: ignore[no-untyped-def]  # as in the port
        """List, and count."""
        self.listings += 1
        return super().list(prefix, after=after)


def parts(parallel_jobs: int = 1) -> tuple[Estimates, JobRepository, ManualTime, ManualClock, CountingStore]:
    """Estimates over an empty job repository."""
    clock, time = ManualClock(), ManualTime()
    store = CountingStore(clock)
    jobs = build_job_repository(store)
    return Estimates(jobs, parallel_jobs=parallel_jobs, monotonic=time.monotonic), jobs, time, clock, store


def queued(jobs: JobRepository, clock: ManualClock, count: int, lane: Lane = Lane.STANDARD) -> list[Job]:
    """So many jobs, a second apart."""
    job_list = []
    for _ in range(count):
        clock.advance(1)
        job_list.append(submitted(jobs, lane=lane))
    return job_list


def test_places_count_from_nought_in_each_lane() -> None:
    """Another lane's jobs do not count."""
    estimates, jobs, _, clock, _ = parts()
    queued(jobs, clock, 2, Lane.BATCH)
    job_list = queued(jobs, clock, 3)
    assert [estimates.estimate(job).queue_position for job in job_list] == [0, 1, 2]


def test_jobs_run_in_waves_as_wide_as_there_are_workers() -> None:
    """With two at once, the third waits for one to end."""
    estimates, jobs, _, clock, _ = parts(parallel_jobs=2)
    job_list = queued(jobs, clock, 3)
    assert [estimates.estimate(job).eta_seconds for job in job_list] == [30, 30, 60]


def test_a_lane_is_listed_once_in_two_seconds_however_often_it_is_asked_about() -> None:
    """A hundred questions, one listing; the next after two seconds."""
    estimates, jobs, time, clock, store = parts()
    (job,) = queued(jobs, clock, 1)
    for _ in range(100):
        estimates.estimate(job)
    assert store.listings == 1
    time.now_s += 2
    estimates.estimate(job)
    assert store.listings == 2


def test_a_job_newer_than_the_listing_stands_at_its_end() -> None:
    """No listing for its sake."""
    estimates, jobs, _, clock, store = parts()
    first, second = queued(jobs, clock, 2)
    estimates.estimate(first)
    (third,) = queued(jobs, clock, 1)
    assert (estimates.estimate(third).queue_position, store.listings) == (2, 1)
    assert estimates.estimate(second).queue_position == 1


def test_jobs_past_a_thousand_are_not_counted() -> None:
    """No place and no guess there."""
    estimates, jobs, _, clock, _ = parts()
    job_list = queued(jobs, clock, MAX_LISTED_JOBS + 1)
    assert estimates.estimate(job_list[MAX_LISTED_JOBS - 1]).queue_position == MAX_LISTED_JOBS - 1
    assert estimates.estimate(job_list[MAX_LISTED_JOBS]) == Estimate()


def test_the_mean_leans_to_the_newest_duration() -> None:
    """10 s, then 20 s: 12 s; the same job is learned from once."""
    estimates, _, _, clock, _ = parts()
    job_list = [succeeded(clock, 10), succeeded(clock, 20)]
    for job in (*job_list, job_list[1]):
        assert estimates.estimate(job) == Estimate()
    assert estimates.estimate(running(clock)).eta_seconds == 12


def test_kinds_of_jobs_are_learned_apart() -> None:
    """What one engine takes says nothing about another."""
    estimates, _, _, clock, _ = parts()
    estimates.estimate(succeeded(clock, 10))
    assert estimates.estimate(running(clock, engine="trellis")).eta_seconds == FIRST_GUESS_S


def succeeded(clock: ManualClock, took_s: float) -> Job:
    """A job that took so long."""
    return new_job(
        clock(), status=Status.SUCCEEDED, started_at=clock(), finished_at=clock() + timedelta(seconds=took_s)
    )


def running(clock: ManualClock, engine: str = "relief") -> Job:
    """A job that has just started."""
    return new_job(clock(), status=Status.RUNNING, started_at=clock(), engine=engine)
