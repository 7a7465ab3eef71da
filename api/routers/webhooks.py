"""Webhooks: endpoints that are told of every job, and what became of each telling."""

from collections.abc import Callable
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from pydantic import BaseModel

from api.context.dependencies import ReadAccess, RequestContext, WriteAccess
from api.http.responses import JSON
from api.requests.job_request import parse_json
from api.schemas.webhooks import (
    DeliveryPage,
    DeliveryResponse,
    EndpointChange,
    EndpointList,
    EndpointRequest,
    EndpointResponse,
    EndpointWithSecret,
    SecretResponse,
    delivery_response,
    endpoint_response,
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
async def list_endpoints(context: ReadAccess) -> Response:
    """List your webhook endpoints; they are at most 20."""

    def listed() -> EndpointList:
        return EndpointList(data=[endpoint_response(one) for one in context.services.endpoints.of(context.caller)])

    return _json(await context.run(listed))


@router.post("/webhook-endpoints", status_code=201, response_model=EndpointWithSecret)
async def create_endpoint(context: WriteAccess) -> Response:
    """Register an endpoint: it is told of the end of every job from now on. Its secret is shown this once."""
    request = parse_json(EndpointRequest, await context.request.body())
    await context.services.check_receiver(request.url, pointer="/url")

    def create() -> EndpointWithSecret:
        endpoints = context.services.endpoints
        if len(list(islice(endpoints.of(context.caller), MAX_ENDPOINTS))) == MAX_ENDPOINTS:
            raise TooManyEndpoints(f"you have {MAX_ENDPOINTS} endpoints already: delete one first")
        now = context.services.jobs.now()
        made = endpoints.create(
            Endpoint(
                id=keys.new_id("we", now),
                caller=context.caller,
                url=request.url,
                events=tuple(dict.fromkeys(request.events)),
                description=request.description,
                secret=new_secret(),
                created_at=now,
            )
        )
        context.services.endpoint_cache.mark(context.caller)
        return EndpointWithSecret(**endpoint_response(made).model_dump(), secret=made.secret)

    made = await context.run(create)
    return _json(made, 201, Location=f"{context.base_url}/v1/webhook-endpoints/{made.id}")


@router.get("/webhook-endpoints/{endpoint_id}", response_model=EndpointResponse)
async def read_endpoint(context: ReadAccess, endpoint_id: EndpointId) -> Response:
    """Read an endpoint: also whether, since when and why it is disabled."""
    return _json(endpoint_response(await context.run(_own_endpoint, context, endpoint_id)))


@router.patch("/webhook-endpoints/{endpoint_id}", response_model=EndpointResponse)
async def change_endpoint(context: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Change an endpoint; also start a disabled one anew."""
    request = parse_json(EndpointChange, await context.request.body())
    if request.url is not None:
        await context.services.check_receiver(request.url, pointer="/url")

    def change() -> EndpointResponse:
        _own_endpoint(context, endpoint_id)
        fields = {name: value for name, value in request.model_dump(exclude={"disabled"}).items() if value is not None}
        if "events" in fields:
            fields["events"] = tuple(dict.fromkeys(fields["events"]))
        if request.disabled is not None:
            fields |= {
                "disabled_at": context.services.jobs.now() if request.disabled else None,
                "disabled_because": "asked" if request.disabled else None,
                "failing_since": None,
            }
        return endpoint_response(_found(context.services.endpoints.change(context.caller, endpoint_id, **fields)))

    return _json(await context.run(change))


@router.delete("/webhook-endpoints/{endpoint_id}", status_code=204)
async def delete_endpoint(context: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Delete an endpoint; what was still to be told there is not told."""

    def delete() -> None:
        context.services.endpoints.delete(_own_endpoint(context, endpoint_id))

    await context.run(delete)
    return Response(status_code=204)


@router.post("/webhook-endpoints/{endpoint_id}/rotate-secret", response_model=SecretResponse)
async def rotate_secret(context: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Replace a secret: for 24 hours both sign. The id `default` stands for the URLs that jobs name themselves."""

    def rotate() -> SecretResponse:
        endpoints, now = context.services.endpoints, context.services.jobs.now()
        if endpoint_id == DEFAULT_ENDPOINT:
            endpoints.default(context.caller)
        else:
            _own_endpoint(context, endpoint_id)
        rotated = _found(endpoints.rotate(context.caller, endpoint_id, now))
        return SecretResponse(id=rotated.id, secret=rotated.secret, old_secret_until=rotated.old_until)

    return _json(await context.run(rotate))


@router.post("/webhook-endpoints/{endpoint_id}/test", status_code=202, response_model=DeliveryResponse)
async def test_webhook(context: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Send a message of type `webhook.test`; the answer is its delivery, to be read again for how it went."""

    def send() -> DeliveryResponse:
        endpoint, now = _own_endpoint(context, endpoint_id), keys.whole_ms(context.services.jobs.now())
        event = Event(
            id=keys.event_id(keys.new_id("test", now), 0), type=TEST_EVENT, caller=context.caller, occurred_at=now
        )
        context.services.outbox.put(event, endpoint.id, now)
        context.services.jobs.announced()
        name = delivery_id(event.id, endpoint.id)
        return delivery_response(Delivery(id=name, event=event, target=endpoint.id, url=endpoint.url, next_try_at=now))

    return _json(await context.run(send), 202)


@router.get("/webhook-deliveries", response_model=DeliveryPage)
async def list_deliveries(
    context: ReadAccess,
    job: Annotated[str | None, Query(max_length=64, pattern=keys.JOB_ID, description="Only of this job.")] = None,
    status: Annotated[DeliveryState | None, Query(description="Only deliveries in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most so many.")] = 20,
    after: Annotated[
        str, Query(max_length=128, pattern=keys.DELIVERY_CURSOR, description="The `next_cursor` of the page before.")
    ] = "",
) -> Response:
    """List what you were told, the newest jobs first."""

    def listed() -> DeliveryPage:
        return _page(context, job, lambda one: status is None or one.state is status, limit, after)

    return _json(await context.run(listed))


@router.get("/webhook-deliveries/{delivery_id}", response_model=DeliveryResponse)
async def read_delivery(context: ReadAccess, delivery_id: DeliveryId) -> Response:
    """Read a delivery with its tries."""
    return _json(delivery_response(await context.run(_own_delivery, context, delivery_id)))


@router.post("/webhook-deliveries/{delivery_id}/redeliver", status_code=202, response_model=DeliveryResponse)
async def redeliver(context: WriteAccess, delivery_id: DeliveryId) -> Response:
    """Send it again now, whatever became of it, under the same `webhook-id`; on failure the schedule begins anew."""

    def send() -> DeliveryResponse:
        delivery, now = _own_delivery(context, delivery_id), keys.whole_ms(context.services.jobs.now())
        context.services.outbox.put(delivery.event, delivery.target, now)
        started = context.services.deliveries.reset(delivery, now)
        context.services.jobs.announced()
        return delivery_response(started)

    return _json(await context.run(send), 202)


def _own_endpoint(context: RequestContext, endpoint_id: str) -> Endpoint:
    is_one = keys.is_id(endpoint_id, "we")
    return _found(context.services.endpoints.find(context.caller, endpoint_id) if is_one else None)


def _found(endpoint: Endpoint | None) -> Endpoint:
    if endpoint is None:
        raise EndpointNotFound("no such webhook endpoint")
    return endpoint


def _own_delivery(context: RequestContext, delivery_id: str) -> Delivery:
    held = context.services.deliveries.find(context.caller, delivery_id) if keys.is_delivery_id(delivery_id) else None
    if held is None:
        raise DeliveryNotFound("no such delivery")
    return held.record


def _page(
    context: RequestContext, job_id: str | None, wanted: Callable[[Delivery], bool], limit: int, after: str
) -> DeliveryPage:
    found: list[DeliveryResponse] = []
    cursor = after
    for scanned, (place, one) in enumerate(context.services.deliveries.of(context.caller, job_id=job_id, after=after)):
        if scanned == MAX_SCANNED or (len(found) == limit and wanted(one)):
            return DeliveryPage(data=found, next_cursor=cursor)
        if wanted(one):
            found.append(delivery_response(one))
        cursor = place
    return DeliveryPage(data=found, next_cursor=None)


def _json(body: BaseModel, status: int = 200, **headers: str) -> Response:
    return Response(body.model_dump_json(), status, headers, JSON)
