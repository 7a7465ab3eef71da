"""OpenTelemetry traces of jobs, where a setting asks for them: a span for each attempt, one below it for each stage."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AnyValue

from infra.settings.service import Settings
from shared.domain.job import Job, Stage
from worker.engine import ProgressListener
from worker.runner.job_function import OpenListener


def open_tracer(settings: Settings) -> Tracer | None:
    """Create a tracer that sends to the endpoint of the settings; None without an endpoint."""
    if settings.otlp_endpoint is None:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "trellis2"}))
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer("trellis2")


@dataclass
class _StageSpans(ProgressListener):
    """Keeps one span open: that of the present stage."""

    tracer: Tracer
    spans: ExitStack
    stage: Stage | None = None

    def on_stage(self, stage: Stage, fraction: float) -> None:  # noqa: ARG002 - part of the interface
        """Start a span if the stage is a new one."""
        if stage is not self.stage:
            self.stage = stage
            self.spans.close()
            self.spans.enter_context(self.tracer.start_as_current_span(stage))


def attempt_tracers(tracer: Tracer | None) -> list[OpenListener]:
    """Return the listeners that trace an attempt: one with a tracer, none without.

    It opens a span for the attempt, in the trace that the submit named, and below it a span for each stage.
    """
    if tracer is None:
        return []

    @contextmanager
    def trace_attempt(job: Job) -> Iterator[ProgressListener]:
        parent = TraceContextTextMapPropagator().extract({"traceparent": job.traceparent or ""})
        attributes: dict[str, AnyValue] = {"job.id": job.id, "job.attempt": job.attempt, "job.engine": job.engine}
        with (
            tracer.start_as_current_span("attempt", parent, SpanKind.CONSUMER, attributes=attributes),
            ExitStack() as spans,
        ):
            yield _StageSpans(tracer, spans)

    return [trace_attempt]
