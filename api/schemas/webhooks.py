"""JSON of webhook endpoints, whose secret is shown once, and of deliveries with every attempt."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from api.schemas.jobs import NextCursor, Printable, PublicUrl, RequestModel
from shared.domain.batch import BATCH_EVENT_TYPES, BatchEventType
from shared.domain.job import EVENT_TYPES, EventType
from shared.repositories.webhooks import Delivery, DeliveryState, Endpoint

Events = Annotated[
    list[EventType | BatchEventType], Field(min_length=1, max_length=20, description="The events that are sent to it.")
]
Description = Annotated[str, StringConstraints(max_length=200), Printable, Field(description="Your note.")]


class EndpointRequest(RequestModel):
    """A new endpoint: it receives the end of every job that is submitted from now on."""

    url: PublicUrl
    events: Events = Field(default=[*EVENT_TYPES, *BATCH_EVENT_TYPES])
    description: Description = ""


class EndpointChange(RequestModel):
    """New values; absent fields keep their values."""

    url: PublicUrl | None = None
    events: Events | None = None
    description: Description | None = None
    disabled: Annotated[bool | None, Field(description="False enables a disabled endpoint again.")] = None


class EndpointResponse(BaseModel):
    """An endpoint. Times are UTC."""

    id: str
    url: str
    events: list[EventType | BatchEventType]
    description: str
    created_at: datetime
    failing_since: Annotated[datetime | None, Field(description="The first failure after the last success.")]
    disabled_at: datetime | None
    disabled_because: Annotated[
        str | None,
        Field(description="`gone`: it answered 410; `failing`: it failed for five days; `asked`: you disabled it."),
    ]
    old_secret_until: Annotated[
        datetime | None, Field(description="Until then a second signature uses the previous secret.")
    ]


class EndpointWithSecret(EndpointResponse):
    """An endpoint and its secret, which is not shown again."""

    secret: Annotated[str, Field(description="`whsec_...`: verifies the signatures of its messages.")]


class EndpointList(BaseModel):
    """All endpoints, oldest first."""

    data: list[EndpointResponse]
    next_cursor: None = None


class SecretResponse(BaseModel):
    """A new secret, which is not shown again; the previous one signs too until `old_secret_until`."""

    id: str
    secret: str
    old_secret_until: datetime | None


class AttemptResponse(BaseModel):
    """One attempt to send a delivery."""

    at: datetime
    status: Annotated[int | None, Field(description="Null: no answer within 15 s, or no connection.")]
    duration_ms: int
    answer: Annotated[str, Field(description="The first 2,000 characters; text that looks like a secret is removed.")]


class DeliveryResponse(BaseModel):
    """The sending of one event to one receiver."""

    id: str
    event_id: Annotated[str, Field(description="The `webhook-id` of every attempt.")]
    type: str
    job_id: Annotated[str | None, Field(description="Null in a test.")]
    endpoint_id: Annotated[str | None, Field(description="Null if the job itself names the URL.")]
    url: Annotated[str | None, Field(description="The URL of the last attempt, without its query.")]
    state: DeliveryState
    occurred_at: datetime
    next_try_at: datetime | None
    finished_at: datetime | None
    attempts: list[AttemptResponse]


class DeliveryPage(BaseModel):
    """A page of deliveries, those of the newest jobs first."""

    data: list[DeliveryResponse]
    next_cursor: NextCursor


def endpoint_response(endpoint: Endpoint) -> EndpointResponse:
    """Return the JSON of an endpoint, without its secrets."""
    return EndpointResponse(
        id=endpoint.id,
        url=endpoint.url,
        events=list(endpoint.events),
        description=endpoint.description,
        created_at=endpoint.created_at,
        failing_since=endpoint.failing_since,
        disabled_at=endpoint.disabled_at,
        disabled_because=endpoint.disabled_because,
        old_secret_until=endpoint.old_until,
    )


def delivery_response(delivery: Delivery) -> DeliveryResponse:
    """Return the JSON of a delivery."""
    is_pending = delivery.state is DeliveryState.PENDING
    return DeliveryResponse(
        id=delivery.id,
        event_id=delivery.event.id,
        type=delivery.event.type,
        job_id=delivery.event.job_id,
        endpoint_id=delivery.target if delivery.target.startswith("we_") else None,
        url=delivery.url.partition("?")[0] or None,
        state=delivery.state,
        occurred_at=delivery.event.occurred_at,
        next_try_at=delivery.next_try_at if is_pending else None,
        finished_at=delivery.finished_at,
        attempts=[AttemptResponse.model_validate(attempt.model_dump()) for attempt in delivery.attempts],
    )
