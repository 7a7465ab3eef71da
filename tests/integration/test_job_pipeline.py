"""The steps of a job: too little GPU memory, formats that this worker cannot write, listeners of its progress."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.support.memory_store import MemoryStore
from bench.support.processes import draw_test_image
from shared.domain.job import Input, Job, SamplingResult, Stage, Status
from shared.domain.parameters import Parameters, resolve
from shared.errors import FormatUnavailable, GpuOutOfMemory
from shared.net.egress import Egress
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from tests.support.fakes import ListQueue, ManualClock, new_job
from tests.support.gateway_harness import public_egress
from tests.support.stub_engine import Block
from worker.engine import InputImage, Progress, ProgressListener, State, Surface
from worker.engines.relief import Relief
from worker.runner.job_function import JobResult, StageTimer
from worker.runner.pipeline import JobPipeline
from worker.runner.worker import Worker


@dataclass
class LimitedEngine(Block):
    """An engine with enough memory for some pipeline types: to sample them, or to decode them."""

    samples: set[str] = field(default_factory=set)
    decodes: set[str] = field(default_factory=set)
    requested: list[str] = field(default_factory=list)

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """Make a block's state, with the notes of a sampler."""
        self.requested.append(parameters.pipeline_type)
        if parameters.pipeline_type not in self.samples:
            raise GpuOutOfMemory("too large")
        state = super().sample(image, parameters, seed, progress)
        notes = {"seed": "9", "resolution": "1024", "pipeline_type": parameters.pipeline_type}
        return replace(state, notes={**state.notes, **notes})

    def decode(self, state: State, progress: Progress) -> Surface:
        """Make the block, if the memory is large enough."""
        if state.notes["pipeline_type"] not in self.decodes:
            raise GpuOutOfMemory("too large")
        return super().decode(state, progress)


@dataclass
class PipelineHarness:
    """A store with one job in it, and a worker."""

    engine: LimitedEngine

    def __post_init__(self) -> None:
        self.store = MemoryStore(ManualClock())
        self.jobs = build_job_repository(self.store)
        self.out_of_memory: list[bool] = []

    def run(self, **parameters: Any) -> Job:
        """Submit a job, run the worker once, and read the job."""
        body, queue = draw_test_image(64), ListQueue()
        job = new_job(self.jobs.now(), parameters=resolve({"seed": 7, **parameters}, "low_poly"))
        key = keys.job_input(job.id, "png")
        job = job.model_copy(update={"input": Input(key=key, bytes=len(body))})
        self.store.put(key, body)
        self.jobs.reserve(job)
        self.jobs.create(job)
        queue.enqueue([job.id], job.lane)
        pipeline = JobPipeline(self.store, Egress(), {"relief": self.engine})

        def work(job: Job, progress: Progress) -> JobResult:
            result = pipeline.run(job, progress)
            self.out_of_memory.append(result.out_of_memory)
            return result

        Worker(jobs=self.jobs, queue=queue, work=work, name="worker").run_once()
        return self.jobs.read(job.id).record


def test_fault_9_without_allow_degrade_the_job_fails_with_its_code() -> None:
    """At once: the GPU is no larger in the next attempt."""
    harness = PipelineHarness(LimitedEngine())
    job = harness.run(pipeline_type="1024_cascade")
    assert job.error is not None
    assert (job.status, job.attempt, job.error.code) == (Status.FAILED, 1, "gpu_out_of_memory")
    assert harness.engine.requested == ["1024_cascade"]


@pytest.mark.parametrize("too_small_for", ["sampling", "decoding"])
def test_fault_9_with_allow_degrade_the_job_runs_with_the_next_lower_pipeline_type(too_small_for: str) -> None:
    """Whichever step lacked memory; the record names the type that was sampled, and the result says why."""
    every = {"1536_cascade", "1024_cascade"}
    fits = {"1024_cascade"}
    harness = PipelineHarness(LimitedEngine(samples=fits if too_small_for == "sampling" else every, decodes=fits))
    job = harness.run(pipeline_type="1536_cascade", allow_degrade=True)
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 1)
    assert job.sampled == SamplingResult(seed=9, pipeline_type="1024_cascade", resolution=1024)
    assert job.parameters.pipeline_type == "1536_cascade"
    assert harness.out_of_memory == [True]


def test_fault_9_a_job_is_degraded_once() -> None:
    """And then it fails."""
    harness = PipelineHarness(LimitedEngine(samples={"512"}, decodes={"512"}))
    job = harness.run(pipeline_type="1536_cascade", allow_degrade=True)
    assert job.error is not None
    assert job.error.code == "gpu_out_of_memory"
    assert harness.engine.requested == ["1536_cascade", "1024_cascade"]


def test_job_with_enough_memory_runs_with_its_own_parameters() -> None:
    """Whether it may be degraded or not."""
    harness = PipelineHarness(LimitedEngine(samples={"1024_cascade"}, decodes={"1024_cascade"}))
    job = harness.run(pipeline_type="1024_cascade", allow_degrade=True)
    assert job.sampled is not None
    assert job.sampled.pipeline_type == "1024_cascade"
    assert harness.out_of_memory == [False]


class UnusedEngine:
    """An engine that must not be called."""

    name = "relief"

    def sample(self, *_: Any) -> Any:
        """Fail."""
        raise AssertionError("sampled")

    decode = sample


@pytest.mark.parametrize("missing_format", ["usdz", "meshopt"])
def test_missing_format_writer_ends_the_job_before_its_image_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing_format: str
) -> None:
    """Without another attempt: each would end alike."""
    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    clock = ManualClock()
    steps: list[str] = []
    pipeline = JobPipeline(MemoryStore(clock), public_egress(), {"relief": UnusedEngine()}, at=steps.append)
    job = new_job(clock(), parameters=resolve({"seed": 1, "formats": [missing_format]}, "game"))
    with pytest.raises(FormatUnavailable, match=missing_format):
        pipeline.run(job, Progress())
    assert (steps, FormatUnavailable.retryable) == ([], False)


class Recorder(ProgressListener):
    """Keeps each report."""

    def __init__(self) -> None:
        self.stages: list[tuple[Stage, float]] = []
        self.previews: list[NDArray[np.uint8]] = []

    def on_stage(self, stage: Stage, fraction: float) -> None:
        """Keep it."""
        self.stages.append((stage, fraction))

    def on_preview(self, image: NDArray[np.uint8]) -> None:
        """Keep it."""
        self.previews.append(image)


def test_every_listener_receives_each_report_and_each_preview() -> None:
    """Listeners that take no previews are passed over."""
    first, second, timer = Recorder(), Recorder(), StageTimer()
    progress = Progress(first, second).with_first(timer)
    progress(Stage.SHAPE, 0.5)
    progress.show_preview(np.zeros((2, 2, 3), np.uint8))
    assert first.stages == second.stages == [(Stage.SHAPE, 0.5)]
    assert len(first.previews) == len(second.previews) == 1
    assert list(timer.seconds) == ["prepare"]


def test_relief_shows_the_object_without_its_background() -> None:
    """Background pixels of the preview are transparent."""
    rgba = np.full((64, 64, 4), 255, np.uint8)
    rgba[16:48, 16:48, :3] = (200, 30, 30)
    recorder = Recorder()
    Relief().sample(InputImage(rgba, has_alpha=False), Parameters(pipeline_type="512"), 1, Progress(recorder))
    (preview,) = recorder.previews
    assert (preview[32, 32, 3], preview[2, 2, 3]) == (255, 0)
