"""Progress is sent to webhooks that ask for it; its failure affects nothing else."""

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from bench.support.memory_store import MemoryStore
from shared.domain.job import Job, Stage, Webhook
from shared.net.egress import Egress
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.webhooks import EndpointRepository
from tests.support.fakes import ListQueue, ManualClock, Seconds, submitted
from tests.support.waiting import HANG_S
from tests.support.webhook_harness import WebhookHarness
from tests.support.webhook_receivers import Reply
from worker.engine import Progress
from worker.runner.job_function import JobResult
from worker.runner.worker import Worker
from worker.webhooks.progress_notifier import MIN_INTERVAL_S, ProgressNotifier

PROGRESS = ("job.progress", "job.succeeded")


@dataclass
class ProgressHarness:
    """A notifier with its own monotonic clock, and what the receiver gets from it."""

    webhooks: WebhookHarness
    seconds: Seconds = field(default_factory=Seconds)

    def __post_init__(self) -> None:
        self.notifier = ProgressNotifier(
            self.webhooks.store, self.webhooks.egress, "https://3d.example", seconds=self.seconds
        )

    def running(self, events: tuple[Any, ...] = PROGRESS, **fields: Any) -> Job:
        """Run a job that names the receiver up to its second stage."""
        webhook = Webhook(url=f"{self.webhooks.receiver.origin}/hook", events=events)
        return self.webhooks.running_job(webhook=webhook, **fields)

    def messages(self, count: int) -> list[Any]:
        """Wait for so many bodies."""
        requests = self.webhooks.receiver.wait_for(lambda requests: len(requests) >= count)
        return [json.loads(request.body) for request in requests]


@pytest.fixture
def progress(webhooks: WebhookHarness) -> ProgressHarness:
    """A notifier that may reach the receiver."""
    return ProgressHarness(webhooks)


def test_progress_is_sent_signed_with_stage_and_fraction(progress: ProgressHarness) -> None:
    """By the secret for URLs that jobs name."""
    job = progress.running(metadata={"sku": "7"})
    progress.notifier.notify(job)
    (message,) = progress.messages(1)
    assert message["type"] == "job.progress"
    shown = {name: message["data"][name] for name in ("id", "status", "stage", "progress", "attempt", "metadata")}
    assert shown == {
        "id": job.id, "status": "running", "stage": "shape", "progress": 0.2, "attempt": 1, "metadata": {"sku": "7"},
    }  # fmt: skip
    request = progress.webhooks.receiver.requests[0]
    secret = EndpointRepository(progress.webhooks.jobs.store).default(job.caller).secret
    assert Verifier(secret).verify(request.body, request.headers)
    assert request.headers["webhook-id"] == f"evt_{job.id.removeprefix('job_')}_0_{job.version}"


def test_progress_is_sent_only_to_webhooks_that_ask_for_it(progress: ProgressHarness) -> None:
    """The default is the terminal events."""
    progress.notifier.notify(progress.running(events=("job.succeeded",)))
    progress.notifier.notify(submitted(progress.webhooks.jobs))
    asked = progress.running()
    progress.notifier.notify(asked)
    assert [message["data"]["id"] for message in progress.messages(1)] == [asked.id]


def test_progress_of_a_job_is_sent_every_half_second_at_most(progress: ProgressHarness) -> None:
    """Earlier progress is skipped; another job is not delayed."""
    job, second_job = progress.running(), progress.running()
    progress.notifier.notify(job)
    progress.messages(1)
    progress.seconds.now = MIN_INTERVAL_S - 0.01
    progress.notifier.notify(job)
    progress.notifier.notify(second_job)
    assert [message["data"]["id"] for message in progress.messages(2)] == [job.id, second_job.id]


def test_failed_message_is_not_repeated(progress: ProgressHarness) -> None:
    """The next message has newer progress."""
    progress.webhooks.receiver.script = [Reply(status=500)]
    job = progress.running()
    progress.notifier.notify(job)
    progress.messages(1)
    progress.seconds.now = 10 * MIN_INTERVAL_S
    second_job = progress.running()
    progress.notifier.notify(second_job)
    assert [message["data"]["id"] for message in progress.messages(2)] == [job.id, second_job.id]


