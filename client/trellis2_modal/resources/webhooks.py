"""Webhook endpoints of yours, and what became of each message to them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from trellis2_modal._http import Connection, Request, json_content
from trellis2_modal._pagination import pages
from trellis2_modal._sync import SyncFacade, blocking, iterating
from trellis2_modal.types.job import known_fields

_ENDPOINTS = "v1/webhook-endpoints"
_DELIVERIES = "v1/webhook-deliveries"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL that is told of the end of every job. secret: what its messages are verified with, shown once.

    disabled_because: `gone` (it said 410), `failing` (for five days) or `asked`. raw: the body as it came.
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

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> "Endpoint":
        """Read an endpoint's body. Raises KeyError, ValueError or TypeError where it is none."""
        since = body.get("failing_since")
        known = known_fields(cls, body) | {"failing_since": datetime.fromisoformat(since) if since else None}
        return cls(**known | {"raw": dict(body)})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver. status: of the answer; None where none came. answer: its first characters."""

    at: datetime
    status: int | None = None
    duration_ms: int = 0
    answer: str = ""

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> "Attempt":
        """Read a try of a delivery's body."""
        return cls(**known_fields(cls, body) | {"at": datetime.fromisoformat(body["at"])})


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message's way to one URL. state: `pending`, `delivered` or `failed`. raw: the body as it came."""

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
    attempts: Sequence[Attempt] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> "Delivery":
        """Read a delivery's body. Raises KeyError, ValueError or TypeError where it is none."""
        attempts = tuple(Attempt.from_wire(one) for one in body.get("attempts") or ())
        return cls(**known_fields(cls, body) | {"attempts": attempts, "raw": dict(body)})


class AsyncWebhooks:
    """The webhooks of a caller: `client.webhooks`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def endpoints(self) -> list[Endpoint]:
        """Every endpoint, oldest first."""

        def read(body: Any) -> list[Endpoint]:
            return [Endpoint.from_wire(one) for one in body["data"]]

        return await self._connection.ask(Request("GET", _ENDPOINTS), read)

    async def create(self, url: str, *, events: Sequence[str] | None = None, description: str = "") -> Endpoint:
        """Register a URL: it is told of the end of every job from now on. The answer has its `secret`, this once.

        events: `job.succeeded`, `job.failed`, ...; every end where none are named.

        Raises:
            InputRejected: the service does not send to this URL.
        """
        body = {"url": url, "description": description} | ({"events": list(events)} if events else {})
        return await self._connection.ask(
            Request("POST", _ENDPOINTS, content=json_content(body), repeatable=False), Endpoint.from_wire
        )

    async def enable(self, endpoint_id: str) -> Endpoint:
        """Start a disabled endpoint anew."""
        content = json_content({"disabled": False})
        return await self._connection.ask(Request("PATCH", _path(endpoint_id), content=content), Endpoint.from_wire)

    async def delete(self, endpoint_id: str) -> None:
        """Remove an endpoint; what was still to be told there is not told.

        Raises:
            NotFound: there is none, or it is not yours.
        """
        await self._connection.send(Request("DELETE", _path(endpoint_id)))

    async def rotate_secret(self, endpoint_id: str) -> str:
        """A new secret; the old one signs beside it for 24 hours. `default`: of the URLs that jobs name themselves."""
        call = Request("POST", _path(endpoint_id, "/rotate-secret"), repeatable=False)
        return await self._connection.ask(call, lambda body: str(body["secret"]))

    async def test(self, endpoint_id: str) -> Delivery:
        """Send a message of type `webhook.test`."""
        return await self._connection.ask(Request("POST", _path(endpoint_id, "/test")), Delivery.from_wire)

    async def deliveries(
        self, *, job: str | None = None, status: str | None = None, page_limit: int = 100
    ) -> AsyncGenerator[Delivery, None]:
        """What was sent, of the newest jobs first; pages of `page_limit` (1-100) are fetched as they are needed."""
        query = {"limit": str(page_limit), "job": job, "status": status}
        async with aclosing(pages(self._connection, _DELIVERIES, query, Delivery.from_wire)) as found:
            async for delivery in found:
                yield delivery

    async def redeliver(self, delivery_id: str) -> Delivery:
        """Send a message again now, under its old `webhook-id`, whatever became of it."""
        call = Request("POST", f"{_DELIVERIES}/{quote(delivery_id, safe='')}/redeliver")
        return await self._connection.ask(call, Delivery.from_wire)


def _path(endpoint_id: str, below: str = "") -> str:
    return f"{_ENDPOINTS}/{quote(endpoint_id, safe='')}{below}"


class Webhooks(SyncFacade[AsyncWebhooks]):
    """The webhooks of a caller: `client.webhooks`."""

    endpoints = blocking(AsyncWebhooks.endpoints)
    create = blocking(AsyncWebhooks.create)
    enable = blocking(AsyncWebhooks.enable)
    delete = blocking(AsyncWebhooks.delete)
    rotate_secret = blocking(AsyncWebhooks.rotate_secret)
    test = blocking(AsyncWebhooks.test)
    deliveries = iterating(AsyncWebhooks.deliveries)
    redeliver = blocking(AsyncWebhooks.redeliver)
