"""Fast webhook receivers on loopback, on an event loop in their own thread."""

import asyncio
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from shared.repositories.webhooks import signature


@dataclass
class WebhookReceivers:
    """`count` receivers; the first `slow` drip for `drip_s`. arrivals: seconds of `time.time` by event."""

    count: int
    slow: int = 0
    drip_s: float = 30.0
    secrets: dict[str, str] = field(default_factory=dict)  # path -> secret to verify with
    arrived: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    unverified: int = 0
    origins: list[str] = field(default_factory=list)
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __enter__(self) -> "WebhookReceivers":
        """Start listening."""
        for number in range(self.count):
            answer = self._drip if number < self.slow else self._answer
            server = self._loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0, backlog=512))
            self.origins.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread:
            self._thread.join()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:  # without arguments, gather would create a future of another loop
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path, headers, body = await self._read(reader)
            self._record(path, headers, body)
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._read(reader)
            for _ in range(int(self.drip_s)):
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(1)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        return first.split(" ")[1], headers, await reader.readexactly(int(headers["content-length"]))

    def _record(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.arrived[headers["webhook-id"]].append(time.time())
        if secret := self.secrets.get(path):
            expected = signature(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
            self.unverified += expected not in headers["webhook-signature"].split(" ")
