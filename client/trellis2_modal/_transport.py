"""The two transports over httpx: one blocks, one awaits. All other code is written once, over either of them."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

import httpx

Result = TypeVar("Result")

TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
_HEADERS = {"User-Agent": "trellis2-modal"}
_TIMEOUT = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)


class Transport(Protocol):
    """Access to everything outside: HTTP requests, time, and work on files."""

    @property
    def http(self) -> httpx.Client | httpx.AsyncClient:
        """The httpx client that builds requests."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request without reading the response's body. Errors are httpx's."""

    async def read(self, response: httpx.Response) -> None:
        """Read the whole body, so that `response.json()` works."""

    def iter_bytes(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Iterate over the body as it arrives."""

    async def close_response(self, response: httpx.Response) -> None:
        """Release the connection of a response, read or not."""

    async def pause(self, seconds: float) -> None:
        """Sleep."""

    async def run_blocking(self, function: Callable[[], Result]) -> Result:
        """Run a function that blocks, such as file access, without blocking the event loop."""

    async def close(self) -> None:
        """Close every connection."""


class SyncTransport:
    """Transport over httpx.Client. Its coroutines never suspend, so `_sync.run_sync` can run them without a loop."""

    def __init__(
        self, transport: httpx.BaseTransport | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.http = httpx.Client(transport=transport, headers=_HEADERS, timeout=_TIMEOUT)
        self._pause = pause

    async def send(self, request: httpx.Request) -> httpx.Response:
        return self.http.send(request, stream=True)

    async def read(self, response: httpx.Response) -> None:
        response.read()

    async def iter_bytes(self, response: httpx.Response) -> AsyncIterator[bytes]:
        for chunk in response.iter_bytes():
            yield chunk

    async def close_response(self, response: httpx.Response) -> None:
        response.close()

    async def pause(self, seconds: float) -> None:
        self._pause(seconds)

    async def run_blocking(self, function: Callable[[], Result]) -> Result:
        return function()  # the caller waits for it in any case

    async def close(self) -> None:
        self.http.close()


class AsyncTransport:
    """Transport over httpx.AsyncClient. Only this class imports asyncio: a blocking program need not load it."""

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
