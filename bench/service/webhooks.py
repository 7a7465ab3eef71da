"""python -m bench.service.webhooks measures webhook throughput, latency, slow receivers and kills of the notifier.

Everything runs on loopback over the embedded store, the receivers in this process, the notifier in another except where
said. There is no peer; the goals are 200/s, p95 under 1 s with a slow receiver, under 500 ms from finish to first
delivery, and no missing webhook.
"""

import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

from bench.support.processes import TRELLIS2, run_process
from bench.support.webhook_receivers import WebhookReceivers
from infra.embedded_store.store import SqliteStore
from infra.settings.service import Settings
from shared.domain.job import Input, Job, Webhook
from shared.domain.parameters import resolve
from shared.net.egress import Egress
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import JobRepository
from shared.repositories.webhooks import EndpointRepository
from shared.storage import keys
from worker.webhooks.relay import OutboxRelay
from worker.webhooks.sender import WebhookSender

LIMIT_S = 180.0


def finish_job(jobs: JobRepository, caller: str, url: str) -> tuple[str, float]:
    """Submit, claim and finish a job with a webhook; return the event's id and when the finish began."""
    now = jobs.now()
    job = Job(
        id=keys.new_id("job", now),
        caller=caller,
        engine="relief",
        parameters=resolve({"seed": 1}, "game"),
        input=Input(),
        webhook=Webhook(url=url),
        created_at=now,
        queued_at=now,
    )
    jobs.reserve(job)
    jobs.create(job)
    held = jobs.claim(job.id, "bench")
    assert held
    finished_at = time.time()
    jobs.succeed(held, artifacts={}, timings={})
    return keys.event_id(job.id, 0), finished_at


def wait_for(hooks: WebhookReceivers, count: int, within_s: float = LIMIT_S) -> float:
    """Wait until `count` events have arrived; return the seconds."""
    began = time.monotonic()
    while len(hooks.arrived) < count and time.monotonic() - began < within_s:
        time.sleep(0.02)
    return time.monotonic() - began


@contextmanager
def open_job_repository() -> Iterator[tuple[JobRepository, Path]]:
    """Open a job repository over a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        store = SqliteStore(settings.data_dir / "store", secret=settings.signing_secret())
        yield build_job_repository(store), settings.data_dir


def notifier_environment(folder: Path, hooks: WebhookReceivers) -> dict[str, str]:
    """Build the environment of a notifier that reads the folder and may reach the receivers."""
    return {
        **os.environ,
        "TRELLIS2_DATA_DIR": str(folder),
        "TRELLIS2_WEBHOOK_PRIVATE_ORIGINS": json.dumps(hooks.origins),
    }


def measure_throughput(events: int = 2_000, receivers: int = 20) -> float:
    """Measure deliveries per second of one notifier that starts with a full outbox."""
    with open_job_repository() as (jobs, folder), WebhookReceivers(receivers) as hooks:
        for number in range(events):
            finish_job(jobs, f"caller-{number % 8}", f"{hooks.origins[number % receivers]}/hook")
        with run_process([TRELLIS2, "serve", "--role", "notifier"], notifier_environment(folder, hooks)):
            wait_for(hooks, 1)
            began = time.monotonic()
            wait_for(hooks, events)
            return (len(hooks.arrived) - 1) / (time.monotonic() - began)


def measure_first_delivery(events: int = 100) -> list[float]:
    """Measure seconds from finish to the webhook's arrival, with an idle notifier in the same process."""
    stopping = threading.Event()
    with open_job_repository() as (jobs, _), WebhookReceivers(1) as hooks:
        notifier = OutboxRelay(WebhookSender(jobs, Egress(private_origins=hooks.origins)))
        jobs.announced = notifier.wake
        thread = threading.Thread(target=notifier.run, args=(stopping,))
        thread.start()
        seconds = []
        for number in range(events):
            event, finished_at = finish_job(jobs, "caller", f"{hooks.origins[0]}/hook")
            wait_for(hooks, number + 1)
            seconds.append(hooks.arrived[event][0] - finished_at)
        stopping.set()
        notifier.wake()
        thread.join()
        return seconds


def measure_with_slow_receiver(events: int = 500, receivers: int = 50, every_s: float = 0.02) -> list[float]:
    """Measure seconds from finish to arrival at 49 receivers while the fiftieth answers byte by byte."""
    finished_times: dict[str, float] = {}
    with open_job_repository() as (jobs, folder), WebhookReceivers(receivers, slow=1) as hooks:
        with run_process([TRELLIS2, "serve", "--role", "notifier"], notifier_environment(folder, hooks)):
            warm, _ = finish_job(jobs, "caller", f"{hooks.origins[1]}/hook")
            wait_for(hooks, 1)
            for number in range(events):
                began = time.monotonic()
                event, finished_at = finish_job(jobs, "caller", f"{hooks.origins[number % receivers]}/hook")
                if number % receivers:
                    finished_times[event] = finished_at
                time.sleep(max(0.0, every_s - (time.monotonic() - began)))
            wait_for(hooks, len(finished_times) + 1, within_s=30)
            assert warm in hooks.arrived
        return [
            hooks.arrived[event][0] - at if event in hooks.arrived else LIMIT_S for event, at in finished_times.items()
        ]


def run_under_kills(producers: int = 20, receivers: int = 20, each: int = 200, kill_every_s: float = 5.0) -> str:
    """Check that every event of many producers arrives, verified, while the notifier is killed repeatedly."""
    kills = 0
    began = time.monotonic()
    with open_job_repository() as (jobs, folder), WebhookReceivers(receivers) as hooks:
        endpoints = EndpointRepository(jobs.store)
        callers = [f"caller-{number}" for number in range(producers)]
        hooks.secrets |= {f"/{caller}": endpoints.default(caller).secret for caller in callers}

        def produce(caller: str) -> list[str]:
            return [finish_job(jobs, caller, f"{random.choice(hooks.origins)}/{caller}")[0] for _ in range(each)]

        with ThreadPoolExecutor(producers) as pool:
            producing = [pool.submit(produce, caller) for caller in callers]
            while len(hooks.arrived) < producers * each and time.monotonic() - began < LIMIT_S:
                with run_process(
                    [TRELLIS2, "serve", "--role", "notifier"], notifier_environment(folder, hooks)
                ) as notifier:
                    ends_at = time.monotonic() + kill_every_s
                    while time.monotonic() < ends_at and len(hooks.arrived) < producers * each:
                        time.sleep(0.05)
                    if len(hooks.arrived) < producers * each:
                        notifier.send_signal(signal.SIGKILL)
                        kills += 1
            expected = {event for done in producing for event in done.result()}
        missing = len(expected - set(hooks.arrived))
        twice = sum(len(times) > 1 for times in hooks.arrived.values())
        return (
            f"{len(expected)} events, {kills} kills, {missing} missing, {hooks.unverified} unverified, "
            f"{twice} delivered again, {time.monotonic() - began:.0f} s"
        )


def _format_percentiles(seconds: list[float]) -> str:
    return f"p50 {quantiles(seconds, n=20)[9] * 1000:.0f} ms, p95 {quantiles(seconds, n=20)[18] * 1000:.0f} ms"


def main() -> None:
    """Run the four measurements and print them."""
    print(f"delivered a second:            {measure_throughput():.0f}", flush=True)
    print(f"finish to first delivery:      {_format_percentiles(measure_first_delivery())}", flush=True)
    print(f"with one of 50 receivers slow: {_format_percentiles(measure_with_slow_receiver())}", flush=True)
    print(f"notifier killed every 5 s:     {run_under_kills()}", flush=True)


if __name__ == "__main__":
    main()
