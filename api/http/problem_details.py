"""Answer every error as problem+json (RFC 9457), with a status from one table."""

import math
from collections.abc import Sequence
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from api.schemas.jobs import FieldError, Problem
from shared import errors
from shared.errors import InputRejected, ParameterInvalid, ServiceError

MEDIA_TYPE = "application/problem+json"

# Class -> status, title. A class that is not listed uses its nearest listed base class.
STATUS_AND_TITLE: dict[type[ServiceError], tuple[int, str]] = {
    errors.ServiceError: (500, "Internal error"),
    errors.InputRejected: (422, "Input rejected"),
    errors.StateMissing: (409, "Nothing to export"),
    errors.RequestRefused: (400, "Request refused"),
    errors.Unauthenticated: (401, "Not authenticated"),
    errors.ScopeMissing: (403, "Not allowed"),
    errors.SignatureInvalid: (403, "Not allowed"),
    errors.BodyTooLarge: (413, "Body too large"),
    errors.BodyTooSlow: (408, "Body too slow"),
    errors.MediaTypeUnsupported: (415, "Media type not supported"),
    errors.ArtifactNotFound: (404, "Not found"),
    errors.EndpointNotFound: (404, "Not found"),
    errors.DeliveryNotFound: (404, "Not found"),
    errors.BatchNotFound: (404, "Not found"),
    errors.TooManyEndpoints: (409, "Not possible now"),
    errors.LimitReached: (429, "Too much at once"),
    errors.StoreError: (503, "Storage unavailable"),
    errors.JobStateError: (409, "Not possible now"),
    errors.JobNotFound: (404, "Not found"),
}
# The framework's own errors, by status.
_FRAMEWORK: dict[int, tuple[str, str]] = {
    400: ("body_malformed", "Request refused"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
}
_STORE_DETAIL = "the service cannot reach its storage at the moment"
_RETRY_AFTER_S = 5


def problem_response(
    status: int,
    title: str,
    *,
    code: str,
    detail: str,
    fields: Sequence[tuple[str, str]] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """Build a problem+json response; `fields` are (JSON pointer, detail)."""
    body = Problem(
        type=f"/docs#{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        errors=[FieldError(pointer=pointer, detail=message) for pointer, message in fields],
    )
    return Response(body.model_dump_json(), status, headers, MEDIA_TYPE)


def error_response(error: ServiceError) -> Response:
    """Build the response to a ServiceError."""
    status, title = status_and_title(type(error))
    # The message of a store error can name buckets, paths and accounts: send only its code.
    detail = _STORE_DETAIL if isinstance(error, errors.StoreError) else str(error)
    return problem_response(
        status, title, code=error.code, detail=detail, fields=_fields_of(error), headers=_headers_of(error, status)
    )


def status_and_title(kind: type[ServiceError]) -> tuple[int, str]:
    """Return status and title of an error class."""
    return next(STATUS_AND_TITLE[known] for known in kind.__mro__ if known in STATUS_AND_TITLE)


def _fields_of(error: ServiceError) -> Sequence[tuple[str, str]]:
    if isinstance(error, ParameterInvalid):
        return error.fields
    return [(error.pointer, str(error))] if isinstance(error, InputRejected) else ()


def _headers_of(error: ServiceError, status: int) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, errors.LimitReached):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    return {"Retry-After": str(_RETRY_AFTER_S)} if error.retryable or status == 503 else {}


def invalid_fields(error: ValidationError, *, within: str = "") -> ParameterInvalid:
    """Translate an error of pydantic; `within` is the pointer of the validated value."""
    return _invalid(
        [(tuple(item["loc"]), item["msg"]) for item in error.errors(include_url=False, include_input=False)], within
    )


def _invalid(messages: Sequence[tuple[tuple[int | str, ...], str]], within: str) -> ParameterInvalid:
    fields = [(within + _pointer(loc), message.removeprefix("Value error, ")) for loc, message in messages]
    pointer, message = fields[0]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return ParameterInvalid(f"{pointer or 'the body'}: {message}{more}", pointer=pointer, fields=fields)


def _pointer(loc: tuple[int | str, ...]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in loc if part != "[key]")


async def _on_service_error(_: Request, error: Exception) -> Response:
    return error_response(cast(ServiceError, error))


async def _on_parameters(_: Request, error: Exception) -> Response:
    """Answer a path, query or header parameter that FastAPI refused; `loc` starts with the kind of parameter."""
    messages = [(tuple(item["loc"][1:]), item["msg"]) for item in cast(RequestValidationError, error).errors()]
    return error_response(_invalid(messages, ""))


async def _on_framework(request: Request, error: Exception) -> Response:
    raised = cast(HTTPException, error)
    code, title = _FRAMEWORK.get(raised.status_code, (f"http_{raised.status_code}", "Request refused"))
    headers = dict(raised.headers or {})
    if raised.status_code == 405 and (methods := _methods_of(request)):
        headers["Allow"] = ", ".join(sorted(methods))
    return problem_response(raised.status_code, title, code=code, detail=raised.detail, headers=headers)


def _methods_of(request: Request) -> set[str]:
    """Return every method of a path: each is a separate route, and the framework names only the first one."""
    routes: Sequence[APIRoute] = request.app.state.api_routes
    return {method for route in routes if route.path_regex.match(request.url.path) for method in route.methods or ()}


def add_error_handlers(app: FastAPI) -> None:
    """Register the handlers of expected errors; RequestEnvelope answers unexpected ones."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_parameters)
    app.add_exception_handler(HTTPException, _on_framework)
