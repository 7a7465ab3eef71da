"""python -m bench.fleet.modal_rpc measures the queue with the real Modal SDK and a control plane on loopback.

There is no peer: Modal itself cannot be measured without an account. Each number is printed with its goal.
"""

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from bench.fleet.control_plane.server import ControlPlane, Faults, GrpcServer
from bench.fleet.modal_fleet import Fleet
from shared.domain.job import Status

QUEUE_CALLS = ("QueuePut", "QueueGet", "QueueLen", "FunctionMap", "FunctionGetCurrentStats")


def start_control_plane() -> ControlPlane:
    """Start a control plane and point the SDK of this process at it."""
    plane = ControlPlane()
    os.environ |= {
        "MODAL_SERVER_URL": GrpcServer(plane).start(),
        "MODAL_TOKEN_ID": "ak-test",
        "MODAL_TOKEN_SECRET": "as-test",
    }
    return plane


def measure_claim_latency(plane: ControlPlane, jobs: int, latency_s: float) -> list[float]:
    """Measure seconds from the start of a submit to the claim of its job, with `latency_s` on every call."""
    fleet = Fleet(plane, ceiling=32)
    fleet.start(containers=2)
    fleet.submit()
    fleet.wait_until_idle(within_s=30)
    plane.latency_s = fleet.store.latency_s = latency_s
    waits = []
    for _ in range(jobs):
        began = time.monotonic()
        job_id = fleet.submit()
        while job_id not in fleet.claimed_at:
            time.sleep(0.001)
        waits.append(fleet.claimed_at[job_id] - began)
    plane.reset_faults()
    fleet.store.latency_s = 0.0
    fleet.wait_until_idle(within_s=30)
    fleet.stop()
    return waits


def run_with_lost_answers(plane: ControlPlane, jobs: int, share: float) -> tuple[Fleet, float]:
    """Submit jobs from eight threads while a share of queue calls fails after it acted; return fleet and seconds."""
    fleet = Fleet(plane, ceiling=8)
    fleet.start(containers=4)
    for call in QUEUE_CALLS:
        plane.faults[call] = Faults(fail_after=share)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: fleet.submit(), range(jobs)))
    for _ in range(50):
        try:
            fleet.wait_until_idle(within_s=3.0)
            break
        except TimeoutError:
            fleet.reconciler.reconcile()
    took_s = time.monotonic() - began
    plane.reset_faults()
    fleet.stop()
    return fleet, took_s


def main() -> None:
    """Print both measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000)
    parser.add_argument("--latency-ms", type=float, default=5.0)
    parser.add_argument("--share", type=float, default=0.02)
    arguments = parser.parse_args()
    plane = start_control_plane()
    waits = sorted(measure_claim_latency(plane, 200, arguments.latency_ms / 1e3))
    p50, p95 = statistics.median(waits) * 1e3, waits[int(len(waits) * 0.95)] * 1e3
    print(
        f"submit to claimed, {arguments.latency_ms:g} ms on every call: p50 {p50:.0f} ms (goal 150), p95 {p95:.0f} ms"
    )
    fleet, took_s = run_with_lost_answers(plane, arguments.jobs, arguments.share)
    doubled = sum(1 for runs in fleet.run_counts.values() if runs > 1)
    succeeded = fleet.count_statuses()[Status.SUCCEEDED]
    print(f"{arguments.jobs} jobs, {arguments.share:.0%} of queue calls failing after they acted, {took_s:.0f} s:")
    print(f"  lost {arguments.jobs - succeeded} (goal 0), run twice {doubled} (goal 0)")


if __name__ == "__main__":
    main()
