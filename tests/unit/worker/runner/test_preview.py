"""A preview is small, whatever it is made from, and comes to whoever follows the job."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infra.modal_app.gpu_lock import GpuLease, GpuLock
from infra.queues.memory import MemoryStore
from shared.domain.job import Job, Stage
from shared.domain.parameters import Parameters
from shared.repositories.jobs import JobRepository
from tests.support.fakes import HandClock, Seconds, submitted
from worker.engine import InputImage, Progress, show_preview
from worker.engines.relief import Relief
from worker.runner.lease import Lease
from worker.runner.pipeline import StageTimer
from worker.runner.preview import MAX_BYTES, SIDE_PX, thumbnail
from worker.runner.result import JobResult


@pytest.mark.parametrize("shape", [(1, 1, 3), (50, 4_000, 4), (1_024, 1_024, 3), (3_000, 2_000, 4)])
def test_thumbnail_is_a_webp_of_a_few_kilobytes(shape: tuple[int, ...]) -> None:
    """Also of noise, the hardest to compress."""
    noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    webp = thumbnail(noise)
    assert webp is not None
    assert len(webp) <= MAX_BYTES
    image = Image.open(BytesIO(webp))
    assert (image.format, max(image.size) <= SIDE_PX) == ("WEBP", True)


def a_lease(clock: HandClock | None = None) -> Lease:
    """A hold on a running job; its thread does not run."""
    jobs = JobRepository(MemoryStore(clock or HandClock()))
    held = jobs.claim(submitted(jobs).id, "worker")
    assert held
    return Lease(jobs, held, deadline_s=60, clock=Seconds())


GREY = np.full((40, 30, 3), 127, np.uint8)


def test_preview_is_written_with_the_next_news_once_in_an_attempt() -> None:
    """As an event of its own, with the stage and the progress of that moment."""
    lease = a_lease()
    lease(Stage.SHAPE, 0.5)
    lease.show_preview(GREY)
    lease.show_preview(GREY)
    lease.heartbeat()
    lease(Stage.TEXTURE, 0.5)
    lease.show_preview(GREY)
    lease.heartbeat()
    events = lease.job.events
    assert [event.type for event in events] == ["queued", "started", "preview", "progress"]
    assert [event.preview is not None for event in events] == [False, False, True, False]
    assert (events[2].stage, events[2].progress) == (Stage.SHAPE, pytest.approx(0.225))


def test_preview_passes_through_all_that_listens_to_progress() -> None:
    """The clock of stages and the turn at the GPU."""
    lease = a_lease()

    def work(_job: Job, progress: Progress) -> JobResult:
        show_preview(StageTimer(progress), GREY)
        return JobResult({}, {})

    turn = GpuLease(GpuLock(), work)
    assert turn.take()
    turn.work(lease.job, lease)
    lease.heartbeat()
    assert lease.job.events[-1].type == "preview"


def test_progress_that_takes_no_preview_is_left_alone() -> None:
    """Not everybody who listens wants to see."""
    show_preview(lambda _stage, _fraction: None, GREY)


def test_relief_shows_the_cut_out_object() -> None:
    """What is not the object is transparent."""
    rgba = np.full((64, 64, 4), 255, np.uint8)
    rgba[16:48, 16:48, :3] = (200, 30, 30)
    shown: list[Any] = []

    class Looking:
        """A Progress that keeps what it is shown."""

        def __call__(self, stage: Stage, fraction: float) -> None:
            """Nothing."""

        def show_preview(self, image: Any) -> None:
            """Keep it."""
            shown.append(image)

    Relief().sample(InputImage(rgba, has_alpha=False), Parameters(pipeline_type="512"), 1, Looking())
    (picture,) = shown
    assert (picture[32, 32, 3], picture[2, 2, 3]) == (255, 0)


def test_erased_job_keeps_no_preview() -> None:
    """It shows what the caller sent."""
    lease = a_lease()
    lease.show_preview(GREY)
    lease.heartbeat()
    jobs = lease._jobs
    jobs.purge(lease.job.id)
    assert all(event.preview is None for event in jobs.read(lease.job.id).record.events)
