"""Finished files are brought to where their caller wants them, until they are taken."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.support.memory_store import MemoryStore
from shared.domain.job import Artifact, Job, JobError
from shared.net.egress import Egress
from shared.repositories.batch_rows import under
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.outbox import Outbox, upload_target
from shared.repositories.webhooks import DeliveryRepository, DeliveryState, delivery_id
from shared.storage import keys
from tests.support.fakes import ManualClock, no_pause, submitted
from tests.support.webhook_receivers import Receiver, Reply
from worker.webhooks.sender import CHUNK_BYTES, WebhookSender

MODEL = b"glTF" + bytes(CHUNK_BYTES + 7)


@dataclass
class House:
    """A ledger, a bucket of the caller's, and who brings files there."""

    bucket: Receiver = field(default_factory=Receiver)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store, pause=no_pause)
        self.postman = WebhookSender(self.jobs, Egress(private_origins=[self.bucket.origin]), jitter=lambda: 1.0)

    def succeeded(self, **fields: Any) -> Job:
        """A job whose model is to be put into the bucket."""
        deliver = {"model": f"{self.bucket.origin}/mugs/MUG-7.glb?sig=abc", "usdz": f"{self.bucket.origin}/none"}
        job = submitted(self.jobs, **{"deliver": deliver, **fields})
        held = self.jobs.claim(job.id, "worker")
        assert held
        key = keys.artifact(job.id, 1, "model.glb")
        self.store.put(key, MODEL)
        model = Artifact(key=key, bytes=len(MODEL), sha256="ab" * 32, content_type="model/gltf-binary")
        return self.jobs.succeed(held, artifacts={"model": model}, timings={}).record

    def bring(self) -> None:
        """Do what is due."""
        for entry in list(Outbox(self.store).due(self.clock())):
            self.postman.deliver(entry)

    def state(self, job: Job) -> DeliveryState:
        """How it went."""
        held = DeliveryRepository(self.store).find(
            job.caller, delivery_id(keys.event_id(job.id, 0), upload_target(job.deliver))
        )
        assert held
        return held.record.state


@pytest.fixture
def house() -> Iterator[House]:
    """A house whose bucket is closed after the test."""
    built = House()
    yield built
    built.bucket.close()


def test_a_finished_file_is_put_where_it_was_asked_for(house: House) -> None:
    """Whole, in pieces, with its type; what the job has not made is left out."""
    job = house.succeeded()
    house.bring()
    (request,) = house.bucket.requests
    assert request.path == "/mugs/MUG-7.glb?sig=abc"
    assert request.body == MODEL
    assert request.headers["content-type"] == "model/gltf-binary"
    assert house.state(job) is DeliveryState.DELIVERED


def test_a_bucket_that_does_not_take_it_is_asked_again(house: House) -> None:
    """By the schedule of webhooks, and the delivery says how it went."""
    house.bucket.script = [Reply(503), Reply(200)]
    job = house.succeeded()
    house.bring()
    assert house.state(job) is DeliveryState.PENDING
    house.clock.advance(6)
    house.bring()
    assert house.state(job) is DeliveryState.DELIVERED
    assert len(house.bucket.requests) == 2


def test_a_job_that_failed_brings_nothing(house: House) -> None:
    """There is nothing to bring."""
    job = submitted(house.jobs, deliver={"model": f"{house.bucket.origin}/mug.glb"})
    held = house.jobs.claim(job.id, "worker")
    assert held
    house.jobs.fail(held, JobError(code="no_object_found", detail="-", retryable=False))
    assert list(Outbox(house.store).due(house.clock())) == []


def test_a_url_that_leads_inward_is_never_dialled(house: House) -> None:
    """As everywhere."""
    job = house.succeeded(deliver={"model": "https://127.0.0.1/mug.glb"})
    house.bring()
    assert house.bucket.requests == []
    assert house.state(job) is DeliveryState.PENDING


def test_a_prefix_becomes_a_url_for_each_file() -> None:
    """Named by the row's id; a signature in its query stays."""
    urls = under("https://shop.blob.core.windows.net/assets/?sv=1&sig=a%2Fb", "Mug / 7")
    assert urls["model"] == "https://shop.blob.core.windows.net/assets/Mug%20_%207.glb?sv=1&sig=a%2Fb"
    assert urls["poster"].endswith("/Mug%20_%207.webp?sv=1&sig=a%2Fb")
