"""The harness of the webhook tests."""

from collections.abc import Iterator

import pytest

from tests.support.webhook_harness import WebhookHarness


@pytest.fixture
def webhooks() -> Iterator[WebhookHarness]:
    """A receiver and a sender, closed after the test."""
    harness = WebhookHarness()
    yield harness
    harness.receiver.close()
