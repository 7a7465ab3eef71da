"""The metrics of a process, counted from its log events."""

import logging
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from prometheus_client import generate_latest

from bench.support.memory_store import MemoryStore
from infra.observability.metrics import METRICS, MeteredStore, Metrics
from infra.queues.local import MemoryQueue
from infra.runtime.wiring import build_gateway_app
from infra.settings.service import Settings
from shared.errors import ObjectNotFound, PreconditionFailed
from shared.log import log
from shared.repositories.job_listeners import build_job_repository
from tests.support.fakes import ListQueue, LossyStore, ManualClock, losing, submitted
from worker.maintenance.reconciler import Reconciler
from worker.runner.job_function import JobResult
from worker.runner.worker import Worker


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """Fresh metrics that hear this test's events."""
    metrics, logger = Metrics(), logging.getLogger("trellis2")
    level = logger.level
    logger.addHandler(metrics)
    logger.setLevel(logging.INFO)
    yield metrics
    logger.removeHandler(metrics)
    logger.setLevel(level)


def shown(metrics: Metrics) -> set[str]:
    """The samples, without the process's own."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {line for line in lines if line.startswith("trellis2_") and "_created" not in line}


def test_a_job_leaves_its_wait_its_stages_and_its_gpu_seconds(metrics: Metrics) -> None:
    """Counted from its log events alone."""
    clock, queue = ManualClock(), ListQueue()
    jobs = build_job_repository(MemoryStore(clock))
    result = JobResult({}, {"prepare": 9.0, "shape": 2.0, "texture": 1.5, "extract": 4.0})
    worker = Worker(jobs=jobs, queue=queue, work=lambda *_: result, name="worker", usd_per_s=2.0, has_gpu=True)
    job = submitted(jobs)
    queue.enqueue([job.id], job.lane)
    clock.advance(7)
    worker.run_once()
    assert {
        'trellis2_queue_wait_seconds_sum{lane="standard"} 7.0',
        "trellis2_attempts_total 1.0",
        'trellis2_attempts_ended_total{code="",outcome="succeeded"} 1.0',
        'trellis2_stage_duration_seconds_sum{stage="extract"} 4.0',
        "trellis2_gpu_seconds_total 3.5",
    } <= shown(metrics)
    finished = jobs.read(job.id).record
    assert (finished.gpu_seconds, finished.cost_usd) == (3.5, 7.0)


def test_reconciler_reports_the_number_of_open_jobs(metrics: Metrics) -> None:
    """An alarm on a growing backlog uses it."""
    jobs = build_job_repository(MemoryStore(ManualClock()))
    for _ in range(3):
        submitted(jobs)
    Reconciler(jobs, ListQueue()).reconcile()
    assert "trellis2_open_jobs 3.0" in shown(metrics)


def test_expired_leases_are_counted(metrics: Metrics) -> None:
    """The reconciler or the next claim counts them; a canceled job has no lease to lose."""
    clock = ManualClock()
    jobs = build_job_repository(MemoryStore(clock))
    doomed, canceled = submitted(jobs), submitted(jobs)
    for job in (doomed, canceled):
        jobs.claim(job.id, "worker")
    jobs.cancel(canceled.id)
    for _ in range(3):
        clock.advance(31)
        Reconciler(jobs, ListQueue()).reconcile()
        jobs.claim(doomed.id, "another")
    assert {
        "trellis2_leases_lost_total 3.0",
        'trellis2_attempts_ended_total{code="poison",outcome="failed"} 1.0',
    } <= shown(metrics)


def test_store_requests_are_counted_by_operation_and_outcome(metrics: Metrics) -> None:
    """With their seconds."""
    metrics.store_request("put", "precondition_failed", 0.02)
    assert {
        'trellis2_store_requests_total{operation="put",outcome="precondition_failed"} 1.0',
        'trellis2_store_request_seconds_sum{operation="put"} 0.02',
    } <= shown(metrics)


def test_webhooks_are_counted_by_their_answer(metrics: Metrics) -> None:
    """Also tries without an answer."""
    for status in (200, 204, 503, None):
        log("webhook.tried", event_id="evt", target="x", tries=1, status=status)
    assert {
        'trellis2_webhook_tries_total{answer="2xx"} 2.0',
        'trellis2_webhook_tries_total{answer="5xx"} 1.0',
        'trellis2_webhook_tries_total{answer="none"} 1.0',
    } <= shown(metrics)


def test_events_that_count_for_nothing_are_passed_over(metrics: Metrics) -> None:
    """Whatever a library logs."""
    before = shown(metrics)
    log("weights.fetched", repo="x")
    assert shown(metrics) == before


def test_metrics_are_open_to_this_machine_alone() -> None:
    """As everything is while there is no key."""
    store = MemoryStore()
    app = build_gateway_app(Settings(store="s3"), store, build_job_repository(store), MemoryQueue(), engines=["relief"])
    here = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 5))
    away = TestClient(app, base_url="http://127.0.0.1", client=("192.0.2.1", 5))
    assert (here.get("/metrics").status_code, away.get("/metrics").status_code) == (200, 401)
    assert "trellis2_attempts_total" in here.get("/metrics").text
    logging.getLogger("trellis2").removeHandler(METRICS)


# --- a store's requests


Requests = list[tuple[str, str]]


def metered(inner: MemoryStore) -> tuple[MeteredStore, Requests]:
    """Wrap a store; return it with the list of its requests, without their seconds."""
    requests: Requests = []
    return MeteredStore(inner, lambda operation, outcome, _: requests.append((operation, outcome))), requests


def test_each_request_is_reported_with_its_outcome() -> None:
    """A refusal by its code; signing is no request."""
    store, requests = metered(MemoryStore())
    etag = store.put("a", b"1", if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put("a", b"2", if_absent=True)
    with pytest.raises(ObjectNotFound):
        store.get("b")
    store.copy("a", "c", if_match=etag)
    store.delete("a")
    store.sign_get("c", expires_s=60)
    assert store.get("c").body == b"1"
    assert requests == [
        ("put", "ok"),
        ("put", "precondition_failed"),
        ("get", "object_not_found"),
        ("copy", "ok"),
        ("delete", "ok"),
        ("get", "ok"),
    ]


def test_lost_answer_is_reported_as_unavailable() -> None:
    """Whether or not the write was done."""
    store, requests = metered(LossyStore(after_put=losing(1)))
    with pytest.raises(Exception, match="lost"):
        store.put("jobs/x/job.json", b"{}")
    assert requests == [("put", "store_unavailable")]


def test_a_list_is_a_request_for_every_thousand() -> None:
    """And one where there is nothing."""
    store, requests = metered(MemoryStore())
    assert list(store.list("none/")) == []
    for number in range(1_001):
        store.inner.put(f"some/{number:04d}", b"")
    assert len(list(store.list("some/"))) == 1_001
    assert requests == [("list", "ok")] * 3
