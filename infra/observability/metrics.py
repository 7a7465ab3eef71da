"""Prometheus metrics of this process, counted from its log events and store requests, and the route `/metrics`."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, BinaryIO, TypeVar

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from api.context.authentication import authenticate
from api.context.services import Services
from api.limits.api_keys import Scope
from shared.errors import ServiceError
from shared.storage.ports import Entry, Fetched, ObjectStore, SignedPost

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 900, 3_600)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

Keys = Mapping[str, Any]
T = TypeVar("T")
# (operation, outcome, seconds); outcome is `ok`, an error's code, or `crashed`.
OnRequest = Callable[[str, str, float], None]


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
        self._attempts = Counter("trellis2_attempts", "Attempts started.", registry=registry)
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
        self._lost = Counter("trellis2_leases_lost", "Jobs whose worker's lease expired.", registry=registry)
        self._unfit = Counter("trellis2_workers_unfit", "Worker processes that had to be replaced.", registry=registry)
        self._enqueue_failures = Counter(
            "trellis2_enqueue_failures", "Enqueues that did not reach the queue.", registry=registry
        )
        self._webhooks = Counter(
            "trellis2_webhook_tries", "Webhooks by the class of the response.", ["answer"], registry=registry
        )
        self._disabled = Counter(
            "trellis2_webhooks_disabled", "Endpoints disabled after failed deliveries.", registry=registry
        )
        self._open = Gauge("trellis2_open_jobs", "Unfinished jobs at the last reconciliation.", registry=registry)
        self._requests = Counter(
            "trellis2_store_requests", "Requests to the object store.", ["operation", "outcome"], registry=registry
        )
        self._request_s = Histogram(
            "trellis2_store_request_seconds",
            "Duration of requests to the object store.",
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
        """Count an event that has a metric."""
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
    """Count this process's log events from now on. A second call does nothing."""
    logger = logging.getLogger("trellis2")
    if METRICS not in logger.handlers:
        logger.addHandler(METRICS)


class MeteredStore:
    """Wraps a store and reports its requests. Signing is no request."""

    def __init__(
        self, store: ObjectStore, on_request: OnRequest, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.inner = store
        self._on_request = on_request
        self._monotonic = monotonic

    def now(self) -> datetime:
        """The store's clock."""
        return self.inner.now()

    def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
        """Read."""
        return self._measured("get", lambda: self.inner.get(key, first_byte=first_byte, length=length))

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        content_type: str = "application/octet-stream",
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Write."""
        return self._measured(
            "put",
            lambda: self.inner.put(key, body, content_type=content_type, if_absent=if_absent, if_match=if_match),
        )

    def group_commit(self) -> AbstractContextManager[None]:
        """Durable together."""
        return self.inner.group_commit()

    def copy(self, source: str, target: str, *, if_match: str) -> str:
        """Copy."""
        return self._measured("copy", lambda: self.inner.copy(source, target, if_match=if_match))

    def delete(self, key: str) -> None:
        """Delete."""
        self._measured("delete", lambda: self.inner.delete(key))

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

    def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
        """A URL."""
        return self.inner.sign_get(key, expires_s=expires_s, filename=filename)

    def sign_post(self, key: str, *, max_bytes: int, expires_s: int) -> SignedPost:
        """A form."""
        return self.inner.sign_post(key, max_bytes=max_bytes, expires_s=expires_s)

    def _measured(self, operation: str, call: Callable[[], T]) -> T:
        began, outcome = self._monotonic(), "crashed"
        try:
            result = call()
        except ServiceError as error:
            outcome = error.code
            raise
        else:
            outcome = "ok"
            return result
        finally:
            self._on_request(operation, outcome, self._monotonic() - began)


def metrics_router(services: Services) -> APIRouter:
    """Build the route. Without any API key it is open to this machine alone, as every route is."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def read_metrics(request: Request) -> Response:
        """Read this process's metrics in Prometheus's text format."""
        await authenticate(request, services, Scope.READ)
        return Response(generate_latest(METRICS.registry), media_type=CONTENT_TYPE_LATEST)

    return router
