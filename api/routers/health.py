"""Whether the process lives, and whether it can do its work."""

import json

from fastapi import APIRouter, Request, Response

from api.context.dependencies import services_of
from api.http.problem_details import error_response
from api.http.responses import JSON

router = APIRouter(tags=["service"])


@router.get("/healthz")
async def read_health() -> Response:
    """200 as long as the process answers at all."""
    return Response('{"status":"alive"}', media_type=JSON)


@router.get("/readyz")
async def read_readiness(request: Request) -> Response:
    """200 while jobs can be accepted; otherwise the problem's `code` says what is wrong."""
    services = services_of(request)
    if error := await services.run(services.readiness.error):
        return error_response(error)
    return Response(
        json.dumps({"status": "ready", "engines": services.deps.engines, "formats": services.deps.formats}),
        media_type=JSON,
    )
