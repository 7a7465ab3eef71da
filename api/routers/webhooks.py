"""Routes of webhooks: endpoints that receive events, and the deliveries of each event."""

from collections.abc import Callable
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from pydantic import BaseModel

from api.context.dependencies import ReadAccess, RequestContext, WriteAccess
from api.http.responses import JSON
from api.openapi.examples import webhooks as examples
from api.openapi.responses import (
    AUTH_ERRORS,
    BODY_ERRORS,
    links,
    next_page_link,
    problems,
    request_docs,
    success,
)
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
from shared import errors
from shared.errors import DeliveryNotFound, EndpointNotFound, TooManyEndpoints
from shared.repositories.outbox import Event
from shared.repositories.webhooks import (
    DEFAULT_ENDPOINT,
    TEST_EVENT,
    Delivery,
    DeliveryState,
    Endpoint,
    delivery_id,
    new_secret,
)
from shared.storage import keys

router = APIRouter(prefix="/v1", tags=["webhooks"])

MAX_ENDPOINTS = 20
MAX_PAGE = 100
MAX_SCANNED = 1_000  # deliveries that one page may scan
ENDPOINT_ERRORS = (*AUTH_ERRORS, errors.EndpointNotFound)
DELIVERY_ERRORS = (*AUTH_ERRORS, errors.DeliveryNotFound)
EndpointId = Annotated[str, InPath(description="The endpoint's id.")]
DeliveryId = Annotated[str, InPath(description="The delivery's id.")]


@router.get(
    "/webhook-endpoints",
    response_model=EndpointList,
    responses=success(200, "All endpoints.", examples.ENDPOINTS) | problems(*AUTH_ERRORS),
)
async def list_endpoints(context: ReadAccess) -> Response:
    """List your webhook endpoints, at most 20."""

    def read_all() -> EndpointList:
        endpoints = context.services.endpoints.of(context.caller)
        return EndpointList(data=[endpoint_response(endpoint) for endpoint in endpoints])

    return _json(await context.run(read_all))


