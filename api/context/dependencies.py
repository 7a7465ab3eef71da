"""FastAPI dependencies: an authenticated request with read or write access."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ParamSpec, TypeVar, cast
from urllib.parse import urljoin

from fastapi import Depends, Request

from api.context.authentication import authenticate
from api.context.services import Services
from api.http.responses import SerializedJob, serialize_job
from api.limits.api_keys import Scope
from api.limits.quotas import UNLIMITED, CallerLimits
from shared.domain.job import Job
from shared.errors import JobNotFound, TooManyRequests
from shared.storage import keys
from shared.storage.versioned_records import Versioned

P = ParamSpec("P")
T = TypeVar("T")

_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """An authenticated request. base_url: the URL of the service for this caller, without a slash at its end."""

    request: Request
    services: Services
    caller: str
    base_url: str
    limits: CallerLimits = UNLIMITED

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in one of the gateway's threads."""
        return await self.services.run(function, *args, **kwargs)

    def require_job(self, job_id: str) -> Versioned[Job]:
        """Return a job of this caller. Blocking.

        Raises:
            JobNotFound: it does not exist, belongs to another caller, or was deleted; the answer is the same.
        """
        versioned = self.services.jobs.find(job_id) if keys.is_id(job_id, "job") else None
        if versioned is None or versioned.record.caller != self.caller or versioned.record.purged_at:
            raise JobNotFound("no such job")
        return versioned

    def serialize(self, job: Job) -> SerializedJob:
        """Serialize a job. May block."""
        return serialize_job(job, self.services.estimates, self.base_url)

    def absolute(self, url: str) -> str:
        """Make a signed URL absolute: a store that the gateway serves itself signs paths."""
        return urljoin(self.base_url + "/", url)


async def _authenticated(request: Request, scope: Scope) -> RequestContext:
    services = services_of(request)
    caller = await authenticate(request, services, scope)
    if limit := services.token_buckets.take(caller.name, caller.limits):
        request.state.limit_headers = limit.headers()
        if limit.retry_after_s:
            raise TooManyRequests("you send requests faster than your limit", retry_after_s=limit.retry_after_s)
    return RequestContext(request, services, caller.name, _base_url(request, services.deps.public_url), caller.limits)


async def _read_access(request: Request) -> RequestContext:
    return await _authenticated(request, Scope.READ)


async def _write_access(request: Request) -> RequestContext:
    return await _authenticated(request, Scope.WRITE)


ReadAccess = Annotated[RequestContext, Depends(_read_access)]
WriteAccess = Annotated[RequestContext, Depends(_write_access)]


def services_of(request: Request) -> Services:
    """Return the services of the app that handles a request."""
    return cast(Services, request.app.state.services)


def _base_url(request: Request, public_url: str | None) -> str:
    """Return the configured URL, or the one that the client has used."""
    if public_url:
        return public_url.rstrip("/")
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = cast(tuple[str, int], request.scope.get("server") or ("127.0.0.1", 80))
        host = f"{name}:{port}"
    return f"{request.scope['scheme']}://{host}"
