"""No job is lost or doubled when the gateway dies, the queue fails, or a submit is repeated."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.limits.api_keys import Scope, create_key
from api.submission.idempotency import Reservation
from bench.support.memory_store import MemoryStore
from infra.embedded_store.store import SqliteStore
from shared.domain.job import Lane, Status
from shared.errors import QueueUnavailable, StoreUnavailable
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import JobRepository
from shared.storage import keys
from shared.storage.ports import Entry
from tests.support.fakes import LossyStore, ManualClock, losing, no_pause, submitted
from tests.support.gateway_harness import IMAGE, GatewayHarness, build_gateway, encode_image
from tests.support.gateway_process import run_gateway
from tests.support.waiting import HANG_S

KEY = {"Idempotency-Key": "order-7"}


def sent(url: str) -> httpx.Response | None:
    """Submit with an Idempotency-Key to a process; return None if the process died."""
    try:
        return httpx.post(f"{url}/v1/jobs", files={"image": ("a.png", IMAGE)}, headers=KEY, timeout=HANG_S)
    except httpx.TransportError:
        return None


def job_ids(jobs: JobRepository) -> list[str]:
    """Every job that the local caller can see."""
    return [job.id for job in jobs.list("local", limit=100).jobs]


# --- 1 and 2: the gateway is killed


def test_fault_1_killed_after_the_record_the_same_key_gives_the_same_job(tmp_path: Path) -> None:
    """The record was written, the answer was not."""
    jobs = build_job_repository(SqliteStore(tmp_path, secret=b"test"))
    with run_gateway(tmp_path, crash_at="record") as dying:
        assert sent(dying.url) is None
    before = job_ids(jobs)
    with run_gateway(tmp_path) as living:
        answers = [sent(living.url) for _ in range(2)]
    assert [(answer.status_code, answer.json()["id"]) for answer in answers if answer] == [(202, before[0])] * 2
    assert job_ids(jobs) == before


@pytest.mark.parametrize("crash_at", ["reserved", "markers", "input"])
def test_fault_2_killed_before_the_record_the_retry_creates_the_only_job(tmp_path: Path, crash_at: str) -> None:
    """However far the dead gateway came: one job with its image, pending for the reconciler."""
    store = SqliteStore(tmp_path, secret=b"test")
    jobs = build_job_repository(store)
    with run_gateway(tmp_path, crash_at=crash_at) as dying:
        assert sent(dying.url) is None
    assert job_ids(jobs) == []
    with run_gateway(tmp_path) as living:
        answer = sent(living.url)
    assert answer is not None
    assert answer.status_code == 202
    assert job_ids(jobs) == [answer.json()["id"]]
    assert store.get(jobs.read(answer.json()["id"]).record.input.key or "").body == IMAGE
    assert [marker.job_id for marker in jobs.pending_markers()] == job_ids(jobs)


def test_fault_2_orphan_input_is_deleted_within_a_day(tmp_path: Path) -> None:
    """Without a retry the reconciler deletes what the dead gateway left."""
    with run_gateway(tmp_path, crash_at="input") as dying:
        assert sent(dying.url) is None
    day = timedelta(hours=24)
    later = SqliteStore(tmp_path, secret=b"test", clock=lambda: datetime.now(UTC) + day)
    assert [entry.key.rpartition("/")[2] for entry in later.list("jobs/")] == ["input.png"]
    jobs = build_job_repository(later)
    for marker in list(jobs.pending_markers()):
        jobs.repair(marker, queue_ttl_s=day.total_seconds(), orphan_s=day.total_seconds() - 60)
    assert (list(later.list("jobs/")), list(later.list("pending/"))) == ([], [])


def test_reservation_without_a_job_expires() -> None:
    """After a quarter of an hour a retry takes a new id: the reconciler may be deleting the old one's files."""
    deadly = ["input"]

    def die_once(point: str) -> None:
        if point in deadly:
            deadly.remove(point)
            raise RuntimeError("killed")

    gateway = build_gateway(checkpoint=die_once, pause=no_pause)
    assert gateway.client.post("/v1/jobs", files={"image": ("a.png", IMAGE)}, headers=KEY).status_code == 500
    orphan = next(marker.job_id for marker in gateway.jobs.pending_markers())
    gateway.clock.advance(901)
    job_id = gateway.submit(KEY)["id"]
    assert job_id != orphan
    assert gateway.submit(KEY)["id"] == job_id