def test_slow_receiver_delays_neither_the_job_nor_more_than_one_message(progress: ProgressHarness) -> None:
    """Progress during a running send is skipped; `notify` returns at once."""
    is_sent, may_answer = threading.Event(), threading.Event()

    @dataclass
    class BlockedEgress:
        """An egress whose receiver does not answer yet."""

        sent: int = 0

        def send(self, *_: Any, **__: Any) -> None:
            self.sent += 1
            is_sent.set()
            assert may_answer.wait(HANG_S)

    egress: Any = BlockedEgress()
    notifier = ProgressNotifier(progress.webhooks.jobs.store, egress, seconds=progress.seconds)
    job = progress.running()
    for second in range(5):
        progress.seconds.now = float(second)
        notifier.notify(job)
        assert is_sent.wait(HANG_S)
    assert egress.sent == 1
    may_answer.set()


def test_a_bug_in_a_send_is_logged_and_the_jobs_next_message_is_sent(
    progress: ProgressHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that the notifier does not foresee is in the log with its trace."""
    is_sent = threading.Event()

    class FaultyEgress:
        """An egress with a bug that shows once."""

        calls = 0

        def send(self, *_: Any, **__: Any) -> None:
            self.calls += 1
            if self.calls == 1:
                raise AttributeError("a bug")
            is_sent.set()

    egress: Any = FaultyEgress()
    notifier = ProgressNotifier(progress.webhooks.jobs.store, egress, seconds=progress.seconds)
    job = progress.running()
    until = time.monotonic() + HANG_S
    while not is_sent.is_set() and time.monotonic() < until:
        progress.seconds.now += MIN_INTERVAL_S
        notifier.notify(job)
        is_sent.wait(0.01)
    assert is_sent.is_set()
    (record,) = (record for record in caplog.records if record.getMessage() == "webhook.progress_crashed")
    assert record.levelname == "ERROR"
    assert record.exc_info
    assert str(record.exc_info[1]) == "a bug"


def test_worker_notifies_at_the_claim_and_at_each_renewal(progress: ProgressHarness) -> None:
    """With the stage and the progress of the record."""
    notified: list[tuple[Stage | None, float]] = []
    queue = ListQueue()

    def work(_job: Job, report: Progress) -> JobResult:
        report(Stage.SHAPE, 1.0)
        assert worker._lease is not None
        worker._lease.heartbeat()
        return JobResult({}, {})

    worker = Worker(
        jobs=progress.webhooks.jobs,
        queue=queue,
        work=work,
        name="w",
        on_progress=lambda job: notified.append((job.stage, job.progress)),
    )
    queue.enqueue([submitted(progress.webhooks.jobs).id], submitted(progress.webhooks.jobs).lane)
    worker.run_once()
    assert notified == [(None, 0.0), (Stage.SHAPE, pytest.approx(0.35))]


def test_endpoint_cannot_be_registered_for_progress() -> None:
    """It would get several messages of every job."""
    from api.schemas.webhooks import EndpointRequest

    with pytest.raises(ValueError, match=r"job\.succeeded"):
        EndpointRequest.model_validate({"url": "https://hooks.example.com", "events": ["job.progress"]})


def test_clock_of_the_store_dates_the_message(progress: ProgressHarness) -> None:
    """Not the machine's clock."""
    clock = ManualClock()
    jobs = build_job_repository(MemoryStore(clock))
    notifier = ProgressNotifier(jobs.store, Egress(private_origins=[progress.webhooks.receiver.origin]))
    job = submitted(jobs, webhook=Webhook(url=f"{progress.webhooks.receiver.origin}/hook", events=PROGRESS))
    held = jobs.claim(job.id, "worker")
    assert held
    notifier.notify(held.record)
    progress.messages(1)
    assert int(progress.webhooks.receiver.requests[0].headers["webhook-timestamp"]) == int(clock.at.timestamp())
