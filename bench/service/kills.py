"""python -m bench.service.kills submits jobs from many clients while the worker is killed repeatedly.

It checks that every job finishes, and only once. There is no peer: the right answer is a number.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx

from bench.support.processes import TRELLIS2, KilledProcess, draw_test_image, free_port, run_process, wait_until_ready


@dataclass
class Outcome:
    """Results of a run. `finished_twice` are jobs that showed two terminal statuses."""

    accepted: int = 0
    kills: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    finished_twice: list[str] = field(default_factory=list)
    broken_artifacts: list[str] = field(default_factory=list)


def run(*, jobs: int, clients: int, kill_every_s: float, work_s: float, kill_for_s: float, limit_s: float) -> Outcome:
    """Run once. Kills last at least `kill_for_s` and while jobs are submitted; then one worker finishes the rest."""
    outcome = Outcome()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kills-"))
        port = free_port()
        environment = {
            **os.environ,
            "TRELLIS2_DATA_DIR": folder,
            "TRELLIS2_PORT": str(port),
            "TRELLIS2_RECONCILE_INTERVAL_S": "1",
        }
        for role in ("gateway", "reconciler"):
            stack.enter_context(run_process([TRELLIS2, "serve", "--role", role], environment))
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url)
        started = time.monotonic()
        command = [sys.executable, "-m", "bench.support.stub_worker", str(work_s)]
        worker = KilledProcess(command, environment, kill_every_s)
        worker.start()
        try:
            with ThreadPoolExecutor(clients) as pool:
                ids = list(pool.map(lambda _: submit(url), range(jobs)))
            outcome.accepted = len(set(ids))
            time.sleep(max(0.0, kill_for_s - (time.monotonic() - started)))
        finally:
            worker.stop()
        outcome.kills = worker.kills
        stack.enter_context(run_process(command, environment))
        watch(url, ids, outcome, until=started + limit_s)
        outcome.seconds = time.monotonic() - started
    return outcome


def submit(url: str) -> str:
    """Submit a job as multipart form data."""
    fields = {"preset": "low_poly", "pipeline_type": "512"}
    answer = httpx.post(
        f"{url}/v1/jobs", files={"image": ("p.png", draw_test_image(), "image/png")}, data=fields, timeout=30
    )
    answer.raise_for_status()
    return str(answer.json()["id"])


def watch(url: str, ids: list[str], outcome: Outcome, *, until: float) -> None:
    """Read every job until it has finished, then read all again: no status may change, artifacts must be intact."""
    ends: dict[str, str] = {}
    with httpx.Client(base_url=url, timeout=30, follow_redirects=True) as client:
        while len(ends) < len(set(ids)) and time.monotonic() < until:
            for job_id in set(ids) - ends.keys():
                job = client.get(f"/v1/jobs/{job_id}").json()
                if job["status"] not in ("queued", "running"):
                    ends[job_id] = job["status"]
            time.sleep(0.5)
        for job_id in ids:
            job = client.get(f"/v1/jobs/{job_id}").json()
            outcome.statuses[job["status"]] += 1
            outcome.attempts[job["attempt"]] += 1
            if job_id in ends and ends[job_id] != job["status"]:
                outcome.finished_twice.append(job_id)
            model = (job.get("artifacts") or {}).get("model")
            if model and hashlib.sha256(client.get(model["url"]).content).hexdigest() != model["sha256"]:
                outcome.broken_artifacts.append(job_id)


def main() -> None:
    """Run once and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--kill-every-s", type=float, default=5.0)
    parser.add_argument("--limit-s", type=float, default=600.0)
    arguments = parser.parse_args()
    outcome = run(
        jobs=arguments.jobs,
        clients=arguments.clients,
        kill_every_s=arguments.kill_every_s,
        work_s=0.03,
        kill_for_s=60.0,
        limit_s=arguments.limit_s,
    )
    print(f"accepted              {outcome.accepted} of {arguments.jobs}")
    print(f"worker kills          {outcome.kills}, one every {arguments.kill_every_s:g} s")
    print(f"statuses              {dict(outcome.statuses)}")
    print(f"jobs by attempts      {dict(sorted(outcome.attempts.items()))}")
    print(f"finished twice        {len(outcome.finished_twice)}")
    print(f"artifacts not intact  {len(outcome.broken_artifacts)}")
    print(f"took                  {outcome.seconds:.0f} s")


if __name__ == "__main__":
    main()
