"""Callers are told of every end: signed, at least once, always under the same id, and none at another's cost."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpcore
import pytest
from standardwebhooks import Webhook as Verifier
from trellis2_modal.types.job import Job as ClientJob
from trellis2_modal.webhooks import WebhookInvalid, verify

from bench.support.memory_store import MemoryStore
from shared.domain.job import Job, JobError, Webhook
from shared.domain.job_schema import job_body
from shared.net.egress import Egress, tcp_dial
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.outbox import Outbox, target_of
from shared.repositories.webhooks import (
    Delivery,
    DeliveryRepository,
    DeliveryState,
    Endpoint,
    EndpointRepository,
    delivery_id,
)
from shared.storage import keys
from shared.storage.versioned_records import Versioned
from tests.support.fakes import ManualClock, keys_under, no_pause, submitted
from tests.support.webhook_receivers import Receiver, Reply, canary, was_reached
from worker.webhooks.relay import PER_RECEIVER, OutboxRelay
from worker.webhooks.sender import CLAIM_S, DELAYS_S, WebhookSender, kept_answer, next_try_at

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

BASE_URL = "https://api.example.com"


@dataclass
class House:
    """A ledger whose store's clock is moved by hand, one receiver, and a postman that may reach it."""

    receiver: Receiver = field(default_factory=Receiver)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.clock.at = datetime.now(UTC)  # what verifies compares with this machine's clock
        self.store = MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store, pause=no_pause)
        self.postman = self.another_postman()
        self.deliveries = DeliveryRepository(self.store)
        self.endpoints = EndpointRepository(self.store)

    def another_postman(self) -> WebhookSender:
        egress = Egress(private_origins=[self.receiver.origin])
        return WebhookSender(self.jobs, egress, base_url=BASE_URL, jitter=lambda: 1.0)

    def failed_job(self, **fields: Any) -> Job:
        job = submitted(self.jobs, **{"webhook": Webhook(url=self.receiver.url), **fields})
        held = self.jobs.claim(job.id, "worker")
        assert held
        return self.jobs.fail(held, JobError(code="no_object_found", detail="-", retryable=False)).record

    def endpoint(self, **fields: Any) -> Endpoint:
        plain = {"id": keys.new_id("we", self.clock()), "caller": "alice", "secret": "whsec_" + "MDEy" * 10}
        return self.endpoints.create(
            Endpoint(**{**plain, "url": self.receiver.url, "created_at": self.clock(), **fields})
        )

    def deliver_due(self) -> None:
        for _ in range(2):  # what goes to every endpoint becomes an entry for each first
            for entry in list(Outbox(self.store).due(self.clock())):
                self.postman.deliver(entry)

    def outbox(self) -> list[str]:
        return list(keys_under(self.store, keys.OUTBOX))

    def delivery(self, job: Job, target: str = "") -> Delivery:
        return self.held(job, target).record

    def held(self, job: Job, target: str = "") -> Versioned[Delivery]:
        name = delivery_id(keys.event_id(job.id, job.run_number), target or target_of(self.receiver.url))
        held = self.deliveries.find(job.caller, name)
        assert held
        return held


@pytest.fixture
def house() -> Iterator[House]:
    built = House()
    yield built
    built.receiver.close()


def test_end_of_a_job_is_told_signed_as_the_standard_says(house: House) -> None:
    """The library `standardwebhooks` verifies it; the body says what became of the job, the header which trace."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    job = house.failed_job(traceparent=trace, custom_id="mug")
    house.deliver_due()
    request = house.receiver.requests[0]
    body = Verifier(house.endpoints.default("alice").secret).verify(request.body, request.headers)
    assert (body["type"], body["data"]["id"], body["data"]["custom_id"]) == ("job.failed", job.id, "mug")
    assert body["data"]["error"]["code"] == "no_object_found"
    assert body["data"]["status_url"] == f"https://api.example.com/v1/jobs/{job.id}"
    assert (request.path, request.headers["traceparent"]) == ("/hook?token=abc", trace)
    assert (house.outbox(), house.delivery(job).state) == ([], DeliveryState.DELIVERED)


@pytest.mark.parametrize("ahead_s", [-600, 600])
def test_fault_18_messages_are_dated_by_the_stores_clock(house: House, ahead_s: float) -> None:
    """Whatever this machine's says: ten minutes off, it would be refused by every receiver."""
    house.clock.advance(ahead_s)
    house.failed_job()
    house.deliver_due()
    request = house.receiver.requests[0]
    secret = house.endpoints.default("alice").secret
    verify(request.body, request.headers, secret, clock=house.clock().timestamp)
    with pytest.raises(WebhookInvalid):
        verify(request.body, request.headers, secret)


