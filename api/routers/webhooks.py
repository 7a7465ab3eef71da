"""Webhooks: endpoints that are told of every job, and what became of each telling."""

from collections.abc import Callable
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from pydantic import BaseModel

from api.context.dependencies import ReadAccess, RequestContext, WriteAccess
from api.http.responses import JSON
from api.requests.job_request import validated
from api.schemas.webhooks import (
    DeliveryBody,
    DeliveryPage,
    EndpointBody,
    EndpointChange,
    EndpointList,
    EndpointRequest,
    EndpointWithSecret,
    SecretBody,
    delivery_body,
    endpoint_body,
)
from shared.domain.webhook_signature import new_secret
from shared.errors import DeliveryNotFound, EndpointNotFound, TooManyEndpoints
from shared.repositories.outbox import Event
from shared.repositories.webhooks import DEFAULT_ENDPOINT, TEST_EVENT, Delivery, DeliveryState, Endpoint, delivery_id
from shared.storage import keys

router = APIRouter(prefix="/v1", tags=["webhooks"])

MAX_ENDPOINTS = 20
MAX_PAGE = 100
MAX_SCANNED = 1_000  # deliveries that one page may look at
EndpointId = Annotated[str, InPath(description="The endpoint's id.")]
DeliveryId = Annotated[str, InPath(description="The delivery's id.")]


@router.get("/webhook-endpoints", response_model=EndpointList)
async def list_endpoints(call: ReadAccess) -> Response:
    """List your webhook endpoints; they are at most 20."""

    def listed() -> EndpointList:
        return EndpointList(data=[endpoint_body(one) for one in call.services.endpoints.of(call.caller)])

    return _json(await call.run(listed))


@router.post("/webhook-endpoints", status_code=201, response_model=EndpointWithSecret)
async def create_endpoint(call: WriteAccess) -> Response:
    """Register an endpoint: it is told of the end of every job from now on. Its secret is shown this once."""
    wish = validated(EndpointRequest, await call.request.body())
    await call.services.check_receiver(wish.url, pointer="/url")

    def create() -> EndpointWithSecret:
        endpoints = call.services.endpoints
        if len(list(islice(endpoints.of(call.caller), MAX_ENDPOINTS))) == MAX_ENDPOINTS:
            raise TooManyEndpoints(f"you have {MAX_ENDPOINTS} endpoints already: delete one first")
        now = call.services.jobs.now()
        made = endpoints.create(
            Endpoint(
                id=keys.new_id("we", now),
                caller=call.caller,
                url=wish.url,
                events=tuple(dict.fromkeys(wish.events)),
                description=wish.description,
                secret=new_secret(),
                created_at=now,
            )
        )
        call.services.endpoint_cache.mark(call.caller)
        return EndpointWithSecret(**endpoint_body(made).model_dump(), secret=made.secret)

    made = await call.run(create)
    return _json(made, 201, Location=f"{call.base_url}/v1/webhook-endpoints/{made.id}")


@router.get("/webhook-endpoints/{endpoint_id}", response_model=EndpointBody)
async def read_endpoint(call: ReadAccess, endpoint_id: EndpointId) -> Response:
    """Read an endpoint: also whether, since when and why it is disabled."""
    return _json(endpoint_body(await call.run(_own_endpoint, call, endpoint_id)))


