"""python -m bench.service.soak runs short jobs over a failing S3 server while processes are killed at random.

It checks that no job is lost or run twice and no webhook is missing. A proxy before Ceph's gateway breaks one call in a
hundred; gateway, worker, reconciler and notifier are one process each, one of them killed every 20 to 60 s. There is no
peer: the right answer is a number.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.service.kills import Outcome, watch
from bench.support.ceph import ACCESS_KEY, SECRET_KEY, make_bucket, run_ceph
from bench.support.fault_proxy import FaultProxy, Rule, lose_response, refuse
from bench.support.processes import TRELLIS2, draw_test_image, free_port, wait_until_ready
from bench.support.webhook_receivers import WebhookReceivers
from shared.storage import keys

BUCKET = "soak"
WORK_S = 0.03
RECEIVERS = 4
ROLES = {
    "gateway": [TRELLIS2, "serve", "--role", "gateway"],
    "worker": [sys.executable, "-m", "bench.support.stub_worker", str(WORK_S)],
    "reconciler": [TRELLIS2, "serve", "--role", "reconciler"],
    "notifier": [TRELLIS2, "serve", "--role", "notifier"],
}
FAULTS = (
    Rule(refuse(503, "SlowDown"), rate=0.004),
    Rule(refuse(500, "InternalError"), rate=0.003),
    Rule(lose_response, method="PUT", rate=0.006),  # half of all calls write
)


@dataclass
class Processes:
    """One process of each role."""

    environment: dict[str, str]
    kills: Counter[str] = field(default_factory=Counter)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @contextmanager
    def keep_running(self) -> Iterator[None]:
        """Start the processes, and restart each that has ended, for the length of a `with`."""
        with _run_repeatedly(self._start_missing, lambda: 0.2):
            yield
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()

    @contextmanager
    def kill_at_random(self, shortest_s: float, longest_s: float) -> Iterator[None]:
        """Kill a random process again and again for the length of a `with`."""
        with _run_repeatedly(self._kill_one, lambda: random.uniform(shortest_s, longest_s)):
            yield

    def _start_missing(self) -> None:
        for role, command in ROLES.items():
            process = self._running.get(role)
            if process is None or process.poll() is not None:
                self._running[role] = subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)

    def _kill_one(self) -> None:
        role = random.choice(list(ROLES))
        self._running[role].kill()
        self.kills[role] += 1


@contextmanager
def _run_repeatedly(act: Callable[[], None], pause_s: Callable[[], float]) -> Iterator[None]:
    """Call `act` in a thread after every pause, for the length of a `with`."""
    closing = threading.Event()

    def repeat() -> None:
        while not closing.wait(pause_s()):
            act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join()


def submit(url: str, hook: str) -> str:
    """Submit a job, retried under the same idempotency key while the gateway is down; return its id."""
    fields = {"preset": "low_poly", "pipeline_type": "512", "webhook": json.dumps({"url": hook})}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    for _ in range(200):
        with suppress(httpx.TransportError):
            answer = httpx.post(
                f"{url}/v1/jobs",
                files={"image": ("p.png", draw_test_image(64))},
                data=fields,
                headers=headers,
                timeout=60,
            )
            if answer.status_code == 202:
                return str(answer.json()["id"])
            if answer.status_code not in (429, 500, 502, 503):
                answer.raise_for_status()
        time.sleep(0.3)
    raise TimeoutError("no answer in 200 tries")


def wait_for(hooks: WebhookReceivers, ids: list[str], until: float) -> int:
    """Wait for the webhook of every job; return how many are missing at `until`."""
    expected = {keys.event_id(job_id, 0) for job_id in ids}
    while (missing := len(expected - hooks.arrived.keys())) and time.monotonic() < until:
        time.sleep(0.2)
    return missing


@dataclass
class SoakResult:
    """Results of a run."""

    accepted: int
    store_calls: int
    kills: Counter[str]
    missing_webhooks: int
    repeated_webhooks: int
    seconds: float
    outcome: Outcome


def service_environment(folder: Path, port: int, store_url: str, hooks: WebhookReceivers) -> dict[str, str]:
    """Build the settings of every process."""
    return {
        **os.environ,
        "TRELLIS2_DATA_DIR": str(folder),
        "TRELLIS2_PORT": str(port),
        "TRELLIS2_RECONCILE_INTERVAL_S": "2",
        "TRELLIS2_STORE": "s3",
        "TRELLIS2_BUCKET": BUCKET,
        "TRELLIS2_S3_ENDPOINT": store_url,
        "TRELLIS2_S3_REGION": "us-east-1",
        "TRELLIS2_S3_ADDRESSING": "path",
        "TRELLIS2_S3_ACCESS_KEY": ACCESS_KEY,
        "TRELLIS2_S3_SECRET_KEY": SECRET_KEY,
        "TRELLIS2_WEBHOOK_PRIVATE_ORIGINS": json.dumps(hooks.origins),
    }


def run(*, jobs: int, clients: int, kill_every_s: tuple[float, float], limit_s: float) -> SoakResult:
    """Submit all jobs, wait for their webhooks, then read each job without faults."""
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        (folder / "ceph").mkdir()
        ceph = stack.enter_context(run_ceph(folder / "ceph"))
        make_bucket(ceph, BUCKET)
        proxy = stack.enter_context(FaultProxy(ceph.http_url))
        hooks = stack.enter_context(WebhookReceivers(RECEIVERS))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        processes = Processes(service_environment(folder / "data", port, proxy.url, hooks))
        with processes.keep_running():
            wait_until_ready(url)
            proxy.rules += FAULTS
            with processes.kill_at_random(*kill_every_s), ThreadPoolExecutor(clients) as pool:
                targets = [f"{hooks.origins[number % RECEIVERS]}/hook" for number in range(jobs)]
                ids = list(pool.map(lambda hook: submit(url, hook), targets))
                missing_webhooks = wait_for(hooks, ids, began + limit_s)
            store_calls = len(proxy.calls)
            proxy.rules.clear()
            outcome = Outcome()
            wait_until_ready(url)
            watch(url, ids, outcome, until=time.monotonic() + limit_s)
        repeated_webhooks = sum(len(times) > 1 for times in hooks.arrived.values())
        return SoakResult(
            len(set(ids)),
            store_calls,
            processes.kills,
            missing_webhooks,
            repeated_webhooks,
            time.monotonic() - began,
            outcome,
        )


def main() -> None:
    """Run once and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--kill-every-s", type=float, nargs=2, default=(20.0, 60.0), metavar=("SHORTEST", "LONGEST"))
    parser.add_argument("--limit-s", type=float, default=1_200.0)
    arguments = parser.parse_args()
    shortest_s, longest_s = arguments.kill_every_s
    soaked = run(
        jobs=arguments.jobs,
        clients=arguments.clients,
        kill_every_s=(shortest_s, longest_s),
        limit_s=arguments.limit_s,
    )
    print(f"accepted                 {soaked.accepted} of {arguments.jobs}")
    print(f"store calls              {soaked.store_calls}, one in a hundred broken")
    print(f"kills                    {dict(soaked.kills)}")
    print(f"statuses                 {dict(soaked.outcome.statuses)}")
    print(f"jobs by attempts         {dict(sorted(soaked.outcome.attempts.items()))}")
    print(f"finished twice           {len(soaked.outcome.finished_twice)}")
    print(f"artifacts not intact     {len(soaked.outcome.broken_artifacts)}")
    print(f"webhooks missing         {soaked.missing_webhooks}")
    print(f"webhooks repeated        {soaked.repeated_webhooks}, under the same id")
    print(f"took                     {soaked.seconds:.0f} s")


if __name__ == "__main__":
    main()
