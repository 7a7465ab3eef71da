"""Webhooks under test: a receiver on loopback, and a sender that may reach it, over a store in memory."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bench.support.memory_store import MemoryStore
from shared.domain.job import Artifact, Job, JobError, Stage, Webhook
from shared.net.egress import Egress
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.outbox import Outbox, target_of
from shared.repositories.webhooks import Delivery, DeliveryRepository, Endpoint, EndpointRepository, delivery_id
from shared.storage import keys
from shared.storage.versioned_records import Versioned
from tests.support.fakes import ManualClock, keys_under, no_pause, submitted
from tests.support.webhook_receivers import Receiver
from worker.webhooks.sender import WebhookSender

BASE_URL = "https://api.example.com"


@dataclass
class WebhookHarness:
    """Jobs, endpoints and deliveries of one caller, whose clock starts at this machine's time: verifiers read that."""

    receiver: Receiver = field(default_factory=Receiver)
    clock: ManualClock = field(default_factory=lambda: ManualClock(datetime.now(UTC)))

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store, pause=no_pause)
        self.egress = Egress(private_origins=[self.receiver.origin])
        self.sender = self.create_sender()
        self.deliveries = DeliveryRepository(self.store)
        self.endpoints = EndpointRepository(self.store)

    def create_sender(self) -> WebhookSender:
        """Create a sender without jitter."""
        return WebhookSender(self.jobs, self.egress, base_url=BASE_URL, jitter=lambda: 1.0)

    def claimed(self, **fields: Any) -> Versioned[Job]:
        """Submit and claim a job."""
        held = self.jobs.claim(submitted(self.jobs, **fields).id, "worker")
        assert held
        return held

    def running_job(self, **fields: Any) -> Job:
        """Run a job up to its second stage."""
        return self.jobs.renew(self.claimed(**fields), stage=Stage.SHAPE, progress=0.2).record

    def failed_job(self, **fields: Any) -> Job:
        """Run a job that fails and names the receiver."""
        held = self.claimed(**{"webhook": Webhook(url=self.receiver.url), **fields})
        return self.jobs.fail(held, JobError(code="no_object_found", detail="-", retryable=False)).record

    def succeeded_job(self, model: bytes, **fields: Any) -> Job:
        """Run a job that stores this model."""
        held = self.claimed(**fields)
        key = keys.artifact(held.record.id, 1, "model.glb")
        self.store.put(key, model)
        artifact = Artifact(key=key, bytes=len(model), sha256="ab" * 32, content_type="model/gltf-binary")
        return self.jobs.succeed(held, artifacts={"model": artifact}, timings={}).record

    def endpoint(self, **fields: Any) -> Endpoint:
        """Register the receiver."""
        plain = {"id": keys.new_id("we", self.clock()), "caller": "alice", "secret": "whsec_" + "MDEy" * 10}
        return self.endpoints.create(
            Endpoint(**{**plain, "url": self.receiver.url, "created_at": self.clock(), **fields})
        )

    def deliver_due(self) -> None:
        """Deliver what is due."""
        for _ in range(2):  # the first pass turns an entry for all endpoints into one for each
            for entry in list(Outbox(self.store).due(self.clock())):
                self.sender.deliver(entry)

    def outbox(self) -> list[str]:
        """List the outbox."""
        return list(keys_under(self.store, keys.OUTBOX))

    def delivery(self, job: Job, target: str = "") -> Delivery:
        """Read a job's delivery, to the receiver unless a target is named."""
        name = delivery_id(keys.event_id(job.id, job.run_number), target or target_of(self.receiver.url))
        held = self.deliveries.find(job.caller, name)
        assert held
        return held.record
