"""Events of a batch are sent signed, with its counts, always under the same id."""

import json
from datetime import UTC, datetime

from standardwebhooks import Webhook as Verifier

from shared.domain.batch import Batch, BatchWebhook, confirm
from shared.net.egress import Egress
from shared.repositories.outbox import Outbox
from shared.repositories.webhooks import EndpointRepository
from tests.support.batch_harness import BatchHarness, images, table
from tests.support.fakes import ManualClock
from tests.support.webhook_harness import WebhookHarness
from tests.support.webhook_receivers import Receiver, Reply
from worker.webhooks.sender import WebhookSender


def batches_of_today() -> BatchHarness:
    """Create a harness at this machine's time, which verifiers compare with."""
    return BatchHarness(clock=ManualClock(datetime.now(UTC)), max_jobs=10)


def deliver(harness: BatchHarness, receiver: Receiver) -> None:
    """Deliver what is due."""
    sender = WebhookSender(harness.jobs, Egress(private_origins=[receiver.origin]), "https://3d.example", lambda: 1.0)
    for entry in list(Outbox(harness.batches.store).due(harness.clock())):
        sender.deliver(entry)


def with_webhook(harness: BatchHarness, receiver: Receiver) -> Batch:
    """Store a batch whose webhook gets every event."""
    return harness.stored(table(2), images(2), webhook=BatchWebhook(url=receiver.url))


def test_planned_batch_sends_its_counts(webhooks: WebhookHarness) -> None:
    """Signed by the secret for URLs that jobs and batches name."""
    harness = batches_of_today()
    batch = with_webhook(harness, webhooks.receiver)
    harness.scheduler().run_for(0.0)
    deliver(harness, webhooks.receiver)
    (planned,) = webhooks.receiver.requests
    body = json.loads(planned.body)
    assert (body["type"], body["data"]["id"]) == ("batch.awaiting_confirmation", batch.id)
    assert body["data"]["status_url"] == f"https://3d.example/v1/batches/{batch.id}"
    assert (body["data"]["counts"]["total"], body["data"]["counts"]["queued"]) == (2, 2)
    secret = EndpointRepository(harness.batches.store).default("shop").secret
    Verifier(secret).verify(planned.body, planned.headers)


def test_failed_delivery_of_a_batchs_end_is_repeated_under_the_same_id(webhooks: WebhookHarness) -> None:
    """With the same body."""
    webhooks.receiver.script = [Reply(), Reply(503)]
    harness = batches_of_today()
    batch = with_webhook(harness, webhooks.receiver)
    harness.planner.plan(batch)
    harness.batches.announce(harness.read(batch))
    deliver(harness, webhooks.receiver)
    harness.batches.change(batch.id, lambda now: confirm(now, harness.clock()))
    harness.batches.announce(harness.run(batch))
    deliver(harness, webhooks.receiver)
    harness.clock.advance(6)
    deliver(harness, webhooks.receiver)
    planned, first, second = webhooks.receiver.requests
    assert json.loads(first.body)["type"] == "batch.completed"
    assert json.loads(first.body)["data"]["counts"]["succeeded"] == 2
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert planned.headers["webhook-id"] != first.headers["webhook-id"]
