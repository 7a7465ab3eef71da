"""The examples of webhooks in the OpenAPI document, built by the code that builds the real answers and messages."""

import json
from typing import Any

from pydantic import BaseModel

from api.openapi.examples.jobs import BASE_URL, RUNNING, SUCCEEDED
from api.schemas.webhooks import (
    DeliveryPage,
    EndpointList,
    EndpointWithSecret,
    SecretResponse,
    delivery_response,
    endpoint_response,
)
from shared.repositories.outbox import Event, event_of
from shared.repositories.webhooks import (
    TEST_EVENT,
    Attempt,
    Delivery,
    DeliveryState,
    Endpoint,
    delivery_id,
    signed_headers,
)
from shared.webhook_payloads import job_body_of, progress_body_of

_AT = SUCCEEDED.created_at
_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"  # noqa: S105 - the standard's own example
_ENDPOINT = Endpoint(
    id="we_01k9w3v2cy5h8m4t6q0z7r1n2b",
    caller="shop",
    url="https://hooks.example.com/3d",
    description="the shop",
    secret=_SECRET,
    created_at=_AT,
)
_EVENT = event_of(SUCCEEDED) or Event(id="", type="", caller="", occurred_at=_AT)
_DELIVERY = Delivery(
    id=delivery_id(_EVENT.id, _ENDPOINT.id),
    event=_EVENT,
    target=_ENDPOINT.id,
    url=_ENDPOINT.url,
    state=DeliveryState.DELIVERED,
    tries=1,
    attempts=(Attempt(at=_EVENT.occurred_at, status=200, duration_ms=87, answer="ok"),),
    next_try_at=_EVENT.occurred_at,
    finished_at=_EVENT.occurred_at,
)
_TEST = Event(id="evt_01k9w3v9aa2x4b6n8p0r5t7w9y_0", type=TEST_EVENT, caller="shop", occurred_at=_AT)


def _plain(body: BaseModel) -> Any:
    return body.model_dump(mode="json")


ENDPOINT_REQUEST = {"url": _ENDPOINT.url, "events": ["job.succeeded", "job.failed"], "description": "the shop"}
ENDPOINT_CHANGE = {"disabled": False}
ENDPOINT = _plain(endpoint_response(_ENDPOINT))
NEW_ENDPOINT = _plain(EndpointWithSecret(**endpoint_response(_ENDPOINT).model_dump(), secret=_SECRET))
ENDPOINTS = _plain(EndpointList(data=[endpoint_response(_ENDPOINT)]))
SECRET = _plain(SecretResponse(id=_ENDPOINT.id, secret=_SECRET, old_secret_until=_AT.replace(day=6)))
DELIVERY = _plain(delivery_response(_DELIVERY))
DELIVERIES = _plain(DeliveryPage(data=[delivery_response(_DELIVERY)], next_cursor=None))
TEST_DELIVERY = _plain(
    delivery_response(
        Delivery(
            id=delivery_id(_TEST.id, _ENDPOINT.id),
            event=_TEST,
            target=_ENDPOINT.id,
            url=_ENDPOINT.url,
            next_try_at=_AT,
        )
    )
)
_BODY = job_body_of(_EVENT, SUCCEEDED, BASE_URL)
JOB_EVENT = json.loads(_BODY)
PROGRESS_EVENT_EXAMPLE = json.loads(progress_body_of(RUNNING, _AT.replace(second=6), BASE_URL))
# Header -> description, example.
SIGNED_HEADERS = {
    name: (meaning, signed_headers([_SECRET], _EVENT.id, _EVENT.occurred_at, _BODY)[name])
    for name, meaning in {
        "webhook-id": "The event's id, the same for every attempt: ignore an id that you have seen.",
        "webhook-timestamp": "Time of this attempt, seconds since 1970: refuse messages older than five minutes.",
        "webhook-signature": "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`; two while a secret is rotated.",
    }.items()
}
