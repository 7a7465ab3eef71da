"""Assemble the OpenAPI 3.1 document from the routes' declarations."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.openapi.responses import SCHEMA_REF, header_docs
from api.schemas.batches import BatchFields, BatchForm, BatchRequest, RetryRequest
from api.schemas.jobs import ExportRequest, JobFields, JobForm, JobRequest, Problem, UploadRequest
from api.schemas.webhooks import EndpointChange, EndpointRequest
from shared.webhook_payloads import BatchEventPayload, JobEventPayload

_DESCRIPTION = (
    "Turn an image into a textured 3D model: submit it, then poll, wait, or follow its events. "
    "Errors are problem+json (RFC 9457); match on `code`."
)
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, `t2_...`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
# The last entry: while no API key exists, requests from the same machine need none.
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}, {}]
# Models that routes read by hand, so that FastAPI does not see them; the web app draws its forms from *Fields.
_REQUEST_MODELS: tuple[type[BaseModel], ...] = (
    JobFields, JobRequest, JobForm, ExportRequest, UploadRequest, BatchFields, BatchRequest, BatchForm, RetryRequest,
    EndpointRequest, EndpointChange,
)  # fmt: skip
_OTHER_MODELS: tuple[type[BaseModel], ...] = (Problem, JobEventPayload, BatchEventPayload)


def document(app: FastAPI, routes: Sequence[APIRoute]) -> dict[str, Any]:
    """Return the document of an app with these routes."""
    webhooks = [route for route in app.webhooks.routes if isinstance(route, APIRoute)]
    described = get_openapi(
        title=app.title,
        version="1",
        description=_DESCRIPTION,
        routes=app.routes,
        webhooks=webhooks,
        separate_input_output_schemas=False,
    )
    for section, declared in (("paths", routes), ("webhooks", webhooks)):
        for route in declared:
            for method in (route.methods or ()) if route.include_in_schema else ():
                _complete(described[section][route.path_format][method.lower()], route)
    described["components"] = {"schemas": _schemas(routes), "securitySchemes": _SECURITY_SCHEMES}
    return described


def _complete(operation: dict[str, Any], route: APIRoute) -> None:
    """Add what all routes under /v1 share; undo what get_openapi adds and drops unasked."""
    responses = {str(status): response for status, response in route.responses.items()}
    # get_openapi adds 422 with its own schema, and 200 to webhooks.
    operation["responses"] = {status: operation["responses"][status] for status in responses}
    _restore_examples(operation, {"responses": responses, **(route.openapi_extra or {})})
    if route.path.startswith("/v1/"):
        operation["security"] = _SECURITY
        for response in operation["responses"].values():
            response["headers"] |= header_docs(("RateLimit", "RateLimit-Policy"))


def _restore_examples(documented: dict[str, Any], declared: Mapping[str, Any]) -> None:
    """Put examples back as they were declared: get_openapi drops their null members."""
    for key, value in declared.items():
        if key == "example":
            documented[key] = value
        elif isinstance(value, dict):
            _restore_examples(documented[key], value)


def _schemas(routes: Sequence[APIRoute]) -> dict[str, Any]:
    """Return the schemas of all models; those of get_openapi lack `"default": null` and the request models."""
    responses = dict.fromkeys(route.response_model for route in routes if route.response_model)
    models = [(model, "validation") for model in _REQUEST_MODELS]
    models += [(model, "serialization") for model in (*responses, *_OTHER_MODELS)]
    _, schemas = models_json_schema(models, ref_template=SCHEMA_REF)  # type: ignore[arg-type]  # two kinds of pair
    return dict(schemas["$defs"])
