"""The OpenAPI 3.1 document: what FastAPI reads from the routes, and what `operations` knows about them."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.http.problem_details import MEDIA_TYPE
from api.openapi.error_codes import CODES
from api.openapi.examples.batches import TOLD_OF_BATCH
from api.openapi.examples.webhooks import SIGNED_HEADERS, TOLD, TOLD_PROGRESS
from api.openapi.links import links_of
from api.openapi.operations import HEADERS, OPERATIONS, REQUEST_HEADERS, Answer, Operation
from api.schemas.batches import BatchFields, BatchPage, BatchRequest, BatchResponse, RetryRequest, RowPage
from api.schemas.jobs import (
    ExportRequest,
    JobFields,
    JobPage,
    JobRequest,
    Problem,
    UploadRequest,
    UploadResponse,
    UsageResponse,
)
from api.schemas.webhooks import (
    DeliveryPage,
    DeliveryResponse,
    EndpointChange,
    EndpointList,
    EndpointRequest,
    EndpointResponse,
    EndpointWithSecret,
    SecretResponse,
)
from shared.domain.batch import BATCH_EVENT_TYPES
from shared.domain.job import EVENT_TYPES, PROGRESS_EVENT
from shared.domain.job_schema import JobBody
from shared.domain.parameters import PRESETS
from shared.repositories.webhooks import TEST_EVENT
from shared.webhook_payloads.batch_event import BatchEventPayload
from shared.webhook_payloads.job_event import JobEventPayload

_REF = "#/components/schemas/{model}"
_MODELS: tuple[type[BaseModel], ...] = (
    JobRequest,
    JobFields,
    ExportRequest,
    UploadRequest,
    BatchRequest,
    BatchFields,
    RetryRequest,
    EndpointRequest,
    EndpointChange,
)
_ANSWERS: tuple[type[BaseModel], ...] = (
    JobBody,
    JobPage,
    UploadResponse,
    UsageResponse,
    BatchResponse,
    BatchPage,
    RowPage,
    Problem,
    EndpointResponse,
    EndpointList,
    EndpointWithSecret,
    SecretResponse,
    DeliveryResponse,
    DeliveryPage,
    JobEventPayload,
    BatchEventPayload,
)
_EVENTS = (*EVENT_TYPES, PROGRESS_EVENT, *BATCH_EVENT_TYPES, TEST_EVENT)
_BODY_NEEDED = {"submit_job", "create_batch", "create_endpoint", "change_endpoint"}
_OPEN = {"read_health", "read_readiness"}  # need no key
_DESCRIPTION = (
    "A picture becomes a textured 3D model: submit it, then poll, wait, or follow its events. "
    "Errors are problem+json (RFC 9457); match on `code`."
)


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an app whose routes are all in OPERATIONS."""
    found = get_openapi(
        title=app.title, version="1", description=_DESCRIPTION, routes=app.routes, separate_input_output_schemas=False
    )
    for path in found["paths"].values():
        for operation in path.values():
            _complete(operation, OPERATIONS[operation["operationId"]])
    found["webhooks"] = {event: {"post": _webhook(event)} for event in _EVENTS}
    found["components"] = {
        "schemas": _schemas(),
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, `t2_...`."},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        },
    }
    return found


def _webhook(event: str) -> dict[str, Any]:
    """What a receiver gets, and what it may answer."""
    is_progress = event == PROGRESS_EVENT
    summaries = {
        TEST_EVENT: "A test",
        PROGRESS_EVENT: "A job is getting on",
        "batch.awaiting_confirmation": "A batch is planned and waits for a yes",
    }
    model, example = JobEventPayload.__name__, TOLD | {"type": event}
    if event in BATCH_EVENT_TYPES:
        model, example = BatchEventPayload.__name__, TOLD_OF_BATCH[event]
    often = (
        "Best effort: tried once, at most every 500 ms, perhaps out of order: go by `timestamp`. "
        "Only to the URL that a job names with this event."
        if is_progress
        else "The same `webhook-id` may come more than once."
    )
    return {
        "operationId": event.replace(".", "_"),
        "summary": summaries.get(event, "A {} has ended as {}".format(*event.split("."))),
        "description": f"Signed as Standard Webhooks 1.0 says. {often}",
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": told, "schema": {"type": "string"},
             "example": example}
            for name, (told, example) in SIGNED_HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": _REF.format(model=model)},
                    "example": TOLD_PROGRESS if is_progress else example,
                }
            },
        },
        "responses": {"default": {"description": "Nothing depends on it."}}
        if is_progress
        else {
            "2XX": {"description": "Delivered."},
            "410": {"description": "Send nothing here any more."},
            "default": {"description": "A failure, a redirect too: it is sent again, `Retry-After` honoured."},
        },
    }  # fmt: skip


