"""Webhooks as they are stored: endpoints with their secrets, and deliveries with every try."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from shared.domain.batch import BATCH_EVENT_TYPES, BatchEventType
from shared.domain.job import EVENT_TYPES, EventType, Record, VersionedRecord
from shared.repositories.outbox import Event
from shared.storage import keys
from shared.storage.ports import ObjectStore
from shared.storage.versioned_records import Versioned, VersionedRecords

DEFAULT_ENDPOINT = "default"  # signs for the URLs that jobs name
ROTATION = timedelta(hours=24)  # how long an old secret signs in addition to the new one
TEST_EVENT = "webhook.test"
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 32  # the standard asks for 24 to 64


class Endpoint(VersionedRecord):
    """Where to send the events of every job of a caller. Times are aware UTC by the store's clock.

    old_secret: signs in addition to `secret` until old_until. failing_since: the first failure after the last success.
    """

    id: str
    caller: str
    url: str = ""
    events: tuple[EventType | BatchEventType, ...] = (*EVENT_TYPES, *BATCH_EVENT_TYPES)
    description: str = ""
    secret: str
    old_secret: str | None = None
    old_until: datetime | None = None
    created_at: datetime
    failing_since: datetime | None = None
    disabled_at: datetime | None = None
    disabled_because: str | None = None

    def secrets(self, now: datetime) -> list[str]:
        """Return the secrets to sign with, the newest first."""
        is_rotating = self.old_secret and self.old_until and now < self.old_until
        return [self.secret, *([self.old_secret] if is_rotating and self.old_secret else [])]

    def wants(self, event: Event) -> bool:
        """Return whether the endpoint receives an event."""
        return self.disabled_at is None and event.type in self.events


class DeliveryState(StrEnum):
    """State of a delivery."""

    PENDING = "pending"  # will be tried, or tried again, at next_try_at
    DELIVERED = "delivered"  # the receiver said 2xx
    FAILED = "failed"  # no more tries; `redeliver` starts again


class Attempt(Record):
    """One try. status: None where no answer came. answer: the first of it, without what looks like a secret."""

    at: datetime
    status: int | None = None
    duration_ms: int
    answer: str = ""


class Delivery(VersionedRecord):
    """One event's way to one receiver. `url`: where it was last sent. `tries`: since it was last started."""

    id: str
    event: Event
    target: str
    url: str = ""
    state: DeliveryState = DeliveryState.PENDING
    tries: int = 0
    attempts: tuple[Attempt, ...] = ()
    next_try_at: datetime
    claimed_until: datetime | None = None
    finished_at: datetime | None = None


