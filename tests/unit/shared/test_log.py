"""Everything that is logged about a job names it, so that one search shows what became of it."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from bench.support.memory_store import MemoryStore
from shared.domain.job import Job, Stage, Status
from shared.errors import StoreUnavailable
from shared.log import JsonLines, log, log_context
from shared.repositories.job_listeners import build_job_repository
from tests.support.fakes import ListQueue, ManualClock, no_pause, submitted
from worker.engine import Progress
from worker.maintenance.reconciler import Reconciler
from worker.runner.job_function import JobResult
from worker.runner.worker import Worker


class Lines(logging.Handler):
    """Keeps what is logged, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(json.loads(self.format(record)))

    def events(self) -> list[object]:
        """What happened, by its names."""
        return [line["event"] for line in self.lines]


@pytest.fixture
def heard() -> Iterator[Lines]:
    """All that is logged, by us and by libraries."""
    lines, root, ours = Lines(), logging.getLogger(), logging.getLogger("trellis2")
    level = ours.level
    root.addHandler(lines)
    ours.setLevel(logging.INFO)
    yield lines
    ours.setLevel(level)
    root.removeHandler(lines)


class House:
    """A ledger, a sweeper, and a worker whose work does what `act` does."""

    def __init__(self) -> None:
        self.clock, self.queue = ManualClock(), ListQueue()
        self.jobs = build_job_repository(MemoryStore(self.clock), pause=no_pause)
        self.sweeper = Reconciler(self.jobs, self.queue, collects_garbage=lambda: False)
        self.worker = Worker(jobs=self.jobs, queue=self.queue, work=self.work, name="worker")
        self.act = lambda: None

    def work(self, _: Job, progress: Progress) -> JobResult:
        """Act, somewhere in the middle."""
        progress(Stage.SHAPE, 0.5)
        self.act()
        return JobResult({}, {})

    def run(self) -> Job:
        """A job that a worker takes; as it is then."""
        job = submitted(self.jobs)
        self.queue.enqueue([job.id], job.lane)
        self.worker.run_once()
        return self.jobs.read(job.id).record


def warn() -> None:
    """What a library would say in the midst of a job."""
    logging.getLogger("library").warning("a picture's profile is odd")


def test_a_librarys_warning_names_the_job_that_it_was_about(heard: Lines) -> None:
    """Between the job's own events; after it, nothing does."""
    house = House()
    house.act = warn
    job = house.run()
    warn()
    odd = "a picture's profile is odd"
    assert [(line["event"], line.get("job_id")) for line in heard.lines] == [
        ("job.claimed", job.id),
        (odd, job.id),
        ("job.succeeded", job.id),
        (odd, None),
    ]


def test_a_crash_in_the_work_names_its_job(heard: Lines) -> None:
    """With the attempt and where it happened."""
    house = House()

    def break_down() -> None:
        raise ZeroDivisionError("a bug")

    house.act = break_down
    job = house.run()
    crashes = [line for line in heard.lines if line["event"] == "job.crashed"]
    assert {(line["job_id"], line["attempt"]) for line in crashes} == {(job.id, 1), (job.id, 2), (job.id, 3)}
    assert all("ZeroDivisionError: a bug" in str(line["trace"]) for line in crashes)


def test_a_silent_store_is_told_with_the_job_that_it_cost(heard: Lines) -> None:
    """It was given back, and which one that was can be read."""
    house = House()

    def go_silent() -> None:
        raise StoreUnavailable("no answer")

    house.act = go_silent
    with pytest.raises(StoreUnavailable):
        house.run()
    assert {"job.claimed", "job.released"} <= set(heard.events())
    assert all("job_id" in line for line in heard.lines)


def test_a_job_that_is_taken_from_a_dead_worker_is_told_of_once(heard: Lines) -> None:
    """By the sweeper that took it back; two crashes, then poison with its code."""
    house = House()
    job = submitted(house.jobs)
    for _ in range(3):
        house.jobs.claim(job.id, "doomed")
        house.clock.advance(31)
        house.sweeper.reconcile()
        house.sweeper.reconcile()
    told = [line for line in heard.lines if line["event"] in ("lease.expired", "job.failed")]
    assert [(line["event"], line["job_id"], line["crashes"]) for line in told[:3]] == [
        ("lease.expired", job.id, crashes) for crashes in (1, 2, 3)
    ]
    assert [(line["event"], line["code"], line["attempt"]) for line in told[3:]] == [("job.failed", "poison", 3)]


def test_a_job_that_is_taken_over_by_a_claim_is_told_of_too(heard: Lines) -> None:
    """No sweeper was needed."""
    house = House()
    job = submitted(house.jobs)
    house.jobs.claim(job.id, "doomed")
    house.clock.advance(31)
    assert house.jobs.claim(job.id, "heir")
    assert [line["job_id"] for line in heard.lines if line["event"] == "lease.expired"] == [job.id]


def test_a_cancel_and_an_expiry_are_told_of_once(heard: Lines) -> None:
    """A second cancel changes nothing."""
    house = House()
    canceled, expired = submitted(house.jobs), submitted(house.jobs)
    for _ in range(2):
        house.jobs.cancel(canceled.id)
    house.clock.advance(timedelta(days=1, seconds=1).total_seconds())
    for _ in range(2):
        house.sweeper.reconcile()
    told = [(line["event"], line["job_id"]) for line in heard.lines if "job_id" in line]
    assert told == [("job.canceled", canceled.id), ("job.expired", expired.id)]
    assert house.jobs.read(expired.id).record.status is Status.EXPIRED


def test_what_a_line_says_itself_counts_more_than_what_it_is_about(heard: Lines) -> None:
    """A job that is rung for at the end of another is not that other one."""
    with log_context(job_id="outer", attempt=1):
        log("job.slot_release_failed", job_id="inner")
    assert [(line["job_id"], line["attempt"]) for line in heard.lines] == [("inner", 1)]
