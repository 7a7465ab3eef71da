"""Authenticate requests: by API key, or, while no key exists, by coming from the same machine."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from api.context.services import Services
from api.limits.api_keys import Scope
from api.limits.quotas import UNLIMITED, CallerLimits
from shared.errors import ScopeMissing, Unauthenticated

LOCAL_CALLER = "local"
# Headers of a proxy: a relayed request is not local, whatever its address.
_RELAYED = {b"forwarded", b"x-forwarded-for", b"x-real-ip"}
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:\[\]]+)(:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key; a request can access only data under this name."""

    name: str
    scopes: frozenset[Scope]
    limits: CallerLimits = UNLIMITED


_LOCAL = Caller(LOCAL_CALLER, frozenset(Scope))


async def authenticate(request: Request, services: Services, scope: Scope) -> Caller:
    """Return the caller of a request that needs `scope`.

    Raises:
        Unauthenticated: no key, an unknown one, or a revoked or expired one.
        ScopeMissing: the key does not have the scope.
    """
    token = _token(request.headers)
    caller = await _local(request, services) if token is None else await _of_key(token, services)
    if scope not in caller.scopes:
        raise ScopeMissing(f"this API key lacks the scope {scope}")
    return caller


def _token(headers: Headers) -> str | None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return headers.get("x-api-key")


async def _of_key(token: str, services: Services) -> Caller:
    api_keys = services.api_keys
    record = api_keys.find(token) if api_keys.is_cached(token) else await services.run(api_keys.find, token)
    if record is None:
        raise Unauthenticated("this API key is unknown, expired or revoked")
    return Caller(record.caller, record.scopes, record.limits)


async def _local(request: Request, services: Services) -> Caller:
    api_keys = services.api_keys
    is_empty = api_keys.is_empty() if api_keys.is_count_cached() else await services.run(api_keys.is_empty)
    if not is_empty:
        raise Unauthenticated("send an API key as `Authorization: Bearer t2_...` or `X-API-Key: t2_...`")
    if not _is_local(request):
        raise Unauthenticated(
            "this service has no API key yet, so it answers only requests from its own machine: "
            "create a key there with `trellis2 keys create`"
        )
    return _LOCAL


def _is_local(request: Request) -> bool:
    """Return whether a program on this machine sent the request.

    Host excludes a web page whose name resolves to this machine (DNS rebinding), Origin any other web page that is
    open in a browser here, the proxy headers everything that came through a proxy.
    """
    headers = request.headers
    client = request.client.host if request.client else ""
    origin = headers.get("origin")
    return (
        _is_loopback_address(client)
        and _is_loopback_host(headers.get("host", ""))
        and (origin is None or _is_loopback_host(urlsplit(origin).netloc))
        and not any(name in _RELAYED for name, _ in headers.raw)
    )


@lru_cache(1_024)
def _is_loopback_address(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@lru_cache(1_024)
def _is_loopback_host(host: str) -> bool:
    match = _HOST_PORT.fullmatch(host)
    return match is not None and match[1].lower() in _LOOPBACK_NAMES
