"""The relay delivers what is due in the outbox, a bounded number to one receiver at a time."""

import threading

from shared.domain.job import Webhook
from shared.net.egress import Egress
from tests.support.webhook_harness import WebhookHarness
from tests.support.webhook_receivers import Receiver, Reply
from worker.webhooks.relay import PER_RECEIVER, OutboxRelay
from worker.webhooks.sender import WebhookSender


def test_relay_sends_a_slow_receiver_a_bounded_number_at_a_time(webhooks: WebhookHarness) -> None:
    """Deliveries to other receivers continue."""
    slow = Receiver(otherwise=Reply(drip_s=3.0))
    egress = Egress(private_origins=[webhooks.receiver.origin, slow.origin])
    relay = OutboxRelay(WebhookSender(webhooks.jobs, egress))
    stopping = threading.Event()
    for _ in range(3 * PER_RECEIVER):
        webhooks.failed_job(webhook=Webhook(url=slow.url))
    for _ in range(20):
        webhooks.failed_job()
    webhooks.clock.advance(0.001)
    thread = threading.Thread(target=relay.run, args=(stopping,))
    thread.start()
    webhooks.receiver.wait_for(lambda requests: len(requests) == 20)
    assert len(slow.requests) == PER_RECEIVER
    stopping.set()
    relay.wake()
    thread.join()
    slow.close()
