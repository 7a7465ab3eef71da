"""A lease is renewed while its worker lives, writes progress and previews, and notices when it is lost."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from bench.support.memory_store import MemoryStore
from shared.domain.job import Stage, Status
from shared.errors import JobStopped, StoreUnavailable
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import JobRepository
from tests.support.fakes import LossyStore, ManualClock, Seconds, no_pause, submitted
from worker.runner.lease import MAX_PREVIEW_BYTES, PREVIEW_SIDE_PX, RENEW_S, Lease, thumbnail

GREY = np.full((40, 30, 3), 127, np.uint8)


def lease_of(store: MemoryStore, seconds: Seconds) -> tuple[JobRepository, Lease]:
    """Submit and claim a job; its lease sends no heartbeats by itself."""
    jobs = build_job_repository(store, pause=no_pause)
    held = jobs.claim(submitted(jobs).id, "worker")
    assert held is not None
    return jobs, Lease(jobs, held, deadline_s=900, clock=seconds)


def test_new_stage_is_written_at_the_next_heartbeat() -> None:
    """So a caller sees it within seconds."""
    jobs, lease = lease_of(MemoryStore(ManualClock()), Seconds())
    lease.on_stage(Stage.SHAPE, 0.5)
    lease.heartbeat()
    job = jobs.read(lease.job.id).record
    assert (job.stage, job.progress, job.version) == (Stage.SHAPE, pytest.approx(0.225), 3)


def test_a_tenth_of_the_job_is_written_and_less_is_not() -> None:
    """A long stage moves its progress bar, and needs few writes."""
    jobs, lease = lease_of(MemoryStore(ManualClock()), Seconds())
    written = []
    for fraction in (0.0, 0.2, 0.3, 0.5, 0.6):
        lease.on_stage(Stage.EXTRACT, fraction)
        lease.heartbeat()
        written.append(jobs.read(lease.job.id).record.progress)
    assert written == pytest.approx([0.55, 0.55, 0.67, 0.67, 0.79])


def test_within_a_stage_the_record_is_written_every_ten_seconds_only() -> None:
    """Between renewals a heartbeat only reads: stores charge for writes and throttle them."""
    seconds = Seconds()
    jobs, lease = lease_of(MemoryStore(ManualClock()), seconds)
    lease.on_stage(Stage.SHAPE, 0.1)
    versions = []
    for now in (0.0, 5.0, RENEW_S - 0.1, RENEW_S, RENEW_S + 5):
        seconds.now = now
        lease.heartbeat()
        versions.append(jobs.read(lease.job.id).record.version)
    assert versions == [3, 3, 3, 4, 4]


def test_renewal_keeps_other_workers_from_claiming_the_job() -> None:
    """The age of a lease counts from its last write."""
    clock, seconds = ManualClock(), Seconds()
    jobs, lease = lease_of(MemoryStore(clock), seconds)
    for now in (25.0, 50.0):
        clock.advance(25)
        seconds.now = now
        lease.heartbeat()
    assert jobs.claim(lease.job.id, "second") is None
    clock.advance(31)
    claimed = jobs.claim(lease.job.id, "third")
    assert claimed is not None
    assert claimed.record.attempt == 2


def test_lease_that_cannot_be_renewed_counts_as_lost_before_it_ends() -> None:
    """A worker that cannot write must stop before another one may start."""
    seconds = Seconds()
    store = LossyStore()
    _, lease = lease_of(store, seconds)

    def refuse(_: str) -> None:
        raise StoreUnavailable("down")

    store.before_put = refuse
    seconds.now = 20.0
    lease.heartbeat()
    assert not lease.is_lost
    seconds.now = 26.0
    lease.heartbeat()
    assert lease.is_lost
    with pytest.raises(JobStopped):
        lease.on_stage(Stage.SHAPE, 0.2)


def test_lease_as_a_context_sends_heartbeats_by_itself() -> None:
    """From a thread of its own."""
    jobs = build_job_repository(MemoryStore())
    held = jobs.claim(submitted(jobs).id, "worker")
    assert held is not None
    with Lease(jobs, held, deadline_s=900, heartbeat_s=0.001) as lease:
        jobs.cancel(held.record.id)
        assert lease.wait_until_lost(timeout_s=60)
    assert jobs.read(held.record.id).record.status is Status.CANCELED


def test_preview_is_written_with_the_next_heartbeat_once_in_an_attempt() -> None:
    """As an event of its own, with the stage and the progress of that moment."""
    _, lease = lease_of(MemoryStore(ManualClock()), Seconds())
    lease.on_stage(Stage.SHAPE, 0.5)
    lease.on_preview(GREY)
    lease.on_preview(GREY)
    lease.heartbeat()
    lease.on_stage(Stage.TEXTURE, 0.5)
    lease.on_preview(GREY)
    lease.heartbeat()
    events = lease.job.events
    assert [event.type for event in events] == ["queued", "started", "preview", "progress"]
    assert [event.preview is not None for event in events] == [False, False, True, False]
    assert (events[2].stage, events[2].progress) == (Stage.SHAPE, pytest.approx(0.225))


def test_purged_job_keeps_no_preview() -> None:
    """It shows what the caller sent."""
    jobs, lease = lease_of(MemoryStore(ManualClock()), Seconds())
    lease.on_preview(GREY)
    lease.heartbeat()
    jobs.purge(lease.job.id)
    assert all(event.preview is None for event in jobs.read(lease.job.id).record.events)


@pytest.mark.parametrize("shape", [(1, 1, 3), (50, 4_000, 4), (1_024, 1_024, 3), (3_000, 2_000, 4)])
def test_thumbnail_is_a_webp_of_a_few_kilobytes(shape: tuple[int, ...]) -> None:
    """Even of noise, the hardest to compress."""
    noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    webp = thumbnail(noise)
    assert webp is not None
    assert len(webp) <= MAX_PREVIEW_BYTES
    image = Image.open(BytesIO(webp))
    assert (image.format, max(image.size) <= PREVIEW_SIDE_PX) == ("WEBP", True)
