"""python -m bench.service.batch_kills runs a batch while its workers and the batch scheduler are killed repeatedly.

It checks that every row finishes once and that the counts add up. There is no peer: the right answer is a number. With
`--engine relief` workers make real assets, else tiny ones, so that more rows meet more kills in the same time.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx

from bench.support.processes import TRELLIS2, KilledProcess, draw_test_image, free_port, run_process, wait_until_ready

COMPILED = Path("var/kernels")
STATUSES = ("queued", "running", "succeeded", "failed", "canceled", "skipped")


@dataclass
class Outcome:
    """Results of a run. wrong_counts: readings that did not sum, or with fewer finished rows than before."""

    status: str = ""
    readings: int = 0
    wrong_counts: list[dict[str, int]] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    job_ids: int = 0
    worker_kills: int = 0
    scheduler_kills: int = 0
    seconds: float = 0.0


def run(
    *, rows: int, worker: Sequence[str], workers: int, kill_every_s: float, kill_for_s: float, limit_s: float
) -> Outcome:
    """Run a batch: kill each of `workers` processes repeatedly for `kill_for_s`, then run the rest without kills."""
    outcome = Outcome()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="batch-kills-"))
        COMPILED.mkdir(parents=True, exist_ok=True)
        Path(folder, "kernels").symlink_to(COMPILED.resolve())  # or every restart would compile for half a minute
        port = free_port()
        environment = {
            **os.environ,
            "TRELLIS2_DATA_DIR": folder,
            "TRELLIS2_PORT": str(port),
            "TRELLIS2_RECONCILE_INTERVAL_S": "1",
            "TRELLIS2_BATCH_WINDOW": "64",
        }
        for role in ("gateway", "reconciler"):
            stack.enter_context(run_process([TRELLIS2, "serve", "--role", role], environment))
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url)
        processes = [
            *(KilledProcess(worker, environment, kill_every_s) for _ in range(workers)),
            KilledProcess([TRELLIS2, "serve", "--role", "scheduler"], environment, kill_every_s * 0.7),
        ]
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        began = time.monotonic()
        batch = submit(client, rows)
        for process in processes:
            process.start()
        try:
            watch(client, batch, outcome, until=began + kill_for_s)
        finally:
            for process in processes:
                process.stop()
        *worker_kills, outcome.scheduler_kills = (process.kills for process in processes)
        outcome.worker_kills = sum(worker_kills)
        for command in ([TRELLIS2, "serve", "--role", "scheduler"], *[worker] * workers):
            stack.enter_context(run_process(command, environment))
        watch(client, batch, outcome, until=began + limit_s)
        outcome.seconds = time.monotonic() - began
        count_results(client, batch, outcome)
    return outcome


def submit(client: httpx.Client, rows: int) -> str:
    """Submit a catalog with its images, to be run without confirmation."""
    packed, image = BytesIO(), draw_test_image()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for row in range(rows):
            archive.writestr(f"SKU-{row}.png", image)
    files = {"images": ("images.zip", packed.getvalue())}
    data = {"preset": "mobile", "pipeline_type": "512", "confirm": "false"}
    answer = client.post("/v1/batches", files=files, data=data)
    answer.raise_for_status()
    return str(answer.json()["id"])


def watch(client: httpx.Client, batch: str, outcome: Outcome, *, until: float) -> None:
    """Read the counts until the batch has ended, and check each reading."""
    finished_before = 0
    while time.monotonic() < until:
        body = client.get(f"/v1/batches/{batch}").json()
        counts: dict[str, int] = body["counts"]
        finished = sum(counts[status] for status in STATUSES[2:])
        outcome.readings += 1
        if (
            counts["total"] != sum(counts[status] for status in STATUSES)
            or min(counts.values()) < 0
            or finished < finished_before
        ):
            outcome.wrong_counts.append(counts)
        finished_before, outcome.status = finished, body["status"]
        if outcome.status == "completed":
            return
        time.sleep(0.2)


def count_results(client: httpx.Client, batch: str, outcome: Outcome) -> None:
    """Count the statuses of all rows and of all jobs of the batch."""
    for line in client.get(f"/v1/batches/{batch}/results.jsonl").text.splitlines():
        outcome.rows[json.loads(line)["status"]] += 1
    cursor: str | None = ""
    ids: set[str] = set()
    while cursor is not None:
        page: dict[str, Any] = client.get("/v1/jobs", params={"batch": batch, "limit": 100, "after": cursor}).json()
        for job in page["data"]:
            ids.add(job["id"])
            outcome.jobs[job["status"]] += 1
            outcome.attempts[job["attempt"]] += 1
        cursor = page["next_cursor"]
    outcome.job_ids = len(ids)


def main() -> None:
    """Run once and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--engine", choices=("tiny", "relief"), default="tiny")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kill-every-s", type=float, default=10.0)
    parser.add_argument("--kill-for-s", type=float, default=120.0)
    parser.add_argument("--limit-s", type=float, default=900.0)
    arguments = parser.parse_args()
    tiny = [sys.executable, "-m", "bench.support.stub_worker", "0.03"]
    outcome = run(
        rows=arguments.rows,
        worker=tiny if arguments.engine == "tiny" else [TRELLIS2, "serve", "--role", "worker"],
        workers=arguments.workers,
        kill_every_s=arguments.kill_every_s,
        kill_for_s=arguments.kill_for_s,
        limit_s=arguments.limit_s,
    )
    print(f"batch                 {outcome.status}, {arguments.rows:,} rows, engine {arguments.engine}")
    print(f"workers               {arguments.workers}")
    print(f"kills                 {outcome.worker_kills} of workers, {outcome.scheduler_kills} of the scheduler")
    print(f"readings              {outcome.readings}, {len(outcome.wrong_counts)} of them wrong")
    print(f"rows                  {dict(outcome.rows)}")
    print(f"jobs                  {dict(outcome.jobs)}, {outcome.job_ids} ids")
    print(f"jobs by attempts      {dict(sorted(outcome.attempts.items()))}")
    print(f"took                  {outcome.seconds:.0f} s")


if __name__ == "__main__":
    main()
