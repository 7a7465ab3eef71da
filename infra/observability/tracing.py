"""OpenTelemetry traces of jobs, where a setting asks for them: a span for each attempt, one below it for each stage."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AnyValue

from infra.settings.service import Settings
from shared.domain.job import Job, Stage
from worker.engine import Progress, show_preview
from worker.runner.result import JobFunction, JobResult


def open_tracer(settings: Settings) -> Tracer | None:
    """A tracer that sends to the endpoint of the settings; None where there is none."""
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


class _Stages:
    """A Progress that passes on what it hears and keeps a span open for the stage it heard of last."""

    def __init__(self, progress: Progress, start: Callable[[str], AbstractContextManager[object]], spans: ExitStack):
        self._progress = progress
        self._start = start
        self._spans = spans
        self._stage: Stage | None = None

    def __call__(self, stage: Stage, fraction: float) -> None:
        """Begin a span where the stage is new, then pass on."""
        if stage is not self._stage:
            self._stage = stage
            self._spans.close()
            self._spans.enter_context(self._start(stage))
        self._progress(stage, fraction)

    def show_preview(self, image: NDArray[np.uint8]) -> None:
        """Pass on a preview."""
        show_preview(self._progress, image)


def traced(work: JobFunction, tracer: Tracer | None) -> JobFunction:
    """The same work under a span that belongs to the trace of whoever submitted the job."""
    if tracer is None:
        return work

    def run(job: Job, progress: Progress) -> JobResult:
        parent = TraceContextTextMapPropagator().extract({"traceparent": job.traceparent or ""})
        about: dict[str, AnyValue] = {"job.id": job.id, "job.attempt": job.attempt, "job.engine": job.engine}
        with (
            tracer.start_as_current_span("attempt", parent, SpanKind.CONSUMER, attributes=about),
            ExitStack() as spans,
        ):
            return work(job, _Stages(progress, tracer.start_as_current_span, spans))

    return run