# --- 3: the queue


class BrokenQueue:
    """A queue that keeps what a function makes of each enqueue."""

    def __init__(self, transform: Callable[[Sequence[str]], list[str]]) -> None:
        self._transform = transform
        self.enqueued: list[str] = []

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:
        """Keep the transformed ids."""
        del lane, tier
        self.enqueued += self._transform(job_ids)

    def dequeue(self) -> str | None:
        """The oldest."""
        return self.enqueued.pop(0) if self.enqueued else None


def unreachable(_: Sequence[str]) -> list[str]:
    """Raise as an unreachable queue does."""
    raise QueueUnavailable("no connection")


def broken(_: Sequence[str]) -> list[str]:
    """Raise an unforeseen error."""
    raise RuntimeError("a bug in the adapter")


def lost(_: Sequence[str]) -> list[str]:
    """Lose the ids."""
    return []


def doubled(ids: Sequence[str]) -> list[str]:
    """Enqueue each id twice."""
    return [*ids, *ids]


@pytest.mark.parametrize("transform", [unreachable, broken, lost, doubled])
def test_fault_3_submit_is_accepted_and_runs_once_whatever_the_queue_does(
    transform: Callable[[Sequence[str]], list[str]],
) -> None:
    """202; the job is pending for the reconciler, and only one of two equal ids claims it."""
    queue = BrokenQueue(transform)
    gateway = build_gateway(queue=queue)
    job_id = gateway.submit()["id"]
    assert gateway.job(job_id).status is Status.QUEUED
    assert [marker.job_id for marker in gateway.jobs.pending_markers()] == [job_id]
    claims = [gateway.jobs.claim(enqueued, "worker") for enqueued in queue.enqueued or [job_id]]
    assert len([claim for claim in claims if claim]) == 1


def test_fault_3_retry_survives_an_unreachable_queue() -> None:
    """202; the job is queued again."""
    gateway = build_gateway(queue=BrokenQueue(unreachable))
    job_id = gateway.submit()["id"]
    gateway.fail(job_id)
    answer = gateway.client.post(f"/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


# --- 13: the store loses its answer


@pytest.mark.parametrize("moment", ["before_put", "after_put"])
def test_fault_13_lost_answer_of_the_store_makes_no_second_job(moment: str) -> None:
    """Whether or not the record was written."""
    clock = ManualClock()
    gateway = build_gateway(store=LossyStore(clock, **{moment: losing(1)}))
    job_id = gateway.submit()["id"]
    assert job_ids(gateway.jobs) == [job_id]


def test_submit_without_a_listing_store_has_no_estimate() -> None:
    """The job is durable: 202, without a queue position."""

    class Unlisted(MemoryStore):
        def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
            if prefix.startswith(keys.PENDING):
                raise StoreUnavailable(f"no list of {prefix}")
            return super().list(prefix, after=after)

    body = build_gateway(store=Unlisted(ManualClock())).submit()
    assert (body["status"], body["queue_position"], body["eta_seconds"]) == ("queued", None, None)


# --- 21: equal submits


def submit_request(headers: dict[str, str], image: bytes = IMAGE, **fields: str) -> tuple[str, str, dict[str, Any]]:
    """A request for `Client.many`."""
    return ("POST", "/v1/jobs", {"files": {"image": ("a.png", image)}, "data": fields, "headers": headers})


def test_fault_21_hundred_equal_submits_make_one_job() -> None:
    """All at once, over eight threads: a hundred times 202 with one id, one record, one image."""
    gateway = build_gateway(store=MemoryStore())
    answers = gateway.client.many(*[submit_request(KEY, seed="5") for _ in range(100)])
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["id"] for answer in answers} == set(job_ids(gateway.jobs))
    assert len(job_ids(gateway.jobs)) == 1
    assert len([key for key in gateway.stored() if "/input." in key]) == 1
    assert len([key for key in gateway.stored() if key.startswith("pending/")]) == 1


