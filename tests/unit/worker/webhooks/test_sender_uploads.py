"""Finished files are uploaded to the URLs that their caller named, until the upload succeeds."""

from typing import Any

from shared.domain.job import Job
from shared.repositories.batch_rows import under
from shared.repositories.outbox import upload_target
from shared.repositories.webhooks import DeliveryState
from tests.support.webhook_harness import WebhookHarness
from tests.support.webhook_receivers import Reply
from worker.webhooks.sender import CHUNK_BYTES

MODEL = b"glTF" + bytes(CHUNK_BYTES + 7)


def succeeded(webhooks: WebhookHarness, **fields: Any) -> Job:
    """Run a job whose model is to be uploaded to the receiver."""
    origin = webhooks.receiver.origin
    deliver = {"model": f"{origin}/mugs/MUG-7.glb?sig=abc", "usdz": f"{origin}/none"}
    return webhooks.succeeded_job(MODEL, **{"deliver": deliver, **fields})


def state(webhooks: WebhookHarness, job: Job) -> DeliveryState:
    """Read the state of a job's upload."""
    return webhooks.delivery(job, upload_target(job.deliver)).state


def test_file_is_uploaded_to_the_url_of_its_kind(webhooks: WebhookHarness) -> None:
    """Whole, in chunks, with its type; a kind that the job has no file of is skipped."""
    job = succeeded(webhooks)
    webhooks.deliver_due()
    (request,) = webhooks.receiver.requests
    assert request.path == "/mugs/MUG-7.glb?sig=abc"
    assert request.body == MODEL
    assert request.headers["content-type"] == "model/gltf-binary"
    assert state(webhooks, job) is DeliveryState.DELIVERED


def test_failed_upload_is_repeated(webhooks: WebhookHarness) -> None:
    """On the schedule of webhooks; the delivery records its state."""
    webhooks.receiver.script = [Reply(503), Reply(200)]
    job = succeeded(webhooks)
    webhooks.deliver_due()
    assert state(webhooks, job) is DeliveryState.PENDING
    webhooks.clock.advance(6)
    webhooks.deliver_due()
    assert state(webhooks, job) is DeliveryState.DELIVERED
    assert len(webhooks.receiver.requests) == 2


def test_failed_job_uploads_nothing(webhooks: WebhookHarness) -> None:
    """It has no files."""
    webhooks.failed_job(webhook=None, deliver={"model": f"{webhooks.receiver.origin}/mug.glb"})
    assert webhooks.outbox() == []


def test_upload_url_with_a_private_address_is_never_dialled(webhooks: WebhookHarness) -> None:
    """The upload stays pending."""
    job = succeeded(webhooks, deliver={"model": "https://127.0.0.1/mug.glb"})
    webhooks.deliver_due()
    assert webhooks.receiver.requests == []
    assert state(webhooks, job) is DeliveryState.PENDING


def test_prefix_becomes_a_url_for_each_file() -> None:
    """Named by the row's id; a signature in the query stays."""
    urls = under("https://shop.blob.core.windows.net/assets/?sv=1&sig=a%2Fb", "Mug / 7")
    assert urls["model"] == "https://shop.blob.core.windows.net/assets/Mug%20_%207.glb?sv=1&sig=a%2Fb"
    assert urls["poster"].endswith("/Mug%20_%207.webp?sv=1&sig=a%2Fb")
