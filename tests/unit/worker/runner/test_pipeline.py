"""The work on one job where the GPU's memory does not suffice for it."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bench.support.processes import a_picture
from infra.queues.memory import MemoryStore
from shared.domain.job import Input, Job, SamplingResult, Status
from shared.domain.parameters import Parameters, resolve
from shared.errors import GpuOutOfMemory
from shared.net.egress import Egress
from shared.repositories.jobs import JobRepository
from shared.storage import keys
from tests.support.fakes import HandClock, ListQueue, a_job
from tests.support.stub_engine import Block
from worker.engine import InputImage, Progress, State, Surface
from worker.runner.pipeline import JobPipeline
from worker.runner.worker import Worker


@dataclass
class Narrow(Block):
    """An engine with room for some pipeline types: sampling fits, or decoding, or neither."""

    samples: set[str] = field(default_factory=set)
    decodes: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """A block's state, with what a sampler notes."""
        self.asked.append(parameters.pipeline_type)
        if parameters.pipeline_type not in self.samples:
            raise GpuOutOfMemory("too large")
        state = super().sample(image, parameters, seed, progress)
        notes = {"seed": "9", "resolution": "1024", "pipeline_type": parameters.pipeline_type}
        return replace(state, notes={**state.notes, **notes})

    def decode(self, state: State, progress: Progress) -> Surface:
        """The block, where there is room for it."""
        if state.notes["pipeline_type"] not in self.decodes:
            raise GpuOutOfMemory("too large")
        return super().decode(state, progress)


@dataclass
class House:
    """A store with one job in it, and a worker."""

    engine: Narrow

    def __post_init__(self) -> None:
        self.store = MemoryStore(HandClock())
        self.jobs = JobRepository(self.store)
        self.ran_out: list[bool] = []

    def run(self, **wishes: Any) -> Job:
        """Submit, run one ticket, and read the job."""
        body, queue = a_picture(64), ListQueue()
        job = a_job(self.jobs.now(), parameters=resolve({"seed": 7, **wishes}, "low_poly"))
        key = keys.job_input(job.id, "png")
        job = job.model_copy(update={"input": Input(key=key, bytes=len(body))})
        self.store.put(key, body)
        self.jobs.reserve(job)
        self.jobs.create(job)
        queue.enqueue([job.id], job.lane)
        steps = JobPipeline(self.store, Egress(), {"relief": self.engine})

        def work(job: Job, progress: Progress) -> Any:
            made = steps.run(job, progress)
            self.ran_out.append(made.out_of_memory)
            return made

        Worker(jobs=self.jobs, queue=queue, work=work, name="worker").run_once()
        return self.jobs.read(job.id).record


def test_fault_9_without_leave_to_lower_the_job_fails_with_its_code() -> None:
    """At once: the GPU will be no larger in the next attempt."""
    house = House(Narrow())
    job = house.run(pipeline_type="1024_cascade")
    assert job.error is not None
    assert (Status.FAILED, 1, "gpu_out_of_memory") == (job.status, job.attempt, job.error.code)
    assert house.engine.asked == ["1024_cascade"]


@pytest.mark.parametrize("too_small_for", ["sampling", "decoding"])
def test_fault_9_with_leave_the_job_is_made_at_the_next_lower_setting(too_small_for: str) -> None:
    """Whichever part found no room; the record says what it came to, and the worker knows that it ran out."""
    every = {"1536_cascade", "1024_cascade"}
    fits = {"1024_cascade"}
    house = House(Narrow(samples=fits if too_small_for == "sampling" else every, decodes=fits))
    job = house.run(pipeline_type="1536_cascade", allow_degrade=True)
    assert (Status.SUCCEEDED, 1) == (job.status, job.attempt)
    assert SamplingResult(seed=9, pipeline_type="1024_cascade", resolution=1024) == job.sampled
    assert job.parameters.pipeline_type == "1536_cascade"
    assert house.ran_out == [True]


def test_fault_9_it_is_lowered_once() -> None:
    """And then it fails."""
    house = House(Narrow(samples={"512"}, decodes={"512"}))
    job = house.run(pipeline_type="1536_cascade", allow_degrade=True)
    assert job.error is not None
    assert "gpu_out_of_memory" == job.error.code
    assert house.engine.asked == ["1536_cascade", "1024_cascade"]


def test_job_with_room_is_made_as_asked() -> None:
    """Leave or not."""
    house = House(Narrow(samples={"1024_cascade"}, decodes={"1024_cascade"}))
    job = house.run(pipeline_type="1024_cascade", allow_degrade=True)
    assert job.sampled is not None
    assert "1024_cascade" == job.sampled.pipeline_type
    assert house.ran_out == [False]
