"""The outermost middleware: request ids, security headers, one log event per request, answers to unexpected errors."""

import logging
import random
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problem_details import problem_response
from shared.log import log

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"private, no-cache"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")


class RequestEnvelope:
    """ASGI middleware; it never replaces a header that the response already has."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        """`https`: clients reach the service only by TLS."""
        self._app = app
        self._headers = (*_HEADERS, _HSTS) if https else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app; complete its response and log the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id),
                    *scope.get("state", {}).get("limit_headers", ()),
                    *(header for header in self._headers if header[0] not in present),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log("request.failed", level=logging.ERROR, exc_info=True, request_id=request_id.decode())
            if status:
                raise  # too late for a 500: the server closes the connection
            await _internal_error(request_id)(scope, receive, send_with_headers)
        finally:
            log(
                "request.answered",
                level=logging.DEBUG,
                request_id=request_id.decode(),
                method=scope["method"],
                route=getattr(scope.get("route"), "path", None),
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
            )


def _request_id(scope: Scope) -> bytes:
    header = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return header if _REQUEST_ID.fullmatch(header) else b"%016x" % random.getrandbits(64)


def _internal_error(request_id: bytes) -> ASGIApp:
    return problem_response(
        500,
        "Internal error",
        code="internal_error",
        detail=f"an unexpected error occurred; quote request {request_id.decode()} to the operator",
    )