class EndpointRepository:
    """The endpoints of all callers."""

    def __init__(self, store: ObjectStore) -> None:
        self._documents = VersionedRecords(store, Endpoint)
        self._store = store

    def find(self, caller: str, endpoint_id: str) -> Endpoint | None:
        """Read one of a caller's endpoints, or None."""
        held = self._documents.find(keys.endpoint(caller, endpoint_id))
        return held.record if held else None

    def of(self, caller: str) -> Iterator[Endpoint]:
        """List a caller's endpoints, the oldest first, without the default."""
        for entry in self._store.list(keys.endpoint_folder(caller)):
            if not entry.key.endswith(f"/{DEFAULT_ENDPOINT}.json") and (held := self._documents.find(entry.key)):
                yield held.record

    def any(self, caller: str) -> bool:
        """Return whether a caller has an endpoint, apart from the default."""
        return any(
            not entry.key.endswith(f"/{DEFAULT_ENDPOINT}.json")
            for entry in self._store.list(keys.endpoint_folder(caller))
        )

    def default(self, caller: str) -> Endpoint:
        """Return the endpoint that signs for the URLs of a caller's jobs; create it if it is missing."""
        present = self.find(caller, DEFAULT_ENDPOINT)
        if present is None:
            now = self._store.now()
            fresh = Endpoint(id=DEFAULT_ENDPOINT, caller=caller, secret=new_secret(), created_at=now)
            self._documents.create(keys.endpoint(caller, DEFAULT_ENDPOINT), fresh)
            present = self.find(caller, DEFAULT_ENDPOINT)
        assert present is not None  # noqa: S101 - it is never deleted
        return present

    def create(self, endpoint: Endpoint) -> Endpoint:
        """Store a new endpoint."""
        held = self._documents.create(keys.endpoint(endpoint.caller, endpoint.id), endpoint)
        return held.record if held else endpoint

    def change(self, caller: str, endpoint_id: str, **fields: Any) -> Endpoint | None:
        """Change fields of an endpoint; None where there is none."""
        return self._documents.update(keys.endpoint(caller, endpoint_id), lambda _: fields)

    def rotate(self, caller: str, endpoint_id: str, now: datetime) -> Endpoint | None:
        """Give an endpoint a new secret; the old one still signs, in addition, for ROTATION."""
        fresh = {"secret": new_secret(), "old_until": now + ROTATION}
        return self._documents.update(
            keys.endpoint(caller, endpoint_id), lambda endpoint: fresh | {"old_secret": endpoint.secret}
        )

    def delete(self, endpoint: Endpoint) -> None:
        """Delete an endpoint; its outstanding deliveries are not sent."""
        self._store.delete(keys.endpoint(endpoint.caller, endpoint.id))


class DeliveryRepository:
    """The deliveries of all callers; a delivery's id follows from its event and its target."""

    def __init__(self, store: ObjectStore) -> None:
        self._documents = VersionedRecords(store, Delivery)
        self._store = store

    def find(self, caller: str, delivery_id: str) -> Versioned[Delivery] | None:
        """Read one of a caller's deliveries, or None."""
        return self._documents.find(keys.delivery(caller, delivery_id))

    def create(self, delivery: Delivery) -> Versioned[Delivery] | None:
        """Store a new delivery; None where it is there already."""
        return self._documents.create(keys.delivery(delivery.event.caller, delivery.id), delivery)

    def replace(self, held: Versioned[Delivery], **fields: Any) -> Versioned[Delivery] | None:
        """Change fields; None where another writer was faster."""
        record = held.record
        key = keys.delivery(record.event.caller, record.id)
        return self._documents.replace(key, held, record.model_copy(update=fields))

    def reset(self, delivery: Delivery, at: datetime) -> Delivery:
        """Make a delivery pending again, to be tried at `at`, where its entry is in the outbox already."""
        fields = {
            "state": DeliveryState.PENDING,
            "tries": 0,
            "next_try_at": at,
            "claimed_until": None,
            "finished_at": None,
        }
        key = keys.delivery(delivery.event.caller, delivery.id)
        return self._documents.update(key, lambda _: fields) or delivery

    def of(self, caller: str, *, job_id: str | None = None, after: str = "") -> Iterator[tuple[str, Delivery]]:
        """List a caller's deliveries after a cursor, those of the newest jobs first, each with its own cursor."""
        folder = keys.delivery_folder(caller)
        prefix = keys.deliveries_of(caller, job_id) if job_id else folder
        for entry in self._store.list(prefix, after=f"{folder}{after}.json" if after else ""):
            if held := self._documents.find(entry.key):
                yield entry.key.removeprefix(folder).removesuffix(".json"), held.record


def delivery_id(event_id: str, target: str) -> str:
    """Return the id of an event's delivery to a target."""
    return f"{event_id}-{target}"


# --- signatures, as Standard Webhooks 1.0 defines them: https://www.standardwebhooks.com


def new_secret() -> str:
    """Create a secret for one endpoint: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(secrets_: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers of one attempt; while a secret is rotated, it is signed by both."""
    timestamp = int(at.timestamp())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, message_id, timestamp, body) for secret in secrets_),
    }


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over id, timestamp (s since 1970) and body, joined by dots."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = b".".join([message_id.encode(), str(timestamp).encode(), body])
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