def test_job_without_a_webhook_costs_no_store_call(house: House) -> None:
    """Neither is anything listed or written for an end that nobody wants to hear of."""
    house.failed_job(webhook=None)
    house.failed_job(webhook=Webhook(url=house.receiver.url, events=("job.succeeded",)))
    assert list(keys_under(house.store, keys.OUTBOX)) == []


def test_fault_16_after_five_500s_the_sixth_try_succeeds_under_the_same_id(house: House) -> None:
    """On the schedule, each try with a timestamp of its own; every try is written down."""
    house.receiver.script = [Reply(500)] * 5
    job = house.failed_job()
    tried_at = [house.clock()]
    house.deliver_due()
    for delay_s in DELAYS_S[1:6]:
        house.clock.advance(delay_s - 1)
        house.deliver_due()
        assert len(house.receiver.requests) == len(tried_at), "tried too early"
        house.clock.advance(1)
        tried_at.append(house.clock())
        house.deliver_due()
    headers = [request.headers for request in house.receiver.requests]
    assert [one["webhook-id"] for one in headers] == [keys.event_id(job.id, 0)] * 6
    assert [int(one["webhook-timestamp"]) for one in headers] == [int(at.timestamp()) for at in tried_at]
    assert len({request.body for request in house.receiver.requests}) == 1
    assert [attempt.status for attempt in house.delivery(job).attempts] == [500] * 5 + [200]
    assert (house.outbox(), house.delivery(job).state) == ([], DeliveryState.DELIVERED)


def test_after_the_last_try_it_is_given_up(house: House) -> None:
    """Ten tries; the delivery says so, and the outbox is empty."""
    house.receiver.otherwise = Reply(503)
    job = house.failed_job()
    for delay_s in DELAYS_S:
        house.clock.advance(delay_s)
        house.deliver_due()
    assert (house.delivery(job).state, house.delivery(job).tries, house.outbox()) == (DeliveryState.FAILED, 10, [])


def test_fault_16_gone_disables_the_endpoint_for_good(house: House) -> None:
    """410: what is still to be told there is dropped, and nothing new goes there."""
    house.receiver.script = [Reply(500), Reply(410)]
    endpoint = house.endpoint()
    waiting, _ = (house.failed_job(webhook=None, has_endpoints=True) for _ in range(2))
    house.deliver_due()
    house.clock.advance(5)
    house.deliver_due()
    house.failed_job(webhook=None, has_endpoints=True)
    house.deliver_due()
    present = house.endpoints.find("alice", endpoint.id)
    assert present
    assert (len(house.receiver.requests), present.disabled_because, house.outbox()) == (2, "gone", [])
    assert house.delivery(waiting, endpoint.id).state is DeliveryState.FAILED


def test_endpoint_that_only_failed_for_five_days_is_disabled(house: House) -> None:
    """Not before, and one success starts the count anew."""
    house.receiver.script = [Reply(500), Reply(200), *[Reply(500)] * 20]
    endpoint = house.endpoint()

    def fail() -> Endpoint:
        house.failed_job(webhook=None, has_endpoints=True)
        house.deliver_due()
        present = house.endpoints.find("alice", endpoint.id)
        assert present
        return present

    assert fail().failing_since == house.clock()
    assert fail().failing_since is None
    began = fail().failing_since
    house.clock.advance(timedelta(days=5).total_seconds() - 1)
    assert fail().disabled_at is None
    house.clock.advance(1)
    assert (began, fail().disabled_because) == (house.clock() - timedelta(days=5), "failing")


def test_fault_16_redirect_is_a_failure_and_never_followed(house: House) -> None:
    """To itself or anywhere: one request, written down as what it was."""
    house.receiver.otherwise = Reply(307, {"Location": f"{house.receiver.origin}/elsewhere"})
    job = house.failed_job()
    house.deliver_due()
    assert [request.path for request in house.receiver.requests] == ["/hook?token=abc"]
    assert house.delivery(job).attempts[0].status == 307


@pytest.mark.parametrize(
    ("retry_after", "delay_s"), [("120", 120), ("1000000000", 86_400), ("1", 5), ("soon", 5), ("-5", 5)]
)
def test_fault_16_retry_after_is_honoured_and_clamped(house: House, retry_after: str, delay_s: float) -> None:
    """It can make the next try later, by a day at most, and never sooner than the schedule."""
    house.receiver.script = [Reply(429, {"Retry-After": retry_after})]
    job = house.failed_job()
    house.deliver_due()
    assert (house.delivery(job).next_try_at - house.clock()).total_seconds() == pytest.approx(delay_s, abs=0.001)


