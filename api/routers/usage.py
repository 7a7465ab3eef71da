"""Usage: what a caller's jobs have used and cost, by day."""

from datetime import UTC, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.context.dependencies import ReadAccess
from api.http.responses import JSON
from api.schemas.jobs import DayOfUsage, UsageResponse
from shared.repositories.caller_usage import UsageRepository

router = APIRouter(prefix="/v1", tags=["usage"])

MAX_DAYS = 90


@router.get("/usage", response_model=UsageResponse)
async def read_usage(
    context: ReadAccess,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS, description="So many days back, today included.")] = 30,
) -> Response:
    """Read what your jobs have used, by day (UTC). A job counts on the day it succeeded; one that did not is free."""

    def read() -> UsageResponse:
        today = context.services.jobs.now().astimezone(UTC).date()
        used = UsageRepository(context.services.store).by_day(context.caller, since=today - timedelta(days=days - 1))
        return UsageResponse(
            data=[
                DayOfUsage(
                    day=day, jobs=one.jobs, gpu_seconds=round(one.gpu_seconds, 3), cost_usd=round(one.cost_usd, 6)
                )
                for day, one in sorted(used.items(), reverse=True)
            ]
        )

    return Response((await context.run(read)).model_dump_json(), media_type=JSON)
