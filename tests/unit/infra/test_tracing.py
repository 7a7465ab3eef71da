"""A job's attempt shows in its caller's trace."""

from contextlib import suppress
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from infra.parts import Work
from infra.settings import Settings
from infra.tracing import open_tracer, traced
from shared.errors import EngineFailed
from shared.job import Job, Stage
from tests.fakes import HandClock, a_job
from worker.engine import Progress
from worker.made import Made

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def work(_: Job, progress: Progress) -> Made:
    """Two stages."""
    for stage in (Stage.SHAPE, Stage.SHAPE, Stage.EXTRACT):
        progress(stage, 0.5)
    return Made({}, {})


def failing(_: Job, progress: Progress) -> Made:
    """One stage, and no end."""
    progress(Stage.SHAPE, 0.5)
    raise EngineFailed("cold")


def no_progress(stage: Stage, fraction: float) -> None:
    """Goes nowhere."""


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where spans go."""
    return InMemorySpanExporter()


@pytest.fixture
def job() -> Job:
    """A job whose submit was part of a trace."""
    return a_job(HandClock()(), traceparent=f"00-{TRACE}-{PARENT}-01")


def run(exporter: InMemorySpanExporter, job: Job, act: Work = work) -> dict[str, Any]:
    """Run traced work; its spans by name."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with suppress(EngineFailed):
        traced(act, provider.get_tracer("test"))(job, no_progress)
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
    """The very same work."""
    assert traced(work, open_tracer(Settings())) is work
