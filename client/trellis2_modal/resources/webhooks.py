"""The caller's webhook endpoints, and the deliveries to them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from trellis2_modal._http import Connection, Request, json_content
from trellis2_modal._sync import SyncFacade, sync_iterator, sync_method
from trellis2_modal.types.record import ApiRecord

_ENDPOINTS = "v1/webhook-endpoints"
_DELIVERIES = "v1/webhook-deliveries"


@dataclass(frozen=True, slots=True)
class Endpoint(ApiRecord):
    """A URL that receives a webhook when a job ends. secret: verifies its webhooks; shown only once.

    disabled_because: `gone` (it responded 410), `failing` (for five days) or `asked`. raw: the record as received.
    """

    id: str
    url: str
    created_at: datetime
    events: Sequence[str] = ()
    description: str = ""
    failing_since: datetime | None = None
    disabled_at: datetime | None = None
    disabled_because: str | None = None
    secret: str | None = field(default=None, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Attempt(ApiRecord):
    """One attempt at a delivery. status: of the response, None without one. answer: the start of its body."""

    at: datetime
    status: int | None = None
    duration_ms: int = 0
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Delivery(ApiRecord):
    """The delivery of one event to one URL. state: `pending`, `delivered` or `failed`. raw: the record as received."""

    id: str
    event_id: str
    type: str
    state: str
    occurred_at: datetime
    job_id: str | None = None
    endpoint_id: str | None = None
    url: str | None = None
    next_try_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


class AsyncWebhooks:
    """The caller's webhooks: `client.webhooks`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def endpoints(self) -> list[Endpoint]:
        """List every endpoint, oldest first."""

        def parse(body: Any) -> list[Endpoint]:
            return [Endpoint.from_json(item) for item in body["data"]]

        return await self._connection.fetch(Request("GET", _ENDPOINTS), parse)

    async def create(self, url: str, *, events: Sequence[str] | None = None, description: str = "") -> Endpoint:
        """Register a URL, which receives the event of every job that ends from now on. Only this result has `secret`.

        events: `job.succeeded`, `job.failed`, ...; every terminal event by default.

        Raises:
            InputRejected: the service does not send to this URL.
        """
        body = {"url": url, "description": description} | ({"events": list(events)} if events else {})
        request = Request("POST", _ENDPOINTS, content=json_content(body), repeatable=False)
        return await self._connection.fetch(request, Endpoint.from_json)

    async def enable(self, endpoint_id: str) -> Endpoint:
        """Enable a disabled endpoint again."""
        content = json_content({"disabled": False})
        return await self._connection.fetch(Request("PATCH", _path(endpoint_id), content=content), Endpoint.from_json)

    async def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint and the deliveries that it has not received yet.

        Raises:
            NotFound: there is no such endpoint, or it is another caller's.
        """
        await self._connection.send(Request("DELETE", _path(endpoint_id)))

    async def rotate_secret(self, endpoint_id: str) -> str:
        """Create a new secret; the old one signs as well for 24 hours. `default`: for the URLs that jobs name."""
        request = Request("POST", _path(endpoint_id, "/rotate-secret"), repeatable=False)
        return await self._connection.fetch(request, lambda body: str(body["secret"]))

    async def test(self, endpoint_id: str) -> Delivery:
        """Send an event of type `webhook.test`."""
        return await self._connection.fetch(Request("POST", _path(endpoint_id, "/test")), Delivery.from_json)

    def deliveries(
        self, *, job: str | None = None, status: str | None = None, page_limit: int = 100
    ) -> AsyncGenerator[Delivery, None]:
        """Iterate over deliveries, those of the newest jobs first, in pages of `page_limit` (1-100)."""
        query = {"limit": str(page_limit), "job": job, "status": status}
        return self._connection.fetch_pages(_DELIVERIES, query, Delivery.from_json)

    async def redeliver(self, delivery_id: str) -> Delivery:
        """Send an event again now, under its old `webhook-id`, whatever the delivery's state."""
        request = Request("POST", f"{_DELIVERIES}/{quote(delivery_id, safe='')}/redeliver")
        return await self._connection.fetch(request, Delivery.from_json)


def _path(endpoint_id: str, suffix: str = "") -> str:
    return f"{_ENDPOINTS}/{quote(endpoint_id, safe='')}{suffix}"


class Webhooks(SyncFacade[AsyncWebhooks]):
    """The caller's webhooks: `client.webhooks`."""

    endpoints = sync_method(AsyncWebhooks.endpoints)
    create = sync_method(AsyncWebhooks.create)
    enable = sync_method(AsyncWebhooks.enable)
    delete = sync_method(AsyncWebhooks.delete)
    rotate_secret = sync_method(AsyncWebhooks.rotate_secret)
    test = sync_method(AsyncWebhooks.test)
    deliveries = sync_iterator(AsyncWebhooks.deliveries)
    redeliver = sync_method(AsyncWebhooks.redeliver)
