"""python -m bench.service.gateway measures submits and polls of the gateway against a bare FastAPI app.

Both servers run all the time and alternate, so that other work of the machine affects both alike.
"""

import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx

from bench.support.load_generator import Load, Timings, http_request
from bench.support.processes import TRELLIS2, draw_test_image, free_port, run_process, wait_until_ready

CLIENTS = 50
ROUNDS = 3
ROUND_S = 0.8
WARM_UP_S = 0.3
PACED_EVERY_S = 0.25  # 50 clients: 200 submits a second, far more than any GPU fleet finishes


def main() -> None:
    """Measure and print the table."""
    with ExitStack() as stack:
        bare_port, port = _start_servers(stack)
        url = f"http://127.0.0.1:{port}"
        body = json.dumps({"image": {"upload_id": _upload_image(url)}})
        bare_write = http_request("POST", "/write", port=bare_port, body=body)
        submit = http_request("POST", "/v1/jobs", port=port, body=body)
        poll = _build_poll(url, port, body)
        print(f"{CLIENTS} clients, {ROUNDS} rounds of {ROUND_S} s in turns, median of the rounds")
        print(f"{'':34} {'per s':>8} {'p50 ms':>8} {'p99 ms':>8}   goal")
        busy = _alternate(_build_load(bare_port, bare_write, 202), _build_load(port, submit, 202))
        _print_row("bare write + fsync, at full speed", busy[0])
        half = busy[0].per_s / 2
        _print_row("submit, at full speed", busy[1], f">= {half:,.0f}/s (half the bare route)")
        same = _alternate(
            _build_load(bare_port, bare_write, 202, CLIENTS / half), _build_load(port, submit, 202, CLIENTS / half)
        )
        _print_row("bare write + fsync, at half that rate", same[0])
        _print_row("submit, at half that rate", same[1], "p99 < 50 ms")
        paced = _alternate(
            _build_load(bare_port, bare_write, 202, PACED_EVERY_S), _build_load(port, submit, 202, PACED_EVERY_S)
        )
        _print_row("bare write + fsync, 200/s", paced[0])
        _print_row("submit, 200/s", paced[1], "p99 < 50 ms")
        polls = _alternate(
            _build_load(bare_port, http_request("GET", "/read", port=bare_port), 200), _build_load(port, poll, 304)
        )
        _print_row("bare empty read, at full speed", polls[0])
        _print_row("poll with If-None-Match (304)", polls[1], ">= 1,000/s")


def _start_servers(stack: ExitStack) -> tuple[int, int]:
    """Start both servers, wait until they are ready, return their ports."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-"))
    bare_port, port = free_port(), free_port()
    Path(folder, "bare").mkdir()
    bare = [sys.executable, "-m", "bench.support.bare_fastapi", f"{folder}/bare", str(bare_port)]
    stack.enter_context(run_process(bare, os.environ))
    environment = {**os.environ, "TRELLIS2_DATA_DIR": f"{folder}/data", "TRELLIS2_PORT": str(port)}
    stack.enter_context(run_process([TRELLIS2, "serve", "--role", "gateway"], environment))
    wait_until_ready(f"http://127.0.0.1:{port}")
    return bare_port, port


def _upload_image(url: str) -> str:
    """Upload an image; return its id."""
    form = httpx.post(f"{url}/v1/uploads").json()
    httpx.post(form["url"], data=form["fields"], files={"file": draw_test_image()}).raise_for_status()
    return str(form["upload_id"])


def _build_poll(url: str, port: int, body: str) -> str:
    """Build the conditional poll of a finished job, whose ETag does not change."""
    job = httpx.post(f"{url}/v1/jobs", content=body, headers={"Content-Type": "application/json"}).json()
    httpx.post(job["cancel_url"]).raise_for_status()
    etag = httpx.get(job["status_url"]).headers["etag"]
    return http_request("GET", f"/v1/jobs/{job['id']}", port=port, If_None_Match=etag)


def _build_load(port: int, request: str, status: int, every_s: float = 0.0) -> Load:
    return Load(port, request, status, clients=CLIENTS, seconds=ROUND_S, every_s=every_s)


def _alternate(first: Load, second: Load) -> tuple[Timings, Timings]:
    """Warm up both loads, run them alternately, return the medians of both."""
    for load in (first, second):
        replace(load, seconds=WARM_UP_S).run()
    rounds = [(first.run(), second.run()) for _ in range(ROUNDS)]
    return _median([timings for timings, _ in rounds]), _median([timings for _, timings in rounds])


def _median(rounds: list[Timings]) -> Timings:
    return Timings(
        statistics.median(timings.per_s for timings in rounds),
        statistics.median(timings.p50_ms for timings in rounds),
        statistics.median(timings.p99_ms for timings in rounds),
    )


def _print_row(name: str, timings: Timings, goal: str = "") -> None:
    print(f"{name:34} {timings.per_s:8,.0f} {timings.p50_ms:8.1f} {timings.p99_ms:8.1f}   {goal}", flush=True)


if __name__ == "__main__":
    main()
