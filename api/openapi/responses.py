"""Declare what FastAPI cannot derive from a route: its responses, error codes, examples, headers and links.

A route returns a finished Response, and reads a large body by hand after authentication: FastAPI itself would read the
body first. So each route passes the results of these functions as `responses=` and `openapi_extra=`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from api.http.problem_details import MEDIA_TYPE, status_and_title
from api.http.responses import JSON
from api.schemas.jobs import Problem
from shared import errors
from shared.errors import ImageRejected, InputRejected, ServiceError

Responses = dict[int | str, dict[str, Any]]

SCHEMA_REF = "#/components/schemas/{model}"
RESPONSE_ID = "$response.body#/id"
# Every route under /v1 can answer these.
AUTH_ERRORS = (
    errors.Unauthenticated,
    errors.ScopeMissing,
    errors.TooManyRequests,
    errors.StoreUnavailable,
    errors.StoreRefused,
)
QUOTA_ERRORS = (errors.TooManyJobs, errors.BudgetSpent)
BODY_ERRORS = (errors.BodyMalformed, errors.BodyTooLarge, errors.BodyTooSlow, errors.ParameterInvalid)

# The codes of ImageRejected.
_IMAGE_CODES = {
    "not_an_image": "The bytes are not an image.",
    "format_unsupported": "An image, but neither PNG nor JPEG nor WebP.",
    "image_too_large": "Over 20 MB, 40 megapixels, or 16,384 pixels a side.",
    "animation_unsupported": "More than one frame.",
    "image_truncated": "The file is cut off.",
    "image_broken": "The file contradicts itself.",
}
_RESPONSE_HEADERS = {
    "Location": "The URL of the resource.",
    "Retry-After": "Seconds to wait before the next request; only while the job is unfinished.",
    "ETag": "Send it as If-None-Match.",
    "Preference-Applied": "`wait=N`, if the request had `Prefer: wait=N`.",
    "RateLimit": '`"requests";r=N;t=S`: N more requests at once; the full burst again in S seconds. Not without a key.',
    "RateLimit-Policy": '`"requests";q=N;w=S`: a burst of N, and N in any S seconds in the long run.',
    "X-Request-Id": "Quote it to the operator.",
}
_REQUEST_HEADERS = {
    "Idempotency-Key": (
        "The same key with the same payload returns the first answer again, for at least a day.",
        "order-1001",
    ),
    "Prefer": (
        "`wait=N` (RFC 7240): answer when the job has ended, or after N seconds (at most 60) with its current state.",
        "wait=30",
    ),
    "If-None-Match": ("An ETag of an earlier answer.", '"5d41402abc4b2a76b9719d91"'),
    "traceparent": (
        "W3C trace context; stored with the job.",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
}


def success(
    status: int,
    description: str,
    example: Any = None,
    *,
    media_type: str = JSON,
    headers: Iterable[str] = (),
    links: dict[str, Any] | None = None,
) -> Responses:
    """Declare a success; `example` is the body, or for a redirect the value of Location."""
    response: dict[str, Any] = {"description": description, "headers": header_docs(headers)}
    if status == 307:
        response["headers"]["Location"]["example"] = example
    elif example is not None:
        schema: dict[str, Any] = (
            {} if media_type == JSON else {"schema": {}}
        )  # FastAPI adds the schema of `response_model`
        response["content"] = {media_type: {**schema, "example": example}}
    if links:
        response["links"] = links
    return {status: response}


def problems(*kinds: type[ServiceError]) -> Responses:
    """Declare errors: a response for each status, with an example for each code. Every route can answer 500."""
    by_status: dict[int, dict[str, Any]] = {}
    for code in (*(code for kind in kinds for code in _codes_of(kind)), "internal_error"):
        status, title, meaning = CODES[code]
        example = Problem(
            type=f"/docs#{code}", title=title, status=status, detail=meaning, code=code, errors=[]
        ).model_dump(mode="json")
        by_status.setdefault(status, {})[code] = {"summary": meaning, "value": example}
    return {
        status: {
            "description": "; ".join(examples),
            "headers": header_docs(("Retry-After",) if status in (408, 429, 503) else ()),
            "content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMA_REF.format(model="Problem")}, "examples": examples}},
        }
        for status, examples in sorted(by_status.items())
    }


def request_docs(
    bodies: dict[str, tuple[type[BaseModel], Any]] | None = None,
    *,
    required: bool = False,
    headers: Iterable[str] = (),
) -> dict[str, Any]:
    """Declare what a route reads by hand: media type -> (model, example), and request headers."""
    parameters = [header_parameter(name, *_REQUEST_HEADERS[name]) for name in headers]
    docs: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if bodies:
        docs["requestBody"] = {
            "required": required,
            "content": {
                media_type: {"schema": {"$ref": SCHEMA_REF.format(model=model.__name__)}, "example": example}
                for media_type, (model, example) in bodies.items()
            },
        }
    return docs


def header_parameter(name: str, description: str, example: str, *, required: bool = False) -> dict[str, Any]:
    """Declare one request header."""
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def header_docs(names: Iterable[str]) -> dict[str, Any]:
    """Declare response headers; every response has X-Request-Id."""
    return {
        name: {"description": _RESPONSE_HEADERS[name], "schema": {"type": "string"}}
        for name in (*names, "X-Request-Id")
    }


def links(parameter: str, *operations: str) -> dict[str, Any]:
    """Link an answer's `id` to operations that take it as `parameter`; tools such as schemathesis follow links."""
    return {name: {"operationId": name, "parameters": {parameter: RESPONSE_ID}} for name in operations}


def next_page_link(operation: str) -> dict[str, Any]:
    """Link a page to the next one."""
    return {
        "next_page": {
            "operationId": operation,
            "parameters": {"after": "$response.body#/next_cursor"},
            "description": "The next page; there is none if `next_cursor` is null.",
        }
    }


def _codes_of(kind: type[ServiceError]) -> Iterable[str]:
    return _IMAGE_CODES if kind is ImageRejected else (kind.code,)


def _all_kinds(kind: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _all_kinds(child)


def _meaning(kind: type[ServiceError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0].replace("`", "")


# Every code that a client can receive: status, title, meaning.
CODES: dict[str, tuple[int, str, str]] = {
    **{kind.code: (*status_and_title(kind), _meaning(kind)) for kind in _all_kinds() if kind is not ImageRejected},
    **{code: (*status_and_title(InputRejected), meaning) for code, meaning in _IMAGE_CODES.items()},
    "internal_error": (500, "Internal error", "An unexpected error in the service."),
    "not_found": (404, "Not found", "No such route."),
    "method_not_allowed": (405, "Method not allowed", "The route does not have this method."),
}