@router.post(
    "/webhook-endpoints",
    status_code=201,
    response_model=EndpointWithSecret,
    responses=success(
        201,
        "Registered.",
        examples.NEW_ENDPOINT,
        headers=("Location",),
        links=links(
            "endpoint_id", "read_endpoint", "change_endpoint", "rotate_secret", "test_webhook", "delete_endpoint"
        ),
    )
    | problems(*AUTH_ERRORS, *BODY_ERRORS, errors.UrlUnreachable, errors.TooManyEndpoints),
    openapi_extra=request_docs({"application/json": (EndpointRequest, examples.ENDPOINT_REQUEST)}, required=True),
)
async def create_endpoint(context: WriteAccess) -> Response:
    """Register an endpoint: it receives the end of every job from now on. Its secret is shown only in this answer."""
    request = parse_json(EndpointRequest, await context.request.body())
    await context.services.check_receiver(request.url, pointer="/url")

    def create() -> EndpointWithSecret:
        endpoints = context.services.endpoints
        if len(list(islice(endpoints.of(context.caller), MAX_ENDPOINTS))) == MAX_ENDPOINTS:
            raise TooManyEndpoints(f"you already have {MAX_ENDPOINTS} endpoints: delete one first")
        now = context.services.jobs.now()
        created = endpoints.create(
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
        return EndpointWithSecret(**endpoint_response(created).model_dump(), secret=created.secret)

    created = await context.run(create)
    return _json(created, 201, Location=f"{context.base_url}/v1/webhook-endpoints/{created.id}")


@router.get(
    "/webhook-endpoints/{endpoint_id}",
    response_model=EndpointResponse,
    responses=success(200, "The endpoint.", examples.ENDPOINT) | problems(*ENDPOINT_ERRORS),
)
async def read_endpoint(context: ReadAccess, endpoint_id: EndpointId) -> Response:
    """Read an endpoint, also since when and why it is disabled."""
    return _json(endpoint_response(await context.run(_require_endpoint, context, endpoint_id)))


@router.patch(
    "/webhook-endpoints/{endpoint_id}",
    response_model=EndpointResponse,
    responses=success(200, "The endpoint after the change.", examples.ENDPOINT)
    | problems(*ENDPOINT_ERRORS, *BODY_ERRORS, errors.UrlUnreachable),
    openapi_extra=request_docs({"application/json": (EndpointChange, examples.ENDPOINT_CHANGE)}, required=True),
)
async def change_endpoint(context: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Change an endpoint, or enable a disabled one again."""
    request = parse_json(EndpointChange, await context.request.body())
    if request.url is not None:
        await context.services.check_receiver(request.url, pointer="/url")

    def change() -> EndpointResponse:
        _require_endpoint(context, endpoint_id)
        fields = {name: value for name, value in request.model_dump(exclude={"disabled"}).items() if value is not None}
        if "events" in fields:
            fields["events"] = tuple(dict.fromkeys(fields["events"]))
        if request.disabled is not None:
            fields |= {
                "disabled_at": context.services.jobs.now() if request.disabled else None,
                "disabled_because": "asked" if request.disabled else None,
                "failing_since": None,
            }
        return endpoint_response(_require(context.services.endpoints.change(context.caller, endpoint_id, **fields)))

    return _json(await context.run(change))


@router.delete(
    "/webhook-endpoints/{endpoint_id}",
    status_code=204,
    responses=success(204, "Deleted.") | problems(*ENDPOINT_ERRORS),
)
async def delete_endpoint(context: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Delete an endpoint; its pending deliveries are not sent."""

    def delete() -> None:
        context.services.endpoints.delete(_require_endpoint(context, endpoint_id))

    await context.run(delete)
    return Response(status_code=204)


@router.post(
    "/webhook-endpoints/{endpoint_id}/rotate-secret",
    response_model=SecretResponse,
    responses=success(200, "The new secret.", examples.SECRET) | problems(*ENDPOINT_ERRORS),
)
async def rotate_secret(context: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Replace a secret: for 24 hours both sign. The id `default` means the URLs that jobs name themselves."""

    def rotate() -> SecretResponse:
        endpoints, now = context.services.endpoints, context.services.jobs.now()
        if endpoint_id == DEFAULT_ENDPOINT:
            endpoints.default(context.caller)
        else:
            _require_endpoint(context, endpoint_id)
        rotated = _require(endpoints.rotate(context.caller, endpoint_id, now))
        return SecretResponse(id=rotated.id, secret=rotated.secret, old_secret_until=rotated.old_until)

    return _json(await context.run(rotate))


@router.post(
    "/webhook-endpoints/{endpoint_id}/test",
    status_code=202,
    response_model=DeliveryResponse,
    responses=success(
        202, "Will be sent.", examples.TEST_DELIVERY, links=links("delivery_id", "read_delivery", "redeliver")
    )
    | problems(*ENDPOINT_ERRORS),
)
async def test_webhook(context: WriteAccess, endpoint_id: EndpointId) -> Response:
    """Send a message of type `webhook.test`. The answer is its delivery: read that again to see the result."""

    def send() -> DeliveryResponse:
        endpoint, now = _require_endpoint(context, endpoint_id), keys.whole_ms(context.services.jobs.now())
        event = Event(
            id=keys.event_id(keys.new_id("test", now), 0), type=TEST_EVENT, caller=context.caller, occurred_at=now
        )
        context.services.outbox.put(event, endpoint.id, now)
        context.services.jobs.announced()
        name = delivery_id(event.id, endpoint.id)
        return delivery_response(Delivery(id=name, event=event, target=endpoint.id, url=endpoint.url, next_try_at=now))

    return _json(await context.run(send), 202)


@router.get(
    "/webhook-deliveries",
    response_model=DeliveryPage,
    responses=success(200, "A page.", examples.DELIVERIES, links=next_page_link("list_deliveries"))
    | problems(*AUTH_ERRORS, errors.ParameterInvalid),
)
async def list_deliveries(
    context: ReadAccess,
    job: Annotated[
        str | None, Query(max_length=64, pattern=keys.JOB_ID, description="Only deliveries of this job.")
    ] = None,
    status: Annotated[DeliveryState | None, Query(description="Only deliveries in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Maximum number of deliveries.")] = 20,
    after: Annotated[
        str, Query(max_length=128, pattern=keys.DELIVERY_CURSOR, description="The `next_cursor` of the previous page.")
    ] = "",
) -> Response:
    """List your webhook deliveries, those of the newest jobs first."""

    def read_page() -> DeliveryPage:
        return _page(context, job, lambda delivery: status is None or delivery.state is status, limit, after)

    return _json(await context.run(read_page))


@router.get(
    "/webhook-deliveries/{delivery_id}",
    response_model=DeliveryResponse,
    responses=success(200, "The delivery.", examples.DELIVERY) | problems(*DELIVERY_ERRORS),
)
async def read_delivery(context: ReadAccess, delivery_id: DeliveryId) -> Response:
    """Read a delivery with its attempts."""
    return _json(delivery_response(await context.run(_require_delivery, context, delivery_id)))


@router.post(
    "/webhook-deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_model=DeliveryResponse,
    responses=success(202, "Will be sent.", examples.TEST_DELIVERY, links=links("delivery_id", "read_delivery"))
    | problems(*DELIVERY_ERRORS),
)
async def redeliver(context: WriteAccess, delivery_id: DeliveryId) -> Response:
    """Send a delivery again now, under the same `webhook-id`; on failure its retries restart."""

    def send() -> DeliveryResponse:
        delivery, now = _require_delivery(context, delivery_id), keys.whole_ms(context.services.jobs.now())
        context.services.outbox.put(delivery.event, delivery.target, now)
        started = context.services.deliveries.reset(delivery, now)
        context.services.jobs.announced()
        return delivery_response(started)

    return _json(await context.run(send), 202)


def _require_endpoint(context: RequestContext, endpoint_id: str) -> Endpoint:
    is_valid = keys.is_id(endpoint_id, "we")
    return _require(context.services.endpoints.find(context.caller, endpoint_id) if is_valid else None)


def _require(endpoint: Endpoint | None) -> Endpoint:
    if endpoint is None:
        raise EndpointNotFound("no such webhook endpoint")
    return endpoint


def _require_delivery(context: RequestContext, delivery_id: str) -> Delivery:
    is_valid = keys.is_delivery_id(delivery_id)
    versioned = context.services.deliveries.find(context.caller, delivery_id) if is_valid else None
    if versioned is None:
        raise DeliveryNotFound("no such delivery")
    return versioned.record


def _page(
    context: RequestContext, job_id: str | None, matches: Callable[[Delivery], bool], limit: int, after: str
) -> DeliveryPage:
    page: list[DeliveryResponse] = []
    cursor = after
    deliveries = context.services.deliveries.of(context.caller, job_id=job_id, after=after)
    for scanned, (next_cursor, delivery) in enumerate(deliveries):
        if scanned == MAX_SCANNED or (len(page) == limit and matches(delivery)):
            return DeliveryPage(data=page, next_cursor=cursor)
        if matches(delivery):
            page.append(delivery_response(delivery))
        cursor = next_cursor
    return DeliveryPage(data=page, next_cursor=None)


def _json(body: BaseModel, status: int = 200, **headers: str) -> Response:
    return Response(body.model_dump_json(), status, headers, JSON)