def test_fault_21_submit_waits_for_an_equal_one_in_flight() -> None:
    """The first one's job appears at the second read; no second image is stored."""
    deadly = ["reserved"]

    def die_once(point: str) -> None:
        if point in deadly:
            deadly.remove(point)
            raise RuntimeError("stopped for a while")

    reads: list[float] = []

    def read(seconds: float) -> None:
        reads.append(seconds)
        if len(reads) == 2:
            reserved = gateway.store.get(next(key for key in gateway.stored() if key.startswith("idempotency/")))
            submitted(gateway.jobs, id=Reservation.model_validate_json(reserved.body).job_id, caller="local")

    gateway = build_gateway(checkpoint=die_once, pause=read)
    assert gateway.client.many(submit_request(KEY))[0].status_code == 500
    assert [gateway.client.many(submit_request(KEY))[0].json()["id"]] == job_ids(gateway.jobs)
    assert (len(reads), [key for key in gateway.stored() if "/input." in key]) == (2, [])


def test_fault_21_later_of_two_payloads_under_one_key_is_422() -> None:
    """The first one's reservation is stored between the read and the write of the later."""

    def rival(key: str) -> None:
        if key.startswith("idempotency/"):
            reserved = Reservation(job_id=keys.new_id("job", clock()), digest="another payload")
            MemoryStore.put(gateway.store, key, reserved.model_dump_json().encode())  # type: ignore[arg-type]

    clock = ManualClock()
    gateway = build_gateway(store=LossyStore(clock, before_put=rival))
    answer = gateway.client.many(submit_request(KEY))[0]
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert job_ids(gateway.jobs) == []


@pytest.fixture
def gateway() -> GatewayHarness:
    """A service after one submit under KEY."""
    gateway = build_gateway(pause=no_pause)
    gateway.submit(KEY, preset="web", metadata='{"b": "1", "a": "2"}')
    return gateway


def test_fault_21_same_key_gives_the_first_answer_for_ever(gateway: GatewayHarness) -> None:
    """After a day, after the job has ended, after it was deleted: 202 and the same id."""
    (first,) = job_ids(gateway.jobs)
    fields = {"preset": "web", "metadata": '{"a": "2", "b": "1"}'}
    gateway.clock.advance(86_400)
    ids = [gateway.submit(KEY, **fields)["id"]]
    gateway.succeed(first)
    ids.append(gateway.submit(KEY, **fields)["id"])
    gateway.client.delete(f"/v1/jobs/{first}")
    ids.append(gateway.submit(KEY, **fields)["id"])
    assert ids == [first] * 3


@pytest.mark.parametrize(
    "request_",
    [
        submit_request(KEY, preset="game", metadata='{"a": "2", "b": "1"}'),
        submit_request(KEY, preset="web"),
        submit_request(KEY, preset="web", metadata='{"a": "2", "b": "1"}', seed="1"),
        submit_request(KEY, encode_image(colour="red"), preset="web", metadata='{"a": "2", "b": "1"}'),
        ("POST", "/v1/jobs", {"json": {"image": {"url": "https://shop.example/a.png"}}, "headers": KEY}),
    ],
)
def test_fault_21_same_key_with_another_payload_is_422(gateway: GatewayHarness, request_: Any) -> None:
    """Another parameter, one less, one more, another image, another kind of source."""
    answer = gateway.client.many(request_)[0]
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert answer.json()["errors"][0]["pointer"] == "/Idempotency-Key"
    assert len(job_ids(gateway.jobs)) == 1


def test_fault_21_refused_submit_does_not_use_its_key(gateway: GatewayHarness) -> None:
    """With a valid image the same key creates a job."""
    key = {"Idempotency-Key": "second"}
    assert gateway.client.many(submit_request(key, b"no image"))[0].status_code == 422
    assert gateway.submit(key)["id"] in job_ids(gateway.jobs)


def test_fault_21_key_belongs_to_its_caller() -> None:
    """Two callers may use the same one."""
    gateway = build_gateway()
    tokens = [create_key(gateway.store, caller=name, name="x", scopes=frozenset(Scope))[1] for name in ("alice", "bob")]
    ids = {gateway.submit({**KEY, "X-API-Key": token})["id"] for token in tokens}
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a b", "ü"])
def test_malformed_key_is_refused(gateway: GatewayHarness, key: str) -> None:
    """1-255 printable ASCII characters without a space."""
    answer = gateway.client.many(submit_request({"Idempotency-Key": key.encode()}))[0]  # type: ignore[dict-item]  # raw bytes
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/Idempotency-Key")
