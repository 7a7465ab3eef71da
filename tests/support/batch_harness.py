"""Batches under test: catalogs with their images in a zip, planned, dispatched and run step by step."""

import io
import secrets
import zipfile
from dataclasses import dataclass, field
from typing import Any

from bench.support.memory_store import MemoryStore
from shared.domain.batch import Batch, BatchDefaults, BatchStatus, ManifestFile, confirm
from shared.domain.job import Artifact, Job, JobError
from shared.manifest.reader import format_of
from shared.net.egress import Egress
from shared.repositories.batch_row_status import Counts, RowStatusMarkers
from shared.repositories.batch_rows import Row, job_id_of, read_rows
from shared.repositories.batches import BatchRepository
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from tests.support.fakes import ListQueue, ManualClock, no_pause
from tests.support.gateway_harness import IMAGE, public_egress
from worker.batches.dispatcher import BatchDispatcher
from worker.batches.planner import Planner
from worker.batches.scheduler import BatchScheduler

BROKEN = JobError(code="no_object_found", detail="nothing stands out", retryable=False)


def zipped(images: dict[str, bytes]) -> bytes:
    """Zip images under their file names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in images.items():
            archive.writestr(name, body)
    return out.getvalue()


def table(rows: int) -> bytes:
    """Write a catalog of so many rows whose images are uploaded."""
    lines = [f"SKU-{number},SKU-{number}.png" for number in range(rows)]
    return "\r\n".join(["sku,image", *lines, ""]).encode()


def images(rows: int) -> bytes:
    """Zip one image for each of those rows."""
    return zipped({f"SKU-{number}.png": IMAGE for number in range(rows)})


@dataclass
class BatchHarness:
    """A planner and a dispatcher over one store, and a caller with catalogs. max_jobs: unfinished jobs at most."""

    clock: ManualClock = field(default_factory=ManualClock)
    queue: ListQueue = field(default_factory=ListQueue)
    store: MemoryStore | None = None
    egress: Egress = field(default_factory=public_egress)
    max_jobs: int = 5

    def __post_init__(self) -> None:
        self.store = self.store or MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store, pause=no_pause)
        self.batches = BatchRepository(self.store)
        self.marks = RowStatusMarkers(self.store)
        self.planner = Planner(self.batches, self.jobs, self.egress, ("relief",), probe_threads=2)
        self.dispatcher = BatchDispatcher(self.batches, self.jobs, self.queue)

    def stored(self, manifest: bytes, zip_: bytes = b"", **fields: Any) -> Batch:
        """Store an accepted batch that is not yet planned."""
        assert self.store
        batch_id = keys.new_id("batch", self.clock())
        batch = Batch(
            **{
                "id": batch_id,
                "caller": "shop",
                "secret": secrets.token_hex(16),
                "file": ManifestFile(format=format_of(manifest), bytes=len(manifest), images_bytes=len(zip_)),
                "defaults": BatchDefaults(engine="relief", preset="mobile"),
                "created_at": self.clock(),
                **fields,
            }
        )
        self.batches.reserve(batch_id, batch.caller)
        self.store.put(keys.batch_manifest(batch_id), manifest)
        if zip_:
            self.store.put(keys.batch_images(batch_id), zip_)
        return self.batches.create(batch)

    def planned(self, manifest: bytes, zip_: bytes = b"", **fields: Any) -> Batch:
        """Store and plan a batch."""
        batch = self.stored(manifest, zip_, **fields)
        self.planner.plan(batch)
        return self.read(batch)

    def running(self, rows: int, **fields: Any) -> Batch:
        """Store, plan and confirm a batch of so many valid rows."""
        batch = self.planned(table(rows), images(rows), **fields)
        assert batch.status is BatchStatus.AWAITING_CONFIRMATION
        return self.batches.change(batch.id, lambda now: confirm(now, self.clock())) or batch

    def read(self, batch: Batch) -> Batch:
        """Read a batch."""
        found = self.batches.find(batch.id)
        assert found
        return found

    def rows(self, batch: Batch) -> list[Row]:
        """Read the planned rows."""
        batch = self.read(batch)
        return list(read_rows(self.batches.store, batch, 0, batch.planned))

    def dispatch(self, batch: Batch) -> Batch:
        """Dispatch once."""
        return self.dispatcher.dispatch(self.read(batch), self.max_jobs)

    def counts(self, batch: Batch) -> Counts:
        """Read the counts as a caller does, and check that they add up."""
        counts = self.marks.counts(self.read(batch))
        ways = (counts.queued, counts.running, counts.succeeded, counts.failed, counts.canceled, counts.skipped)
        assert counts.total == sum(ways), counts
        assert min(ways) >= 0, counts
        return counts

    def work(self, most: int = 1_000, *, fails: bool = False, cost_usd: float = 0.0) -> int:
        """Run what is in the queue, as a worker does; return how many jobs ran."""
        ran = 0
        while ran < most and (job_id := self.queue.dequeue()):
            held = self.jobs.claim(job_id, "worker")
            if held is None:
                continue
            if fails:
                self.jobs.fail(held, BROKEN)
            else:
                self.jobs.succeed(held, artifacts=made(held.record), timings={"shape": 1.0}, cost_usd=cost_usd)
            ran += 1
        return ran

    def run(self, batch: Batch, **how: Any) -> Batch:
        """Dispatch and work until the batch has ended."""
        for _ in range(1_000):
            dispatched = self.dispatch(batch)
            if dispatched.status.is_terminal:
                return dispatched
            self.work(**how)
        raise AssertionError(f"it never ends: {self.counts(batch)}")

    def jobs_of(self, batch: Batch) -> list[Job]:
        """List the jobs of a batch."""
        batch = self.read(batch)
        jobs = (self.jobs.find(job_id_of(batch, number)) for number in range(batch.planned))
        return [held.record for held in jobs if held]

    def scheduler(self) -> BatchScheduler:
        """Make a scheduler of the planner and the dispatcher."""
        return BatchScheduler(self.planner, self.dispatcher, window=self.max_jobs)


def made(job: Job) -> dict[str, Artifact]:
    """List the artifacts of a job that a worker ran."""
    key = keys.artifact(job.id, job.attempt, "model.glb")
    return {"model": Artifact(key=key, bytes=10, sha256="ab" * 32, content_type="model/gltf-binary")}
