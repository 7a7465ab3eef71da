"""Prometheus metrics of this process, counted from its log events and store requests, and the route `/metrics`."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ParamSpec, TypeVar

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from api.context.authentication import authenticate
from api.context.services import Services
from api.limits.api_keys import Scope
from shared.errors import ServiceError
from shared.storage.ports import Entry, ObjectStore

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 900, 3_600)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

Keys = Mapping[str, Any]
P = ParamSpec("P")
T = TypeVar("T")
# (operation, outcome, seconds); outcome is `ok`, an error's code, or `crashed`.
OnRequest = Callable[[str, str, float], None]


class Metrics(logging.Handler):
    """A log handler that counts. `registry` is what `/metrics` shows."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        accepted = counter("trellis2_jobs_accepted", "Jobs answered with 202.", ["lane", "engine"])
        wait = histogram("trellis2_queue_wait_seconds", "From queued to claimed.", ["lane"], buckets=SECONDS)
        attempts = counter("trellis2_attempts", "Attempts started.")
        ended = counter("trellis2_attempts_ended", "Attempts by how they ended.", ["outcome", "code"])
        stages = histogram(
            "trellis2_stage_duration_seconds", "Stages of jobs that succeeded.", ["stage"], buckets=SECONDS
        )
        gpu = counter("trellis2_gpu_seconds", "GPU seconds of jobs that succeeded.")
        lost = counter("trellis2_leases_lost", "Jobs whose worker's lease expired.")
        unfit = counter("trellis2_workers_unfit", "Worker processes that had to be replaced.")
        enqueue_failures = counter("trellis2_enqueue_failures", "Enqueues that did not reach the queue.")
        webhooks = counter("trellis2_webhook_tries", "Webhooks by the class of the response.", ["answer"])
        disabled = counter("trellis2_webhooks_disabled", "Endpoints disabled after failed deliveries.")
        pending = Gauge("trellis2_open_jobs", "Unfinished jobs at the last reconciliation.", registry=registry)
        self._requests = counter("trellis2_store_requests", "Requests to the object store.", ["operation", "outcome"])
        self._request_s = histogram(
            "trellis2_store_request_seconds",
            "Duration of requests to the object store.",
            ["operation"],
            buckets=REQUEST_SECONDS,
        )
        self._counted: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

        def count_claim(keys: Keys) -> None:
            attempts.inc()
            wait.labels(keys["lane"]).observe(keys["waited_s"])

        def count_success(keys: Keys) -> None:
            ended.labels("succeeded", "").inc()
            gpu.inc(keys["gpu_seconds"])
            for stage, seconds in keys["timings"].items():
                stages.labels(stage).observe(seconds)

        self._events: dict[str, Callable[[Keys], None]] = {
            "job.accepted": lambda keys: accepted.labels(keys["lane"], keys["engine"]).inc(),
            "job.claimed": count_claim,
            "attempt.started": lambda _: attempts.inc(),
            "job.succeeded": count_success,
            "job.failed": lambda keys: ended.labels("failed", keys["code"]).inc(),
            "job.stopped": lambda _: ended.labels("stopped", "").inc(),
            "job.released": lambda keys: ended.labels("released", keys["code"]).inc(),
            "lease.expired": lambda _: lost.inc(),
            "worker.unfit": lambda _: unfit.inc(),
            "worker.out_of_memory": lambda _: unfit.inc(),
            "job.enqueue_failed": lambda _: enqueue_failures.inc(),
            "reconcile.enqueue_failed": lambda _: enqueue_failures.inc(),
            "webhook.tried": lambda keys: webhooks.labels(_class_of(keys["status"])).inc(),
            "webhook.disabled": lambda _: disabled.inc(),
            "reconcile.done": lambda keys: pending.set(keys["pending"]),
        }

    def emit(self, record: logging.LogRecord) -> None:
        if count := self._events.get(record.msg):
            count(getattr(record, "keys", {}))

    def store_request(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a request to the store (an `OnRequest`)."""
        counted = self._counted.get((operation, outcome))
        if counted is None:  # looking a label up takes the library longer than counting
            counted = self._requests.labels(operation, outcome), self._request_s.labels(operation)
            self._counted[operation, outcome] = counted
        requests, request_s = counted
        requests.inc()
        request_s.observe(seconds)


def _class_of(status: int | None) -> str:
    return f"{status // 100}xx" if status else "none"


METRICS = Metrics()


def watch() -> None:
    """Count this process's log events from now on. A second call does nothing."""
    logger = logging.getLogger("trellis2")
    if METRICS not in logger.handlers:
        logger.addHandler(METRICS)


class MeteredStore:
    """Wraps a store and reports its requests (see `shared.storage.ports.ObjectStore`). Signing is no request."""

    def __init__(
        self, store: ObjectStore, on_request: OnRequest, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.inner = store
        self._on_request = on_request
        self._monotonic = monotonic
        self.now, self.group_commit = store.now, store.group_commit
        self.sign_get, self.sign_post = store.sign_get, store.sign_post
        self.get, self.put = self._measured("get", store.get), self._measured("put", store.put)
        self.copy, self.delete = self._measured("copy", store.copy), self._measured("delete", store.delete)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """List; a request returns a thousand entries, so each thousand is reported as one."""
        began, number = self._monotonic(), 0
        for number, entry in enumerate(self.inner.list(prefix, after=after), start=1):
            if number % 1_000 == 0:
                self._on_request("list", "ok", self._monotonic() - began)
                began = self._monotonic()
            yield entry
        if number == 0 or number % 1_000:
            self._on_request("list", "ok", self._monotonic() - began)

    def _measured(self, operation: str, call: Callable[P, T]) -> Callable[P, T]:
        on_request, monotonic = self._on_request, self._monotonic  # not `self`: nothing may keep a closed store alive

        def measure(*args: P.args, **kwargs: P.kwargs) -> T:
            began, outcome = monotonic(), "crashed"
            try:
                result = call(*args, **kwargs)
            except ServiceError as error:
                outcome = error.code
                raise
            else:
                outcome = "ok"
                return result
            finally:
                on_request(operation, outcome, monotonic() - began)

        return measure


def metrics_router(services: Services) -> APIRouter:
    """Build the route. Without any API key it is open to this machine alone, as every route is."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def read_metrics(request: Request) -> Response:
        await authenticate(request, services, Scope.READ)
        return Response(generate_latest(METRICS.registry), media_type=CONTENT_TYPE_LATEST)

    return router
