"""A batch's messages: signed, with its counts, under one id however often they are sent."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook as Verifier

from shared.domain.batch import Batch, BatchWebhook, confirm
from shared.net.egress import Egress
from shared.repositories.outbox import Outbox
from shared.repositories.webhooks import EndpointRepository
from tests.support.batch_harness import BatchHarness, images, table
from tests.support.fakes import ManualClock
from tests.support.webhook_receivers import Receiver, Reply
from worker.webhooks.sender import WebhookSender


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver, closed after the test."""
    listening = Receiver()
    yield listening
    listening.close()


def shop_of_today() -> BatchHarness:
    """What verifies compares with this machine's clock."""
    return BatchHarness(clock=ManualClock(datetime.now(UTC)), max_jobs=10)


def deliver(harness: BatchHarness, receiver: Receiver) -> None:
    """Send what is due."""
    postman = WebhookSender(harness.jobs, Egress(private_origins=[receiver.origin]), "https://3d.example", lambda: 1.0)
    for entry in list(Outbox(harness.batches.store).due(harness.clock())):
        postman.deliver(entry)


def with_webhook(harness: BatchHarness, receiver: Receiver) -> Batch:
    """A batch that tells of all that it may tell of."""
    return harness.stored(table(2), images(2), webhook=BatchWebhook(url=receiver.url))


def test_a_batch_tells_what_was_found_and_what_became_of_it(receiver: Receiver) -> None:
    """By the secret that signs for the URLs which jobs and batches name."""
    harness = shop_of_today()
    batch = with_webhook(harness, receiver)
    harness.scheduler().run_for(0.0)
    deliver(harness, receiver)
    (planned,) = receiver.requests
    body = json.loads(planned.body)
    assert (body["type"], body["data"]["id"]) == ("batch.awaiting_confirmation", batch.id)
    assert body["data"]["status_url"] == f"https://3d.example/v1/batches/{batch.id}"
    assert (body["data"]["counts"]["total"], body["data"]["counts"]["queued"]) == (2, 2)
    secret = EndpointRepository(harness.batches.store).default("shop").secret
    Verifier(secret).verify(planned.body, planned.headers)


def test_an_end_that_is_not_taken_is_sent_again_under_the_same_id(receiver: Receiver) -> None:
    """With the same body."""
    receiver.script = [Reply(), Reply(503)]
    harness = shop_of_today()
    batch = with_webhook(harness, receiver)
    harness.planner.plan(batch)
    harness.batches.announce(harness.read(batch))
    deliver(harness, receiver)
    harness.batches.change(batch.id, lambda now: confirm(now, harness.clock()))
    harness.batches.announce(harness.run(batch))
    deliver(harness, receiver)
    harness.clock.advance(6)
    deliver(harness, receiver)
    planned, first, second = receiver.requests
    assert json.loads(first.body)["type"] == "batch.completed"
    assert json.loads(first.body)["data"]["counts"]["succeeded"] == 2
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert planned.headers["webhook-id"] != first.headers["webhook-id"]
