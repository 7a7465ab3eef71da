"""python -m bench.service.event_streams measures the memory of 500 open event streams and their effect on polling.

It uses loopback, the embedded store and jobs that no worker runs. Goals: under 100 MB, and polling no slower.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

import httpx

from bench.support.processes import TRELLIS2, draw_test_image, free_port, run_process, wait_until_ready

STREAMS = 500
POLLS = 200
BACKOFF_S = 6.0  # until the streams poll at their slowest interval


async def measure(port: int, resident_mb: Callable[[], float]) -> None:
    """Print memory and polling times without and with streams."""
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        jobs = [await _submit(client) for _ in range(STREAMS)]
        before_mb, before = resident_mb(), await _measure_polls(client, jobs)
        streams = [await _open_stream(port, job) for job in jobs]
        await asyncio.sleep(BACKOFF_S)
        after = await _measure_polls(client, jobs)
        print(f"{STREAMS} streams: {resident_mb() - before_mb:.0f} MB more ({before_mb:.0f} MB before)")
        print(f"a poll, p50 and p95: {_format_ms(before)} without streams, {_format_ms(after)} with them")
        for writer in streams:
            writer.close()


async def _submit(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/jobs", files={"image": ("a.png", draw_test_image(16))})
    return str(answer.json()["id"])


async def _open_stream(port: int, job: str) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    await reader.readuntil(b"event: queued")
    return writer


async def _measure_polls(client: httpx.AsyncClient, jobs: list[str]) -> list[float]:
    seconds = []
    for job in jobs[:POLLS]:
        began = time.perf_counter()
        assert (await client.get(f"/v1/jobs/{job}")).status_code == 200
        seconds.append(time.perf_counter() - began)
    return seconds


def _format_ms(seconds: list[float]) -> str:
    return f"{quantiles(seconds, n=20)[9] * 1000:.1f} and {quantiles(seconds, n=20)[18] * 1000:.1f} ms"


def main() -> None:
    """Start a gateway and measure it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TRELLIS2_DATA_DIR": folder, "TRELLIS2_PORT": str(port)}
        with run_process([TRELLIS2, "serve", "--role", "gateway"], environment) as process:
            wait_until_ready(f"http://127.0.0.1:{port}")

            def resident_mb() -> float:
                status = Path(f"/proc/{process.pid}/status").read_text()
                return int(status.split("VmRSS:")[1].split()[0]) / 1024

            asyncio.run(measure(port, resident_mb))


if __name__ == "__main__":
    main()
