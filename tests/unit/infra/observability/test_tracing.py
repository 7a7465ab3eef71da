"""A job's attempt shows in its caller's trace."""

import threading
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from infra.observability.tracing import attempt_tracers, open_tracer
from infra.settings.service import Settings
from shared.domain.job import Job, Stage
from shared.errors import EngineFailed
from tests.support.fakes import ManualClock, new_job
from worker.engine import Progress
from worker.runner.job_function import JobFunction, JobResult

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def work(_: Job, progress: Progress) -> JobResult:
    """Two stages."""
    for stage in (Stage.SHAPE, Stage.SHAPE, Stage.EXTRACT):
        progress(stage, 0.5)
    return JobResult({}, {})


def failing(_: Job, progress: Progress) -> JobResult:
    """One stage, and no end."""
    progress(Stage.SHAPE, 0.5)
    raise EngineFailed("cold")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where spans go."""
    return InMemorySpanExporter()


@pytest.fixture
def job() -> Job:
    """A job whose submit was part of a trace."""
    return new_job(ManualClock()(), traceparent=f"00-{TRACE}-{PARENT}-01")


def run_traced(tracer: Tracer | None, job: Job, act: JobFunction = work) -> None:
    """Run one attempt of a job with the listeners that trace it."""
    with ExitStack() as attempt:
        act(job, Progress(*[attempt.enter_context(listen(job)) for listen in attempt_tracers(tracer)]))


def run(exporter: InMemorySpanExporter, job: Job, act: JobFunction = work) -> dict[str, Any]:
    """Run traced work; its spans by name."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with suppress(EngineFailed):
        run_traced(provider.get_tracer("test"), job, act)
    return {span.name: span for span in exporter.get_finished_spans()}


def test_an_attempt_is_a_span_of_its_callers_trace(exporter: InMemorySpanExporter, job: Job) -> None:
    """Below the span that the caller named in `traceparent`."""
    attempt = run(exporter, job)["attempt"]
    assert (f"{attempt.context.trace_id:032x}", f"{attempt.parent.span_id:016x}") == (TRACE, PARENT)
    assert (attempt.attributes["job.id"], attempt.attributes["job.attempt"]) == (job.id, 0)


def test_each_stage_is_a_span_below_the_attempt(exporter: InMemorySpanExporter, job: Job) -> None:
    """Once, however often it reports."""
    spans = run(exporter, job)
    assert sorted(spans) == ["attempt", "extract", "shape"]
    assert spans["shape"].parent.span_id == spans["attempt"].context.span_id
    assert spans["shape"].end_time <= spans["extract"].start_time


def test_an_attempt_that_fails_says_so_in_its_span(exporter: InMemorySpanExporter, job: Job) -> None:
    """And no span stays open."""
    spans = run(exporter, job, failing)
    assert sorted(spans) == ["attempt", "shape"]
    assert not spans["attempt"].status.is_ok


def test_without_the_setting_nothing_is_traced() -> None:
    """An attempt gets no listener for it."""
    assert attempt_tracers(open_tracer(Settings())) == []


class Collector(BaseHTTPRequestHandler):
    """Takes spans by OTLP over HTTP."""

    taken: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        """Keep what was sent, and where to."""
        self.taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_spans_arrive_where_the_setting_says(job: Job) -> None:
    """As OTLP over HTTP, under the service's name, with the caller's trace."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        tracer = open_tracer(Settings(otlp_endpoint=f"http://127.0.0.1:{server.server_port}/"))
        run_traced(tracer, job)
        assert isinstance(tracer, SdkTracer)
        tracer.span_processor.shutdown()
        server.shutdown()
    ((path, body),) = Collector.taken
    sent = ExportTraceServiceRequest.FromString(body)
    ((scope,),) = (resource.scope_spans for resource in sent.resource_spans)
    named = {one.key: one.value.string_value for one in sent.resource_spans[0].resource.attributes}
    assert (path, named["service.name"]) == ("/v1/traces", "trellis2")
    assert {span.trace_id.hex() for span in scope.spans} == {TRACE}
    assert sorted(span.name for span in scope.spans) == ["attempt", "extract", "shape"]
