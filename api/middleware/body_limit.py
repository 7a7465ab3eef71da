"""Limit the size and the duration of request bodies while they arrive."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.problem_details import error_response
from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.errors import BodyTooLarge, BodyTooSlow
from shared.manifest.zip_format import MAX_ZIP_BYTES

_LINGER_BYTES = 4_000_000
UPLOADS_PATH = "/v1/files"  # receives signed forms if the gateway itself serves the store


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of request bodies. Sizes in bytes, times in seconds.

    Attributes:
        multipart_bytes: largest form with an image.
        json_bytes: largest submit as JSON; base64 makes an image a third larger.
        catalog_bytes: largest batch as JSON, with its catalog as an escaped string.
        small_bytes: largest other body under /v1.
        upload_bytes: largest signed form; the signature of a form can allow less.
        body_s, upload_s: maximum time in which a body, or a signed form, must arrive.
        linger_s: how long a refused client may continue to send, so that it can read the answer.
    """

    multipart_bytes: int = MAX_IMAGE_BYTES + 1_000_000
    json_bytes: int = MAX_IMAGE_BYTES * 4 // 3 + 1_000_000
    catalog_bytes: int = 4_500_000
    small_bytes: int = 64_000
    upload_bytes: int = MAX_ZIP_BYTES + 1_000_000
    body_s: float = 120.0
    upload_s: float = 3_600.0
    linger_s: float = 1.0

    def max_bytes(self, scope: Scope) -> int:
        """Return the maximum size of a request's body."""
        form = next((value for name, value in scope["headers"] if name == b"content-type"), b"").startswith(
            b"multipart/"
        )
        if scope["path"] == "/v1/jobs":
            return self.multipart_bytes if form else self.json_bytes
        if scope["path"] == UPLOADS_PATH:
            return self.upload_bytes
        if scope["path"] == "/v1/batches" and not form:
            return self.catalog_bytes
        return self.multipart_bytes if form and not scope["path"].startswith("/v1/jobs/") else self.small_bytes

    def max_seconds(self, scope: Scope) -> float:
        """Return the maximum time for a request's body."""
        return self.upload_s if scope["path"] == UPLOADS_PATH else self.body_s


class BodyLimit:
    """ASGI middleware: raise BodyTooLarge or BodyTooSlow where a body is read that exceeds its limits.

    If the answer starts before the body has ended, the connection is closed: its next bytes are the rest of that body.
    """

    def __init__(self, app: ASGIApp, *, limits: RequestLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app with a limited body."""
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
    """The receive and send channels of one request."""

    def __init__(self, receive: Receive, send: Send, limits: RequestLimits, *, limit: int, seconds: float) -> None:
        self._receive = receive
        self._send = send
        self._limits = limits
        self._seconds = seconds
        self._ends_at = asyncio.get_running_loop().time() + seconds
        self._received = 0
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
        self._received += len(message.get("body", b""))
        if self._received > self.limit:
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
        """Read on for a moment: an immediate close resets the connection before the client reads the answer."""
        received = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_s):
                while received < _LINGER_BYTES:
                    message = await self._receive()
                    received += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return


def _has_body(scope: Scope) -> bool:
    return any(
        (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
        for name, value in scope["headers"]
    )


def _declared_bytes(scope: Scope) -> int:
    """Return Content-Length, or 0 if it is not a number; received bytes are counted in any case."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(declared) if declared.isdigit() and len(declared) < 20 else 0
