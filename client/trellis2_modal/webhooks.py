"""Verifies webhooks by Standard Webhooks 1.0, with the standard library only.

The package standardwebhooks does the same, but would be a second dependency.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trellis2_modal.errors import TrellisError

TOLERANCE_S = 300.0  # the largest accepted difference between a message's time and the clock
_ID = re.compile(r"[\x21-\x7e]{1,256}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class WebhookInvalid(TrellisError):
    """The message is not from the service, was altered, or is too old: respond 400 and ignore it."""

    code = "webhook_invalid"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A verified message.

    id: the same each time the event is sent: store it, and ignore an event whose id you know. type: `job.succeeded`,
    `job.failed`, `job.canceled`, `job.expired`, `job.progress` or `webhook.test`. timestamp: the time of the event
    (RFC 3339). data: the job: `id`, `status`, `custom_id`, `metadata`, `artifacts`, `error`, ...
    """

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]

    @property
    def occurred_at(self) -> datetime:
        """The time of the event, in UTC."""
        return datetime.fromisoformat(self.timestamp.replace("Z", "+00:00"))


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_s: float = TOLERANCE_S,
    clock: Callable[[], float] = time.time,
) -> WebhookEvent:
    """Verify a message's signature and time, and return its event.

    body: the bytes of the request as received, before any parsing. headers: of the request, in any letter case.
    secret: `whsec_...` of the endpoint. clock: seconds since 1970.

    Raises:
        WebhookInvalid: the signature or the time is wrong.
        ValueError: `secret` is not a webhook secret.
    """
    key = _decode_secret(secret)
    lowered = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = lowered.get("webhook-id", ""), lowered.get("webhook-timestamp", "")
    if not (_ID.fullmatch(message_id) and _TIMESTAMP.fullmatch(timestamp)):
        raise WebhookInvalid("the headers webhook-id and webhook-timestamp are missing or malformed")
    if abs(clock() - int(timestamp)) > tolerance_s:
        raise WebhookInvalid("the message is too old, or from the future")
    expected = hmac.digest(key, b".".join([message_id.encode(), timestamp.encode(), body]), hashlib.sha256)
    signatures = lowered.get("webhook-signature", "").split(" ")
    if not any(hmac.compare_digest(expected, _decode_signature(signature)) for signature in signatures):
        raise WebhookInvalid("no signature matches")
    return _parse_event(message_id, body)


def _decode_secret(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook secret is `whsec_` and base64") from error
    if not key:
        raise ValueError("the webhook secret is empty")
    return key


def _decode_signature(signature: str) -> bytes:
    version, _, encoded = signature.partition(",")
    try:
        return base64.b64decode(encoded, validate=True) if version == "v1" else b""
    except (binascii.Error, ValueError):
        return b""


def _parse_event(message_id: str, body: bytes) -> WebhookEvent:
    try:
        payload = json.loads(body)
        return WebhookEvent(message_id, str(payload["type"]), str(payload["timestamp"]), dict(payload["data"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WebhookInvalid("signed, but not a message of this service") from error
