"""Every log line about a job carries its id, so that one search shows the job's whole history."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from shared.domain.job import Status
from shared.errors import StoreUnavailable
from shared.log import JsonLines, log, log_context
from tests.support.fakes import submitted
from tests.support.worker_harness import WorkerHarness, failing


class LogLines(logging.Handler):
    """Keeps the lines as they would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(json.loads(self.format(record)))

    def events(self) -> list[object]:
        """List the events' names."""
        return [line["event"] for line in self.lines]


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """Collect the lines of this service and of libraries."""
    lines, root, ours = LogLines(), logging.getLogger(), logging.getLogger("trellis2")
    level = ours.level
    root.addHandler(lines)
    ours.setLevel(logging.INFO)
    yield lines
    ours.setLevel(level)
    root.removeHandler(lines)


def warn(*_: object) -> None:
    """Log as a library does in the middle of a job."""
    logging.getLogger("library").warning("an image's profile is odd")


def test_librarys_warning_during_a_job_names_the_job(log_lines: LogLines) -> None:
    """A warning after the job names none."""
    harness = WorkerHarness()
    job = harness.run(warn)
    warn()
    odd = "an image's profile is odd"
    assert [(line["event"], line.get("job_id")) for line in log_lines.lines] == [
        ("job.claimed", job.id),
        (odd, job.id),
        ("job.succeeded", job.id),
        (odd, None),
    ]


def test_crash_in_the_job_function_names_the_job(log_lines: LogLines) -> None:
    """With the attempt and the traceback."""
    harness = WorkerHarness()
    job = harness.run(*[failing(ZeroDivisionError("a bug"))] * 3)
    crashes = [line for line in log_lines.lines if line["event"] == "job.crashed"]
    assert {(line["job_id"], line["attempt"]) for line in crashes} == {(job.id, 1), (job.id, 2), (job.id, 3)}
    assert all("ZeroDivisionError: a bug" in str(line["trace"]) for line in crashes)


def test_release_after_a_silent_store_names_the_job(log_lines: LogLines) -> None:
    """Every line of the claim and the release does."""
    harness = WorkerHarness()
    with pytest.raises(StoreUnavailable):
        harness.run(failing(StoreUnavailable("no answer")))
    assert {"job.claimed", "job.released"} <= set(log_lines.events())
    assert all("job_id" in line for line in log_lines.lines)


def test_expired_lease_is_logged_once_by_the_reconciler(log_lines: LogLines) -> None:
    """Each of three crashes, then the failure with its code."""
    harness = WorkerHarness()
    job = submitted(harness.jobs)
    for _ in range(3):
        harness.jobs.claim(job.id, "doomed")
        harness.clock.advance(31)
        harness.reconciler.reconcile()
        harness.reconciler.reconcile()
    logged = [line for line in log_lines.lines if line["event"] in ("lease.expired", "job.failed")]
    assert [(line["event"], line["job_id"], line["crashes"]) for line in logged[:3]] == [
        ("lease.expired", job.id, crashes) for crashes in (1, 2, 3)
    ]
    assert [(line["event"], line["code"], line["attempt"]) for line in logged[3:]] == [("job.failed", "poison", 3)]


def test_expired_lease_is_logged_by_the_claim_that_takes_over(log_lines: LogLines) -> None:
    """Without a reconciler."""
    harness = WorkerHarness()
    job = submitted(harness.jobs)
    harness.jobs.claim(job.id, "doomed")
    harness.clock.advance(31)
    assert harness.jobs.claim(job.id, "heir")
    assert [line["job_id"] for line in log_lines.lines if line["event"] == "lease.expired"] == [job.id]


def test_cancel_and_expiry_are_logged_once(log_lines: LogLines) -> None:
    """A second cancel changes nothing."""
    harness = WorkerHarness()
    canceled, expired = submitted(harness.jobs), submitted(harness.jobs)
    for _ in range(2):
        harness.jobs.cancel(canceled.id)
    harness.clock.advance(timedelta(days=1, seconds=1).total_seconds())
    for _ in range(2):
        harness.reconciler.reconcile()
    logged = [(line["event"], line["job_id"]) for line in log_lines.lines if "job_id" in line]
    assert logged == [("job.canceled", canceled.id), ("job.expired", expired.id)]
    assert harness.jobs.read(expired.id).record.status is Status.EXPIRED


def test_a_lines_own_fields_override_the_context(log_lines: LogLines) -> None:
    """A line about another job names that one."""
    with log_context(job_id="outer", attempt=1):
        log("job.slot_release_failed", job_id="inner")
    assert [(line["job_id"], line["attempt"]) for line in log_lines.lines] == [("inner", 1)]