def _complete(operation: dict[str, Any], known: Operation) -> None:
    name = operation["operationId"]
    operation["responses"] = {
        **{str(answer.status): _response(answer) for answer in known.answers},
        **_problems(known.problems),
    }
    if links := links_of(name):
        operation["responses"][str(known.answers[0].status)]["links"] = links
    if known.bodies:
        operation["requestBody"] = {
            "required": name in _BODY_NEEDED,
            "content": {
                media_type: {"schema": {"$ref": _REF.format(model=model)}, "example": example}
                for media_type, (model, example) in known.bodies.items()
            },
        }
    if known.heeds:
        operation.setdefault("parameters", []).extend(_request_header(header) for header in known.heeds)
    if name not in _OPEN:
        # Without any, only from the machine itself while there is no key.
        operation["security"] = [{"bearer": []}, {"header": []}, {}]
        for response in operation["responses"].values():
            response["headers"] |= _headers(("RateLimit", "RateLimit-Policy"))


def _request_header(name: str) -> dict[str, Any]:
    meaning, example = REQUEST_HEADERS[name]
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": meaning,
        "schema": {"type": "string"},
        "example": example,
    }


def _response(answer: Answer) -> dict[str, Any]:
    response: dict[str, Any] = {"description": answer.meaning, "headers": _headers(answer.headers)}
    if answer.status == 307:
        response["headers"]["Location"]["example"] = answer.example
    elif answer.example is not None:
        schema = {"$ref": _REF.format(model=answer.model.__name__)} if answer.model else {}
        response["content"] = {answer.media_type: {"schema": schema, "example": answer.example}}
    return response


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in (*names, "X-Request-Id")}


def _problems(codes: Iterable[str]) -> dict[str, Any]:
    """One response for each status, with an example for each code; 500 is always possible."""
    by_status: dict[int, dict[str, Any]] = {}
    for code in (*codes, "internal_error"):
        status, title, meaning = CODES[code]
        example = Problem(
            type=f"/docs#{code}", title=title, status=status, detail=meaning, code=code, errors=[]
        ).model_dump(mode="json")
        by_status.setdefault(status, {})[code] = {"summary": meaning, "value": example}
    return {
        str(status): {
            "description": "; ".join(examples),
            "headers": _headers(("Retry-After",) if status in (408, 429, 503) else ()),
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}, "examples": examples}},
        }
        for status, examples in sorted(by_status.items())
    }


def _schemas() -> dict[str, Any]:
    wanted = [(model, "validation") for model in _MODELS] + [(model, "serialization") for model in _ANSWERS]
    _, found = models_json_schema(wanted, ref_template=_REF)  # type: ignore[arg-type]  # a list of two kinds of pair
    schemas: dict[str, Any] = found["$defs"]
    for model in ("JobRequest", "JobFields", "ExportRequest", "BatchRequest", "BatchFields"):
        schemas[model]["properties"]["preset"]["x-sets"] = PRESETS
    fields = schemas["JobFields"]
    picture = {"type": "string", "contentMediaType": "application/octet-stream", "description": "PNG, JPEG or WebP."}
    form = {"title": "JobForm", "description": "A submit as a form.", "required": ["image"]}
    schemas["JobForm"] = {**fields, **form, "properties": {"image": picture, **fields["properties"]}}
    fields = schemas["BatchFields"]
    files = {
        name: {"type": "string", "contentMediaType": "application/octet-stream", "description": told}
        for name, told in (("manifest", "The catalog, or an upload's id."), ("images", "A zip, or an upload's id."))
    }
    form = {"title": "BatchForm", "description": "A batch as a form: a manifest, or pictures, or both."}
    schemas["BatchForm"] = {**fields, **form, "properties": {**files, **fields["properties"]}}
    return schemas