def test_retry_after_may_be_a_date() -> None:
    """As HTTP allows."""
    headers = {"retry-after": "Thu, 01 Jan 2026 13:00:00 GMT"}
    assert next_try_at(1, NOON, headers, lambda: 1.0) == NOON + timedelta(hours=1)


def test_fault_16_endless_answer_is_read_to_20_kb_and_not_decompressed(house: House) -> None:
    """Of a flood that calls itself gzip the first 20 kB are read; 2,000 characters are kept."""
    house.receiver.otherwise = Reply(200, {"Content-Encoding": "gzip"}, ends=False)
    job = house.failed_job()
    house.deliver_due()
    kept = house.delivery(job).attempts[0]
    assert (kept.status, kept.answer) == (200, "x" * 2_000)
    assert house.receiver.bytes_sent < 5_000_000, "more than what fits into the sockets between was sent"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"hello\x00 w\xc3\xb6rld\n", "hello\ufffd w\xf6rld\n"),
        (b"whsec_c2VjcmV0+/=, next", "[redacted], next"),
        (b"v1," + b"A" * 44, "[redacted]"),
        (b"t2_" + b"0" * 26 + b"_abc-def.", "[redacted]."),
        (b"Authorization: Bearer abc.def", "Authorization: [redacted]"),
        (b"/hook?token=xyz&x=1", "/hook?[redacted]&x=1"),
        (b'{"api_key":"k1"}', '{"[redacted]'),
    ],
)
def test_secrets_in_an_answer_are_not_kept(said: bytes, kept: str) -> None:
    """Receivers echo headers, tokens and query strings."""
    assert kept_answer(said) == kept


def test_fault_16_receiver_that_drips_is_cut_off(house: House) -> None:
    """When the time of a try is over, however busy the receiver looks; nothing came, and it is tried again."""
    house.receiver.script = [Reply(drip_s=60.0)]
    house.postman.try_s = 0.3
    job = house.failed_job()
    house.deliver_due()
    assert [attempt.status for attempt in house.delivery(job).attempts] == [None]
    assert house.delivery(job).state is DeliveryState.PENDING


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "64:ff9b::7f00:1"])
def test_fault_20_name_that_re_resolves_inward_is_never_dialled(house: House, address: str) -> None:
    """A receiver that was public when it was named and is inward when it is due: no packet, an ordinary failure."""
    listener = canary()

    def dial(_address: str, _port: int, timeout_s: float) -> httpcore.NetworkStream:
        return tcp_dial(*listener.getsockname(), timeout_s)

    house.postman.egress = Egress(resolve=lambda _host, _timeout_s: [address], dial=dial)
    job = house.failed_job(webhook=Webhook(url="https://hooks.example.com/"))
    house.deliver_due()
    tried = house.delivery(job, target_of("https://hooks.example.com/")).attempts
    assert [(attempt.status, attempt.answer) for attempt in tried] == [(None, "")]
    assert not was_reached(listener)
    listener.close()


def test_fault_6_end_is_announced_by_the_sweeper_where_a_crash_came_before(house: House) -> None:
    """Entry or marker: one of the two is always there; both lead to the same event, and to one delivery."""
    job = house.failed_job()
    house.deliver_due()
    house.store.put(
        keys.pending_marker(job.lane, job.id, job.run_number, job.caller), b""
    )  # as if its deletion had been lost
    for marker in house.jobs.pending_markers():
        house.jobs.repair(marker, queue_ttl_s=1e9, orphan_s=1e9)
    assert len(house.outbox()) == 1
    house.deliver_due()
    assert (len(house.receiver.requests), house.outbox()) == (1, [])


