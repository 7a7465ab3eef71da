"""Progress is told to those who asked, and whatever becomes of it touches nothing else."""

import json
import threading
from collections.abc import Iterator
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
from tests.support.webhook_receivers import Receiver, Reply
from worker.engine import Progress
from worker.runner.job_function import JobResult
from worker.runner.worker import Worker
from worker.webhooks.progress_notifier import MIN_INTERVAL_S, ProgressNotifier

PROGRESS = ("job.progress", "job.succeeded")


@dataclass
class House:
    """A herald, a receiver on this machine, and jobs that are told of there."""

    receiver: Receiver = field(default_factory=Receiver)
    seconds: Seconds = field(default_factory=Seconds)

    def __post_init__(self) -> None:
        self.jobs = build_job_repository(MemoryStore())
        egress = Egress(private_origins=[self.receiver.origin])
        self.herald = ProgressNotifier(self.jobs.store, egress, "https://3d.example", seconds=self.seconds)

    def running(self, events: tuple[Any, ...] = PROGRESS, **fields: Any) -> Job:
        """A job in its second stage."""
        job = submitted(self.jobs, webhook=Webhook(url=f"{self.receiver.origin}/hook", events=events), **fields)
        held = self.jobs.claim(job.id, "worker")
        assert held
        return self.jobs.renew(held, stage=Stage.SHAPE, progress=0.2).record

    def messages(self, count: int) -> list[Any]:
        """The first so many bodies that arrive."""
        self.receiver.wait_for(lambda requests: len(requests) >= count)
        return [json.loads(one.body) for one in self.receiver.requests]


@pytest.fixture
def house() -> Iterator[House]:
    """A house whose receiver is closed in the end."""
    house = House()
    yield house
    house.receiver.close()


def test_progress_is_told_signed_with_stage_and_fraction(house: House) -> None:
    """By the secret that signs for the URLs which jobs name."""
    job = house.running(metadata={"sku": "7"})
    house.herald.notify(job)
    (told,) = house.messages(1)
    assert told["type"] == "job.progress"
    shown = {name: told["data"][name] for name in ("id", "status", "stage", "progress", "attempt", "metadata")}
    assert shown == {
        "id": job.id, "status": "running", "stage": "shape", "progress": 0.2, "attempt": 1, "metadata": {"sku": "7"},
    }  # fmt: skip
    request = house.receiver.requests[0]
    secret = EndpointRepository(house.jobs.store).default(job.caller).secret
    assert Verifier(secret).verify(request.body, request.headers)
    assert request.headers["webhook-id"] == f"evt_{job.id.removeprefix('job_')}_0_{job.version}"


def test_job_whose_caller_did_not_ask_is_not_told_of(house: House) -> None:
    """Ends alone are the default."""
    house.herald.notify(house.running(events=("job.succeeded",)))
    house.herald.notify(submitted(house.jobs))
    asked = house.running()
    house.herald.notify(asked)
    assert [told["data"]["id"] for told in house.messages(1)] == [asked.id]


def test_a_job_is_told_of_every_half_second_at_most_and_another_is_not_held_up(house: House) -> None:
    """What comes too soon is left out."""
    job, other = house.running(), house.running()
    house.herald.notify(job)
    house.messages(1)
    house.seconds.now = MIN_INTERVAL_S - 0.01
    house.herald.notify(job)
    house.herald.notify(other)
    assert [told["data"]["id"] for told in house.messages(2)] == [job.id, other.id]


def test_failure_is_not_tried_again(house: House) -> None:
    """The next message says more."""
    house.receiver.script = [Reply(status=500)]
    job = house.running()
    house.herald.notify(job)
    house.messages(1)
    house.seconds.now = 10 * MIN_INTERVAL_S
    other = house.running()
    house.herald.notify(other)
    assert [told["data"]["id"] for told in house.messages(2)] == [job.id, other.id]


def test_slow_receiver_holds_up_neither_the_job_nor_more_than_one_message(house: House) -> None:
    """Whatever is told while one is on its way is left out; telling returns at once."""
    is_heard, may_answer = threading.Event(), threading.Event()

    @dataclass
    class Stuck:
        """An egress whose receiver does not answer yet."""

        sent: int = 0

        def post(self, *_: Any, **__: Any) -> None:
            self.sent += 1
            is_heard.set()
            assert may_answer.wait(10)

    egress: Any = Stuck()
    herald = ProgressNotifier(house.jobs.store, egress, seconds=house.seconds)
    job = house.running()
    for second in range(5):
        house.seconds.now = float(second)
        herald.notify(job)
        assert is_heard.wait(10)
    assert egress.sent == 1
    may_answer.set()


def test_worker_tells_when_a_job_is_claimed_and_when_its_lease_is_renewed(house: House) -> None:
    """And its end is announced as ever."""
    told: list[tuple[Stage | None, float]] = []
    queue = ListQueue()

    def work(_job: Job, progress: Progress) -> JobResult:
        progress(Stage.SHAPE, 1.0)
        assert worker._lease is not None
        worker._lease.heartbeat()
        return JobResult({}, {})

    worker = Worker(
        jobs=house.jobs,
        queue=queue,
        work=work,
        name="w",
        on_progress=lambda job: told.append((job.stage, job.progress)),
    )
    queue.enqueue([submitted(house.jobs).id], submitted(house.jobs).lane)
    worker.run_once()
    assert told == [(None, 0.0), (Stage.SHAPE, pytest.approx(0.35))]


def test_endpoint_cannot_be_registered_for_progress() -> None:
    """It would be told of every job, several times."""
    from api.schemas.webhooks import EndpointRequest

    with pytest.raises(ValueError, match=r"job\.succeeded"):
        EndpointRequest.model_validate({"url": "https://hooks.example.com", "events": ["job.progress"]})


def test_clock_of_the_store_dates_the_message(house: House) -> None:
    """Not the machine's."""
    clock = ManualClock()
    jobs = build_job_repository(MemoryStore(clock))
    herald = ProgressNotifier(jobs.store, Egress(private_origins=[house.receiver.origin]))
    job = submitted(jobs, webhook=Webhook(url=f"{house.receiver.origin}/hook", events=PROGRESS))
    held = jobs.claim(job.id, "worker")
    assert held
    herald.notify(held.record)
    house.messages(1)
    assert int(house.receiver.requests[0].headers["webhook-timestamp"]) == int(clock.at.timestamp())
