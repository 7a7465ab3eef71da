"""Routes of the service itself: health, readiness, and a caller's usage."""

import json
from datetime import UTC, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.context.dependencies import ReadAccess, services_of
from api.http.problem_details import error_response
from api.http.responses import JSON
from api.openapi.examples import jobs as examples
from api.openapi.responses import AUTH_ERRORS, problems, success
from api.schemas.jobs import DayOfUsage, UsageResponse
from shared import errors
from shared.repositories.caller_usage import UsageRepository

router = APIRouter()

MAX_DAYS = 90


@router.get(
    "/v1/usage",
    tags=["usage"],
    response_model=UsageResponse,
    responses=success(200, "By day.", examples.USAGE) | problems(*AUTH_ERRORS, errors.ParameterInvalid),
)
async def read_usage(
    context: ReadAccess,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS, description="Number of days, today included.")] = 30,
) -> Response:
    """Read your jobs' usage by day (UTC). A job counts on the day it succeeded; one that did not succeed is free."""

    def read() -> UsageResponse:
        today = context.services.jobs.now().astimezone(UTC).date()
        since = today - timedelta(days=days - 1)
        by_day = UsageRepository(context.services.store).by_day(context.caller, since=since)
        return UsageResponse(
            data=[
                DayOfUsage(
                    day=day,
                    jobs=total.jobs,
                    gpu_seconds=round(total.gpu_seconds, 3),
                    cost_usd=round(total.cost_usd, 6),
                )
                for day, total in sorted(by_day.items(), reverse=True)
            ]
        )

    return Response((await context.run(read)).model_dump_json(), media_type=JSON)


@router.get("/healthz", tags=["service"], responses=success(200, "The process runs.", {"status": "alive"}) | problems())
async def read_health() -> Response:
    """Return 200 while the process answers at all."""
    return Response('{"status":"alive"}', media_type=JSON)


@router.get(
    "/readyz",
    tags=["service"],
    responses=success(
        200,
        "Jobs can be accepted.",
        {"status": "ready", "engines": ["relief"], "formats": ["glb", "usdz", "meshopt"]},
    )
    | problems(errors.StoreUnavailable, errors.StoreRefused),
)
async def read_readiness(request: Request) -> Response:
    """Return 200 while jobs can be accepted; otherwise the problem's `code` names the cause."""
    services = services_of(request)
    if error := await services.run(services.readiness.error):
        return error_response(error)
    return Response(
        json.dumps({"status": "ready", "engines": services.deps.engines, "formats": services.deps.formats}),
        media_type=JSON,
    )