def test_two_notifiers_at_one_entry_make_one_try(house: House) -> None:
    """The delivery is claimed by compare-and-set."""
    house.failed_job()
    entry = next(iter(Outbox(house.store).due(house.clock())))
    postmen = [house.another_postman() for _ in range(4)]
    threads = [threading.Thread(target=postman.deliver, args=(entry,)) for postman in postmen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(house.receiver.requests) == 1


def test_try_of_a_notifier_that_died_is_made_again_once_its_claim_is_over(house: House) -> None:
    """Nobody else touches it before."""
    job = house.failed_job()
    entry = next(iter(Outbox(house.store).due(house.clock())))
    house.postman._claimed(entry, house.postman.outbox.read(entry))
    house.deliver_due()
    assert house.receiver.requests == []
    house.clock.advance(CLAIM_S)
    house.deliver_due()
    assert (len(house.receiver.requests), house.delivery(job).state) == (1, DeliveryState.DELIVERED)


def reference(job: Job) -> dict[str, Any]:
    """What is sent of a failed job that a body cannot hold."""
    url = f"{BASE_URL}/v1/jobs/{job.id}"
    return {"id": job.id, "custom_id": None, "batch_id": None, "status": "failed", "status_url": url}


def test_caller_who_retries_a_failed_job_is_told_of_both_ends(house: House) -> None:
    """Each round is an event of its own; one that is told late says no more than what it was."""
    job = house.failed_job()
    house.jobs.retry(job.id)
    house.deliver_due()
    held = house.jobs.claim(job.id, "worker")
    assert held
    house.jobs.succeed(held, artifacts={}, timings={})
    house.deliver_due()
    told = [json.loads(request.body) for request in house.receiver.requests]
    assert [one["type"] for one in told] == ["job.failed", "job.succeeded"]
    assert told[0]["data"] == reference(job)


def test_erased_job_is_told_of_by_no_more_than_its_id(house: House) -> None:
    """Words that the caller deleted go nowhere; the receiver of a job's own URL is forgotten with them."""
    endpoint = house.endpoint()
    job = house.failed_job(has_endpoints=True, metadata={"secret": "plan"})
    house.jobs.purge(job.id)
    house.deliver_due()
    assert [json.loads(request.body)["data"]["metadata"] for request in house.receiver.requests] == [{}]
    assert house.delivery(job, endpoint.id).state is DeliveryState.DELIVERED


def test_job_that_would_not_fit_is_sent_as_a_reference(house: House) -> None:
    """A body stays under 20 kB."""
    job = house.failed_job(metadata={f"key{number}": "x" * 500 for number in range(50)})
    house.deliver_due()
    body = house.receiver.requests[0].body
    assert len(body) < 20_000
    assert json.loads(body)["data"] == reference(job)


def test_webhook_and_api_show_a_job_by_one_schema(house: House) -> None:
    """Also the client reads it: the same value from either."""
    house.failed_job(metadata={"sku": "7"})
    house.deliver_due()
    data = json.loads(house.receiver.requests[0].body)["data"]
    job = house.jobs.read(data["id"]).record
    assert data == json.loads(job_body(job, BASE_URL).model_dump_json())
    parsed = ClientJob.from_json(data)
    assert (parsed.id, parsed.status, parsed.metadata) == (job.id, "failed", {"sku": "7"})


def test_every_endpoint_is_told_and_while_rotating_signed_for_twice(house: House) -> None:
    """Each by its own secret; for a day after a rotation by the old one too."""
    first, second = house.endpoint(), house.endpoint(secret="whsec_" + "NDU2" * 10)
    rotated = house.endpoints.rotate("alice", first.id, house.clock())
    assert rotated
    house.failed_job(webhook=None, has_endpoints=True)
    house.deliver_due()
    request = {len(one.headers["webhook-signature"].split(" ")): one for one in house.receiver.requests}
    assert sorted(request) == [1, 2]
    Verifier(second.secret).verify(request[1].body, request[1].headers)
    Verifier(first.secret).verify(request[2].body, request[2].headers)
    Verifier(rotated.secret).verify(request[2].body, request[2].headers)
    assert rotated.secrets(house.clock() + timedelta(hours=24)) == [rotated.secret]


def test_slow_receiver_gets_a_bounded_number_at_a_time(house: House) -> None:
    """The others of the queue go on."""
    slow = Receiver(otherwise=Reply(drip_s=3.0))
    egress = Egress(private_origins=[house.receiver.origin, slow.origin])
    notifier = OutboxRelay(WebhookSender(house.jobs, egress))
    leaving = threading.Event()
    for _ in range(3 * PER_RECEIVER):
        house.failed_job(webhook=Webhook(url=slow.url))
    for _ in range(20):
        house.failed_job()
    house.clock.advance(0.001)
    thread = threading.Thread(target=notifier.run, args=(leaving,))
    thread.start()
    house.receiver.wait_for(lambda requests: len(requests) == 20)
    assert len(slow.requests) == PER_RECEIVER
    leaving.set()
    notifier.wake()
    thread.join()
    slow.close()
