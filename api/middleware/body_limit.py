"""Bounds on request bodies, kept while they arrive: how large, and until when."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problem_details import error_response
from api.limits.request_limits import RequestLimits
from shared.errors import BodyTooLarge, BodyTooSlow

_LINGER_BYTES = 4_000_000


class BodyLimit:
    """An ASGI layer. A body over its limit or its time ends in BodyTooLarge or BodyTooSlow, raised where it is read.

    An answer given before the body has ended closes the connection, since what comes on it next is that body's rest.
    """

    def __init__(self, app: ASGIApp, *, limits: RequestLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body bounded."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        body = _Body(
            receive, send, self._limits, limit=self._limits.max_bytes(scope), seconds=self._limits.max_seconds(scope)
        )
        if _declared_bytes(scope) > body.limit:
            await error_response(body.too_large())(scope, body.receive, body.send)
        else:
            await self._app(scope, body.receive, body.send)


class _Body:
    """One request's body on its way in, and its answer on the way out."""

    def __init__(self, receive: Receive, send: Send, limits: RequestLimits, *, limit: int, seconds: float) -> None:
        self._receive = receive
        self._send = send
        self._limits = limits
        self._seconds = seconds
        self._ends_at = asyncio.get_running_loop().time() + seconds
        self._came = 0
        self._ended = False
        self._closes = False
        self.limit = limit

    def too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than the {self.limit:,} bytes that this route takes")

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends_at):
                message = await self._receive()
        except TimeoutError as error:
            raise BodyTooSlow(f"the body did not arrive within {self._seconds:g} s") from error
        self._came += len(message.get("body", b""))
        if self._came > self.limit:
            raise self.too_large()
        self._ended = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._ended:
            self._closes = True
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        elif self._closes and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        """Read on for a moment: closing at once would reset the connection before the client has read the answer."""
        came = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_s):
                while came < _LINGER_BYTES:
                    message = await self._receive()
                    came += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return


def _has_body(scope: Scope) -> bool:
    return any(
        (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
        for name, value in scope["headers"]
    )


def _declared_bytes(scope: Scope) -> int:
    """What Content-Length says, 0 where it says nothing that is a number: what arrives is counted in any case."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(declared) if declared.isdigit() and len(declared) < 20 else 0