@router.patch("/webhook-endpoints/{endpoint_id}", response_model=EndpointBody)
async def change_endpoint(call: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Change an endpoint; also start a disabled one anew."""
    wish = validated(EndpointChange, await call.request.body())
    if wish.url is not None:
        await call.services.check_receiver(wish.url, pointer="/url")

    def change() -> EndpointBody:
        _own_endpoint(call, endpoint_id)
        fields = {name: value for name, value in wish.model_dump(exclude={"disabled"}).items() if value is not None}
        if "events" in fields:
            fields["events"] = tuple(dict.fromkeys(fields["events"]))
        if wish.disabled is not None:
            fields |= {
                "disabled_at": call.services.jobs.now() if wish.disabled else None,
                "disabled_because": "asked" if wish.disabled else None,
                "failing_since": None,
            }
        return endpoint_body(_found(call.services.endpoints.change(call.caller, endpoint_id, **fields)))

    return _json(await call.run(change))


@router.delete("/webhook-endpoints/{endpoint_id}", status_code=204)
async def delete_endpoint(call: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Delete an endpoint; what was still to be told there is not told."""

    def delete() -> None:
        call.services.endpoints.delete(_own_endpoint(call, endpoint_id))

    await call.run(delete)
    return Response(status_code=204)


@router.post("/webhook-endpoints/{endpoint_id}/rotate-secret", response_model=SecretBody)
async def rotate_secret(call: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Replace a secret: for 24 hours both sign. The id `default` stands for the URLs that jobs name themselves."""

    def rotate() -> SecretBody:
        endpoints, now = call.services.endpoints, call.services.jobs.now()
        if endpoint_id == DEFAULT_ENDPOINT:
            endpoints.default(call.caller)
        else:
            _own_endpoint(call, endpoint_id)
        rotated = _found(endpoints.rotate(call.caller, endpoint_id, now))
        return SecretBody(id=rotated.id, secret=rotated.secret, old_secret_until=rotated.old_until)

    return _json(await call.run(rotate))


@router.post("/webhook-endpoints/{endpoint_id}/test", status_code=202, response_model=DeliveryBody)
async def test_webhook(call: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Send a message of type `webhook.test`; the answer is its delivery, to be read again for how it went."""

    def send() -> DeliveryBody:
        endpoint, now = _own_endpoint(call, endpoint_id), keys.whole_ms(call.services.jobs.now())
        event = Event(
            id=keys.event_id(keys.new_id("test", now), 0), type=TEST_EVENT, caller=call.caller, occurred_at=now
        )
        call.services.outbox.put(event, endpoint.id, now)
        call.services.jobs.announced()
        name = delivery_id(event.id, endpoint.id)
        return delivery_body(Delivery(id=name, event=event, target=endpoint.id, url=endpoint.url, next_try_at=now))

    return _json(await call.run(send), 202)


@router.get("/webhook-deliveries", response_model=DeliveryPage)
async def list_deliveries(
    call: ReadAccess,
    job: Annotated[str | None, Query(max_length=64, pattern=keys.JOB_ID, description="Only of this job.")] = None,
    status: Annotated[DeliveryState | None, Query(description="Only deliveries in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most so many.")] = 20,
    after: Annotated[
        str, Query(max_length=128, pattern=keys.DELIVERY_CURSOR, description="The `next_cursor` of the page before.")
    ] = "",
) -> Response:
    """List what you were told, the newest jobs first."""

    def listed() -> DeliveryPage:
        return _page(call, job, lambda one: status is None or one.state is status, limit, after)

    return _json(await call.run(listed))


@router.get("/webhook-deliveries/{delivery_id}", response_model=DeliveryBody)
async def read_delivery(call: ReadAccess, delivery_id: DeliveryId) -> Response:
    """Read a delivery with its tries."""
    return _json(delivery_body(await call.run(_own_delivery, call, delivery_id)))


@router.post("/webhook-deliveries/{delivery_id}/redeliver", status_code=202, response_model=DeliveryBody)
async def redeliver(call: WriteAccess, delivery_id: DeliveryId) -> Response:
    """Send it again now, whatever became of it, under the same `webhook-id`; on failure the schedule begins anew."""

    def send() -> DeliveryBody:
        delivery, now = _own_delivery(call, delivery_id), keys.whole_ms(call.services.jobs.now())
        call.services.outbox.put(delivery.event, delivery.target, now)
        started = call.services.deliveries.reset(delivery, now)
        call.services.jobs.announced()
        return delivery_body(started)

    return _json(await call.run(send), 202)


def _own_endpoint(call: RequestContext, endpoint_id: str) -> Endpoint:
    is_one = keys.is_id(endpoint_id, "we")
    return _found(call.services.endpoints.find(call.caller, endpoint_id) if is_one else None)


def _found(endpoint: Endpoint | None) -> Endpoint:
    if endpoint is None:
        raise EndpointNotFound("no such webhook endpoint")
    return endpoint


def _own_delivery(call: RequestContext, delivery_id: str) -> Delivery:
    held = call.services.deliveries.find(call.caller, delivery_id) if keys.is_delivery_id(delivery_id) else None
    if held is None:
        raise DeliveryNotFound("no such delivery")
    return held.record


def _page(
    call: RequestContext, job_id: str | None, wanted: Callable[[Delivery], bool], limit: int, after: str
) -> DeliveryPage:
    found: list[DeliveryBody] = []
    cursor = after
    for scanned, (place, one) in enumerate(call.services.deliveries.of(call.caller, job_id=job_id, after=after)):
        if scanned == MAX_SCANNED or (len(found) == limit and wanted(one)):
            return DeliveryPage(data=found, next_cursor=cursor)
        if wanted(one):
            found.append(delivery_body(one))
        cursor = place
    return DeliveryPage(data=found, next_cursor=None)


def _json(body: BaseModel, status: int = 200, **headers: str) -> Response:
    return Response(body.model_dump_json(), status, headers, JSON)
