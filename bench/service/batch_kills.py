"""A batch whose worker, and whose feeder, are killed again and again: does every row end once, do its counts add up?

`python -m bench.service.batch_kills` prints what came of it; there is no peer, since the right answer is a number. With
`--engine relief` the worker makes real assets, else tiny ones, so that more rows meet more kills in the same time.
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
    """What came of it. wrong_counts: readings that did not sum, or in which an end was taken back."""

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
    """Play it: each of `workers` processes is killed again and again for `kill_for_s`, then the rest is run."""
    outcome = Outcome()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="batch-kills-"))
        COMPILED.mkdir(parents=True, exist_ok=True)
        Path(folder, "kernels").symlink_to(COMPILED.resolve())  # or every life would compile for half a minute
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
        mortals = [
            *(KilledProcess(worker, environment, kill_every_s) for _ in range(workers)),
            KilledProcess([TRELLIS2, "serve", "--role", "scheduler"], environment, kill_every_s * 0.7),
        ]
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        began = time.monotonic()
        batch = submit(client, rows)
        for mortal in mortals:
            mortal.start()
        try:
            watch(client, batch, outcome, until=began + kill_for_s)
        finally:
            for mortal in mortals:
                mortal.stop()
        *killed, outcome.scheduler_kills = (mortal.kills for mortal in mortals)
        outcome.worker_kills = sum(killed)
        for command in ([TRELLIS2, "serve", "--role", "scheduler"], *[worker] * workers):
            stack.enter_context(run_process(command, environment))
        watch(client, batch, outcome, until=began + limit_s)
        outcome.seconds = time.monotonic() - began
        count_results(client, batch, outcome)
    return outcome


def submit(client: httpx.Client, rows: int) -> str:
    """A catalog whose pictures come along, to be run without a yes."""
    packed, picture = BytesIO(), draw_test_image()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for row in range(rows):
            archive.writestr(f"SKU-{row}.png", picture)
    files = {"images": ("images.zip", packed.getvalue())}
    data = {"preset": "mobile", "pipeline_type": "512", "confirm": "false"}
    answer = client.post("/v1/batches", files=files, data=data)
    answer.raise_for_status()
    return str(answer.json()["id"])


def watch(client: httpx.Client, batch: str, outcome: Outcome, *, until: float) -> None:
    """Read the counts again and again until the batch has ended."""
    ended_before = 0
    while time.monotonic() < until:
        body = client.get(f"/v1/batches/{batch}").json()
        counts: dict[str, int] = body["counts"]
        ended = sum(counts[way] for way in STATUSES[2:])
        outcome.readings += 1
        if counts["total"] != sum(counts[way] for way in STATUSES) or min(counts.values()) < 0 or ended < ended_before:
            outcome.wrong_counts.append(counts)
        ended_before, outcome.status = ended, body["status"]
        if outcome.status == "completed":
            return
        time.sleep(0.2)


def count_results(client: httpx.Client, batch: str, outcome: Outcome) -> None:
    """Read every row, and every job that says it is the batch's."""
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
    """Print one run."""
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
