"""The two transports over httpx: one blocks, one awaits. All other code is written once, over either of them."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias, TypeVar

import httpx

Result = TypeVar("Result")

TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
_HEADERS = {"User-Agent": "trellis2-modal"}
_TIMEOUT = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)


class SyncTransport:
    """Access to everything outside: HTTP requests over httpx.Client, time, and work on files.

    Its coroutines never suspend, so `_sync.run_sync` can run them without an event loop.
    """

    def __init__(
        self, transport: httpx.BaseTransport | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.http = httpx.Client(transport=transport, headers=_HEADERS, timeout=_TIMEOUT)
        self._pause = pause

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request without reading the response's body. Errors are httpx's."""
        return self.http.send(request, stream=True)

    async def read(self, response: httpx.Response) -> None:
        """Read the whole body, so that `response.json()` works."""
        response.read()

    async def iter_bytes(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Iterate over the body as it arrives."""
        for chunk in response.iter_bytes():
            yield chunk

    async def close_response(self, response: httpx.Response) -> None:
        """Release the connection of a response, read or not."""
        response.close()

    async def pause(self, seconds: float) -> None:
        self._pause(seconds)

    async def run_blocking(self, function: Callable[[], Result]) -> Result:
        """Run a function that blocks, such as file access, without blocking the event loop."""
        return function()  # the caller waits for it in any case

    async def close(self) -> None:
        self.http.close()


class AsyncTransport:
    """The same over httpx.AsyncClient. Only this class imports asyncio: a blocking program need not load it."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        import asyncio

        self.http = httpx.AsyncClient(transport=transport, headers=_HEADERS, timeout=_TIMEOUT)
        self._pause = pause or asyncio.sleep
        self._to_thread = asyncio.to_thread

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self.http.send(request, stream=True)

    async def read(self, response: httpx.Response) -> None:
        await response.aread()

    async def iter_bytes(self, response: httpx.Response) -> AsyncIterator[bytes]:
        async for chunk in response.aiter_bytes():
            yield chunk

    async def close_response(self, response: httpx.Response) -> None:
        await response.aclose()

    async def pause(self, seconds: float) -> None:
        await self._pause(seconds)

    async def run_blocking(self, function: Callable[[], Result]) -> Result:
        return await self._to_thread(function)

    async def close(self) -> None:
        await self.http.aclose()


Transport: TypeAlias = SyncTransport | AsyncTransport
