"""Assemble the gateway: routes, error handlers and middleware as one ASGI app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.context.services import Dependencies, Services
from api.http.problem_details import add_error_handlers
from api.middleware.body_limit import BodyLimit, RequestLimits
from api.middleware.request_envelope import RequestEnvelope
from api.openapi import webhooks as webhook_docs
from api.routers import batches, docs, events, files, jobs, service, web, webhooks

__all__ = ["Dependencies", "RequestLimits", "create_app"]

# Routes are tried in this order: the busiest first.
_RESOURCES = (jobs, batches, files, events, webhooks, service, docs, web)


def create_app(deps: Dependencies) -> FastAPI:
    """Build the gateway's ASGI app."""
    services = Services(deps)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        services.close()

    app = FastAPI(
        title="TRELLIS.2 service",
        docs_url=None,  # FastAPI's page loads scripts from a CDN; ours works without a network
        redoc_url=None,
        openapi_url=None,
        webhooks=webhook_docs.router,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.services = services
    app.state.api_routes = [
        route for resource in _RESOURCES for route in resource.router.routes if isinstance(route, APIRoute)
    ]
    add_error_handlers(app)
    for resource in _RESOURCES:
        app.include_router(resource.router)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, limits=deps.limits)
    app.add_middleware(RequestEnvelope, https=(deps.public_url or "").startswith("https://"))
    return app
