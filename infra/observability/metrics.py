"""Prometheus metrics of this process, told from its log events and its store requests: no other code knows of them."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 900, 3_600)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

Keys = Mapping[str, Any]


class Metrics(logging.Handler):
    """A log handler that counts. `registry` is what `/metrics` shows."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._accepted = Counter(
            "trellis2_jobs_accepted", "Jobs answered with 202.", ["lane", "engine"], registry=registry
        )
        self._wait = Histogram(
            "trellis2_queue_wait_seconds", "From queued to claimed.", ["lane"], buckets=SECONDS, registry=registry
        )
        self._attempts = Counter("trellis2_attempts", "Attempts begun.", registry=registry)
        self._ended = Counter(
            "trellis2_attempts_ended", "Attempts by how they ended.", ["outcome", "code"], registry=registry
        )
        self._stages = Histogram(
            "trellis2_stage_duration_seconds",
            "Stages of jobs that succeeded.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._gpu = Counter("trellis2_gpu_seconds", "GPU seconds of jobs that succeeded.", registry=registry)
        self._lost = Counter("trellis2_leases_lost", "Jobs taken from a worker that fell silent.", registry=registry)
        self._unfit = Counter("trellis2_workers_unfit", "Worker processes that had to be replaced.", registry=registry)
        self._enqueue_failures = Counter(
            "trellis2_enqueue_failures", "Enqueues that did not reach the queue.", registry=registry
        )
        self._webhooks = Counter("trellis2_webhook_tries", "Webhooks by the answer.", ["answer"], registry=registry)
        self._disabled = Counter("trellis2_webhooks_disabled", "Endpoints given up.", registry=registry)
        self._open = Gauge("trellis2_open_jobs", "Unfinished jobs at the last reconciliation.", registry=registry)
        self._requests = Counter(
            "trellis2_store_requests", "Requests to the object store.", ["operation", "outcome"], registry=registry
        )
        self._request_s = Histogram(
            "trellis2_store_request_seconds",
            "What they took.",
            ["operation"],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self._counted: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._events: dict[str, Callable[[Keys], None]] = {
            "job.accepted": lambda keys: self._accepted.labels(keys["lane"], keys["engine"]).inc(),
            "job.claimed": self._claimed,
            "attempt.started": lambda _: self._attempts.inc(),
            "job.succeeded": self._succeeded,
            "job.failed": lambda keys: self._ended.labels("failed", keys["code"]).inc(),
            "job.stopped": lambda _: self._ended.labels("stopped", "").inc(),
            "job.released": lambda keys: self._ended.labels("released", keys["code"]).inc(),
            "lease.expired": lambda _: self._lost.inc(),
            "worker.unfit": lambda _: self._unfit.inc(),
            "worker.out_of_memory": lambda _: self._unfit.inc(),
            "job.enqueue_failed": lambda _: self._enqueue_failures.inc(),
            "reconcile.enqueue_failed": lambda _: self._enqueue_failures.inc(),
            "webhook.tried": lambda keys: self._webhooks.labels(_class_of(keys["status"])).inc(),
            "webhook.disabled": lambda _: self._disabled.inc(),
            "reconcile.done": lambda keys: self._open.set(keys["pending"]),
        }

    def emit(self, record: logging.LogRecord) -> None:
        """Count an event, if it is one that counts."""
        if count := self._events.get(record.msg):
            count(getattr(record, "keys", {}))

    def store_request(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a request to the store (`infra.observability.metered_store.Tell`)."""
        counted = self._counted.get((operation, outcome))
        if counted is None:  # looking a label up takes the library longer than counting
            counted = self._requests.labels(operation, outcome), self._request_s.labels(operation)
            self._counted[operation, outcome] = counted
        requests, request_s = counted
        requests.inc()
        request_s.observe(seconds)

    def _claimed(self, keys: Keys) -> None:
        self._attempts.inc()
        self._wait.labels(keys["lane"]).observe(keys["waited_s"])

    def _succeeded(self, keys: Keys) -> None:
        self._ended.labels("succeeded", "").inc()
        self._gpu.inc(keys["gpu_seconds"])
        for stage, seconds in keys["timings"].items():
            self._stages.labels(stage).observe(seconds)


def _class_of(status: int | None) -> str:
    return f"{status // 100}xx" if status else "none"


METRICS = Metrics()


def watch() -> None:
    """Count what this process logs from now on; once is enough."""
    logger = logging.getLogger("trellis2")
    if METRICS not in logger.handlers:
        logger.addHandler(METRICS)
