"""`/metrics`, for a Prometheus that holds an API key."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.context.authentication import authenticate
from api.context.services import Services
from api.limits.api_keys import Scope
from infra.observability.metrics import METRICS


def metrics_router(gateway: Services) -> APIRouter:
    """The route. Like everything else it is open to this very machine as long as there is no key."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def read_metrics(request: Request) -> Response:
        """This process's metrics in Prometheus's text format."""
        await authenticate(request, gateway, Scope.READ)
        return Response(generate_latest(METRICS.registry), media_type=CONTENT_TYPE_LATEST)

    return router
