"""Declare the webhooks that the service sends, for the `webhooks` of the OpenAPI document."""

from fastapi import APIRouter

from api.http.responses import JSON
from api.openapi.examples.batches import BATCH_EVENTS
from api.openapi.examples.webhooks import JOB_EVENT, PROGRESS_EVENT_EXAMPLE, SIGNED_HEADERS
from api.openapi.responses import header_parameter, request_docs
from shared.domain.batch import BATCH_EVENT_TYPES
from shared.domain.job import EVENT_TYPES, PROGRESS_EVENT
from shared.repositories.webhooks import TEST_EVENT
from shared.webhook_payloads import BatchEventPayload, JobEventPayload

_SUMMARIES = {
    TEST_EVENT: "A test",
    PROGRESS_EVENT: "A job has made progress",
    "batch.awaiting_confirmation": "A batch is planned and waits for confirmation",
}
_AT_LEAST_ONCE = "The same `webhook-id` may come more than once."
_BEST_EFFORT = (
    "Best effort: sent once, at most every 500 ms, possibly out of order: sort by `timestamp`. "
    "Only to the URL that a job names with this event."
)
_RECEIVER_RESPONSES: dict[int | str, dict[str, str]] = {
    "2XX": {"description": "Delivered."},
    "410": {"description": "Send nothing to this URL again."},
    "default": {"description": "A failure, also a redirect: it is sent again; `Retry-After` is honoured."},
}
_IGNORED_RESPONSE: dict[int | str, dict[str, str]] = {"default": {"description": "The answer is ignored."}}

router = APIRouter()


def _receive() -> None:
    """Stand for a receiver: FastAPI wants a function for each webhook."""


def _declare(event: str) -> None:
    is_progress = event == PROGRESS_EVENT
    payload = BatchEventPayload if event in BATCH_EVENT_TYPES else JobEventPayload
    example = BATCH_EVENTS.get(event) or (PROGRESS_EVENT_EXAMPLE if is_progress else JOB_EVENT | {"type": event})
    signature = [header_parameter(name, *docs, required=True) for name, docs in SIGNED_HEADERS.items()]
    router.add_api_route(
        event,
        _receive,
        methods=["POST"],
        operation_id=event.replace(".", "_"),
        summary=_SUMMARIES.get(event, "A {} has ended as {}".format(*event.split("."))),
        description=f"Signed as Standard Webhooks 1.0. {_BEST_EFFORT if is_progress else _AT_LEAST_ONCE}",
        responses=_IGNORED_RESPONSE if is_progress else _RECEIVER_RESPONSES,
        openapi_extra=request_docs({JSON: (payload, example)}, required=True) | {"parameters": signature},
    )


for _event in (*EVENT_TYPES, PROGRESS_EVENT, *BATCH_EVENT_TYPES, TEST_EVENT):
    _declare(_event)
