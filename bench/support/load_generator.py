"""Generate HTTP load from a separate process, with little CPU of its own."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import uvloop


@dataclass(frozen=True, slots=True)
class Timings:
    """The answers of all clients. per_s counts only answers with the expected status."""

    per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """`clients` connections that each send the same request for `seconds`.

    every_s: each client's interval between two requests, the clients spread evenly over it; 0 to send the next one as
    soon as the last one is answered. A latency counts from when the request was due, so that no delay hides another.
    """

    port: int
    request: str
    expected_status: int
    clients: int = 50
    seconds: float = 2.0
    every_s: float = 0.0

    def run(self) -> Timings:
        """Run in a new process."""
        done = subprocess.run(
            [sys.executable, "-m", "bench.support.load_generator", json.dumps(asdict(self))],
            check=True,
            capture_output=True,
            text=True,
        )
        return Timings(**json.loads(done.stdout))

    async def generate(self) -> Timings:
        """Run in this process."""
        latencies: list[float] = []
        began = time.perf_counter()
        await asyncio.gather(*(self._client(number, began, latencies) for number in range(self.clients)))
        took_s = time.perf_counter() - began
        latencies.sort()
        return Timings(
            len(latencies) / took_s,
            latencies[len(latencies) // 2] * 1e3,
            latencies[int(len(latencies) * 0.99)] * 1e3,
        )

    async def _client(self, number: int, began: float, latencies: list[float]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        request = self.request.encode()
        due = began + self.every_s * number / self.clients
        while due < began + self.seconds:
            await asyncio.sleep(due - time.perf_counter())
            due = due if self.every_s else time.perf_counter()
            writer.write(request)
            await self._answer(reader)
            answered = time.perf_counter()
            latencies.append(answered - due)
            due = due + self.every_s if self.every_s else answered
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if int(head[9:12]) != self.expected_status:
            raise RuntimeError(f"{head.splitlines()[0]!r} instead of {self.expected_status}")
        _, _, after = head.lower().partition(b"\r\ncontent-length: ")
        if after:
            await reader.readexactly(int(after.partition(b"\r\n")[0]))


def http_request(method: str, path: str, *, port: int, body: str = "", **headers: str) -> str:
    """Encode a request; in header names `_` stands for `-`."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body])


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(Load(**json.loads(sys.argv[1])).generate()))))
