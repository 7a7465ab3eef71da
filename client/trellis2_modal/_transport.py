"""The two ways out: one that blocks and one that awaits. Everything else is written once, over either."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

import httpx

Made = TypeVar("Made")

TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
_HEADERS = {"User-Agent": "trellis2-modal"}
_TIMEOUT = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)


class Transport(Protocol):
    """What there is of the outside: requests, time, and work on files."""

    @property
    def http(self) -> httpx.Client | httpx.AsyncClient:
        """What builds requests."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's body is still to be read. Errors are httpx's."""

    async def read(self, response: httpx.Response) -> None:
        """Read a body whole, so that `response.json()` works."""

    def chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """A body as it comes."""

    async def leave(self, response: httpx.Response) -> None:
        """Be done with an answer, read or not."""

    async def pause(self, seconds: float) -> None:
        """Let time go by."""

    async def aside(self, work: Callable[[], Made]) -> Made:
        """Do what blocks, a file's reading and writing above all, where it holds up nobody."""

    async def close(self) -> None:
        """Close every connection."""


class SyncTransport:
    """Over httpx.Client. Its coroutines never suspend, so `blocking.finish` runs what is written over them."""

    def __init__(
        self, transport: httpx.BaseTransport | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.http = httpx.Client(transport=transport, headers=_HEADERS, timeout=_TIMEOUT)
        self._pause = pause

    async def send(self, request: httpx.Request) -> httpx.Response:
        """As the protocol says."""
        return self.http.send(request, stream=True)

    async def read(self, response: httpx.Response) -> None:
        """As the protocol says."""
        response.read()

    async def chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """As the protocol says."""
        for chunk in response.iter_bytes():
            yield chunk

    async def leave(self, response: httpx.Response) -> None:
        """As the protocol says."""
        response.close()

    async def pause(self, seconds: float) -> None:
        """As the protocol says."""
        self._pause(seconds)

    async def aside(self, work: Callable[[], Made]) -> Made:
        """Here and now: whoever called waits for it anyway."""
        return work()

    async def close(self) -> None:
        """As the protocol says."""
        self.http.close()


class AsyncTransport:
    """Over httpx.AsyncClient, on asyncio, which is imported only once there is one."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        import asyncio

        self.http = httpx.AsyncClient(transport=transport, headers=_HEADERS, timeout=_TIMEOUT)
        self._pause = pause or asyncio.sleep
        self._in_thread = asyncio.to_thread

    async def send(self, request: httpx.Request) -> httpx.Response:
        """As the protocol says."""
        return await self.http.send(request, stream=True)

    async def read(self, response: httpx.Response) -> None:
        """As the protocol says."""
        await response.aread()

    async def chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """As the protocol says."""
        async for chunk in response.aiter_bytes():
            yield chunk

    async def leave(self, response: httpx.Response) -> None:
        """As the protocol says."""
        await response.aclose()

    async def pause(self, seconds: float) -> None:
        """As the protocol says."""
        await self._pause(seconds)

    async def aside(self, work: Callable[[], Made]) -> Made:
        """In a thread."""
        return await self._in_thread(work)

    async def close(self) -> None:
        """As the protocol says."""
        await self.http.aclose()
