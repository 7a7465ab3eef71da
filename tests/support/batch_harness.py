"""Batches under test: a catalog with its images in a zip, and everything that plans, feeds and runs it by hand."""

import io
import secrets
import zipfile
from dataclasses import dataclass, field
from typing import Any

from infra.queues.memory import MemoryStore
from shared.domain.batch import Batch, BatchDefaults, BatchStatus, ManifestFile, confirm
from shared.domain.job import Artifact, Job, JobError
from shared.manifest.reader import format_of
from shared.net.egress import Egress
from shared.repositories.batch_row_status import Counts, RowStatusMarkers
from shared.repositories.batch_rows import Row, job_id_of, read_rows
from shared.repositories.batches import BatchRepository
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from tests.support.fakes import HandClock, ListQueue, no_pause
from tests.support.gateway_harness import PICTURE, public_egress
from worker.batches.dispatcher import BatchDispatcher
from worker.batches.planner import Planner
from worker.batches.scheduler import BatchScheduler

BROKEN = JobError(code="no_object_found", detail="nothing stands out", retryable=False)


def zipped(images: dict[str, bytes]) -> bytes:
    """Images in a zip, by their file names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in images.items():
            archive.writestr(name, body)
    return out.getvalue()


def table(rows: int) -> bytes:
    """A catalog of so many rows whose images come along."""
    lines = [f"SKU-{number},SKU-{number}.png" for number in range(rows)]
    return "\r\n".join(["sku,image", *lines, ""]).encode()


def images(rows: int) -> bytes:
    """One picture for each of them."""
    return zipped({f"SKU-{number}.png": PICTURE for number in range(rows)})


@dataclass
class Shop:
    """A ledger with a planner and a feeder, and a caller with catalogs. room: jobs in hand at most."""

    clock: HandClock = field(default_factory=HandClock)
    queue: ListQueue = field(default_factory=ListQueue)
    store: MemoryStore | None = None
    egress: Egress = field(default_factory=public_egress)
    room: int = 5

    def __post_init__(self) -> None:
        self.store = self.store or MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store, pause=no_pause)
        self.batches = BatchRepository(self.store)
        self.marks = RowStatusMarkers(self.store)
        self.planner = Planner(self.batches, self.jobs, self.egress, ("relief",), looks_at_once=2)
        self.feeder = BatchDispatcher(self.batches, self.jobs, self.queue)

    def stored(self, manifest: bytes, zip_: bytes = b"", **fields: Any) -> Batch:
        """A batch as it is accepted, not yet planned."""
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
        """A batch that was planned."""
        batch = self.stored(manifest, zip_, **fields)
        self.planner.plan(batch)
        return self.read(batch)

    def running(self, rows: int, **fields: Any) -> Batch:
        """A planned batch of so many good rows that was confirmed."""
        batch = self.planned(table(rows), images(rows), **fields)
        assert batch.status is BatchStatus.AWAITING_CONFIRMATION
        return self.batches.change(batch.id, lambda now: confirm(now, self.clock())) or batch

    def read(self, batch: Batch) -> Batch:
        """A batch as it is now."""
        found = self.batches.find(batch.id)
        assert found
        return found

    def rows(self, batch: Batch) -> list[Row]:
        """The rows as they are planned."""
        batch = self.read(batch)
        return list(read_rows(self.batches.store, batch, 0, batch.planned))

    def feed(self, batch: Batch) -> Batch:
        """One feeding."""
        return self.feeder.dispatch(self.read(batch), self.room)

    def counts(self, batch: Batch) -> Counts:
        """The counts as a caller reads them, which sum."""
        counts = self.marks.counts(self.read(batch))
        ways = (counts.queued, counts.running, counts.succeeded, counts.failed, counts.canceled, counts.skipped)
        assert counts.total == sum(ways), counts
        assert min(ways) >= 0, counts
        return counts

    def work(self, most: int = 1_000, *, fails: bool = False, cost_usd: float = 0.0) -> int:
        """Play the worker for what was rung; how many jobs it ran."""
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
        """Feed and work until the batch has ended."""
        for _ in range(1_000):
            fed = self.feed(batch)
            if fed.status.is_terminal:
                return fed
            self.work(**how)
        raise AssertionError(f"it never ends: {self.counts(batch)}")

    def jobs_of(self, batch: Batch) -> list[Job]:
        """Every job that the batch has."""
        batch = self.read(batch)
        found = (self.jobs.find(job_id_of(batch, number)) for number in range(batch.planned))
        return [one.record for one in found if one]

    def tender(self) -> BatchScheduler:
        """What does all of it."""
        return BatchScheduler(self.planner, self.feeder, window=self.room)


def made(job: Job) -> dict[str, Artifact]:
    """What a worker has made."""
    key = keys.artifact(job.id, job.attempt, "model.glb")
    return {"model": Artifact(key=key, bytes=10, sha256="ab" * 32, content_type="model/gltf-binary")}
