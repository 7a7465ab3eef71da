"""Verifies what the service sends to your webhook, as Standard Webhooks 1.0 says. Needs nothing but Python."""

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

TOLERANCE_S = 300.0  # how old, or how far in the future, a message may be
_ID = re.compile(r"[\x21-\x7e]{1,256}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class WebhookInvalid(TrellisError):
    """The message is not the service's, was altered, or is too old: answer 400 and do nothing."""

    code = "webhook_invalid"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A message that was verified.

    id: the same however often the event is sent; remember it, and do nothing the second time. type: `job.succeeded`,
    `job.failed`, `job.canceled`, `job.expired`, `job.progress` or `webhook.test`. timestamp: when it happened, as text
    (RFC 3339). data: the job: `id`, `status`, `custom_id`, `metadata`, `artifacts`, `error`, ...
    """

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]

    @property
    def occurred_at(self) -> datetime:
        """When it happened, aware UTC."""
        return datetime.fromisoformat(self.timestamp.replace("Z", "+00:00"))


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_s: float = TOLERANCE_S,
    clock: Callable[[], float] = time.time,
) -> WebhookEvent:
    """The event in a message, if it was signed with this secret and is recent.

    body: exactly the bytes that came, before anything parsed them. headers: of the request, in any case. secret:
    `whsec_...` of the endpoint. clock: seconds since 1970.

    Raises:
        WebhookInvalid: it was not, or it is not.
        ValueError: `secret` is no secret.
    """
    key = _key(secret)
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not (_ID.fullmatch(message_id) and _TIMESTAMP.fullmatch(timestamp)):
        raise WebhookInvalid("the headers webhook-id and webhook-timestamp are missing or malformed")
    if abs(clock() - int(timestamp)) > tolerance_s:
        raise WebhookInvalid("the message is too old, or from the future")
    expected = hmac.digest(key, b".".join([message_id.encode(), timestamp.encode(), body]), hashlib.sha256)
    signatures = given.get("webhook-signature", "").split(" ")
    if not any(hmac.compare_digest(expected, _bytes_of(signature)) for signature in signatures):
        raise WebhookInvalid("no signature fits")
    return _event(message_id, body)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook secret is `whsec_` and base64") from error
    if not key:
        raise ValueError("the webhook secret is empty")
    return key


def _bytes_of(signature: str) -> bytes:
    version, _, encoded = signature.partition(",")
    try:
        return base64.b64decode(encoded, validate=True) if version == "v1" else b""
    except (binascii.Error, ValueError):
        return b""


def _event(message_id: str, body: bytes) -> WebhookEvent:
    try:
        told = json.loads(body)
        return WebhookEvent(message_id, str(told["type"]), str(told["timestamp"]), dict(told["data"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WebhookInvalid("signed, but not a message of this service") from error
