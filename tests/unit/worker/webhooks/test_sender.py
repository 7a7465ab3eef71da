"""Every end of a job is delivered: signed, at least once, always under the same id."""

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpcore
import pytest
from standardwebhooks import Webhook as Verifier
from trellis2_modal.types.job import Job as ClientJob
from trellis2_modal.webhooks import WebhookInvalid, verify

from shared.domain.job import Job, Webhook
from shared.domain.job_schema import job_body
from shared.net.egress import Egress, tcp_dial
from shared.repositories.outbox import Outbox, target_of
from shared.repositories.webhooks import (
    DeliveryState,
    Endpoint,
)
from shared.storage import keys
from tests.support.fakes import keys_under
from tests.support.webhook_harness import BASE_URL, WebhookHarness
from tests.support.webhook_receivers import Reply, canary, was_reached
from worker.webhooks.sender import CLAIM_S, DELAYS_S, kept_answer, next_try_at

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_end_of_a_job_is_sent_as_standard_webhooks_defines(webhooks: WebhookHarness) -> None:
    """The library `standardwebhooks` verifies it; the body shows the job, the header its trace."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    job = webhooks.failed_job(traceparent=trace, custom_id="mug")
    webhooks.deliver_due()
    request = webhooks.receiver.requests[0]
    body = Verifier(webhooks.endpoints.default("alice").secret).verify(request.body, request.headers)
    assert (body["type"], body["data"]["id"], body["data"]["custom_id"]) == ("job.failed", job.id, "mug")
    assert body["data"]["error"]["code"] == "no_object_found"
    assert body["data"]["status_url"] == f"https://api.example.com/v1/jobs/{job.id}"
    assert (request.path, request.headers["traceparent"]) == ("/hook?token=abc", trace)
    assert (webhooks.outbox(), webhooks.delivery(job).state) == ([], DeliveryState.DELIVERED)


@pytest.mark.parametrize("ahead_s", [-600, 600])
def test_fault_18_messages_are_dated_by_the_stores_clock(webhooks: WebhookHarness, ahead_s: float) -> None:
    """This machine's clock may be ten minutes off, and every receiver would refuse its date."""
    webhooks.clock.advance(ahead_s)
    webhooks.failed_job()
    webhooks.deliver_due()
    request = webhooks.receiver.requests[0]
    secret = webhooks.endpoints.default("alice").secret
    verify(request.body, request.headers, secret, clock=webhooks.clock().timestamp)
    with pytest.raises(WebhookInvalid):
        verify(request.body, request.headers, secret)


def test_job_without_a_webhook_costs_no_store_call(webhooks: WebhookHarness) -> None:
    """Nothing is listed or written for an end that no webhook asks for."""
    webhooks.failed_job(webhook=None)
    webhooks.failed_job(webhook=Webhook(url=webhooks.receiver.url, events=("job.succeeded",)))
    assert list(keys_under(webhooks.store, keys.OUTBOX)) == []


def test_fault_16_after_five_500s_the_sixth_try_succeeds_under_the_same_id(webhooks: WebhookHarness) -> None:
    """On the schedule, each with its own timestamp; the delivery lists every try."""
    webhooks.receiver.script = [Reply(500)] * 5
    job = webhooks.failed_job()
    tried_at = [webhooks.clock()]
    webhooks.deliver_due()
    for delay_s in DELAYS_S[1:6]:
        webhooks.clock.advance(delay_s - 1)
        webhooks.deliver_due()
        assert len(webhooks.receiver.requests) == len(tried_at), "tried too early"
        webhooks.clock.advance(1)
        tried_at.append(webhooks.clock())
        webhooks.deliver_due()
    headers = [request.headers for request in webhooks.receiver.requests]
    assert [header["webhook-id"] for header in headers] == [keys.event_id(job.id, 0)] * 6
    assert [int(header["webhook-timestamp"]) for header in headers] == [int(at.timestamp()) for at in tried_at]
    assert len({request.body for request in webhooks.receiver.requests}) == 1
    assert [attempt.status for attempt in webhooks.delivery(job).attempts] == [500] * 5 + [200]
    assert (webhooks.outbox(), webhooks.delivery(job).state) == ([], DeliveryState.DELIVERED)


def test_delivery_fails_after_the_last_try(webhooks: WebhookHarness) -> None:
    """After ten; the outbox is empty then."""
    webhooks.receiver.otherwise = Reply(503)
    job = webhooks.failed_job()
    for delay_s in DELAYS_S:
        webhooks.clock.advance(delay_s)
        webhooks.deliver_due()
    assert (webhooks.delivery(job).state, webhooks.delivery(job).tries, webhooks.outbox()) == (
        DeliveryState.FAILED,
        10,
        [],
    )


def test_fault_16_gone_disables_the_endpoint_for_good(webhooks: WebhookHarness) -> None:
    """410 drops what is still due there; nothing new is sent."""
    webhooks.receiver.script = [Reply(500), Reply(410)]
    endpoint = webhooks.endpoint()
    waiting, _ = (webhooks.failed_job(webhook=None, has_endpoints=True) for _ in range(2))
    webhooks.deliver_due()
    webhooks.clock.advance(5)
    webhooks.deliver_due()
    webhooks.failed_job(webhook=None, has_endpoints=True)
    webhooks.deliver_due()
    present = webhooks.endpoints.find("alice", endpoint.id)
    assert present
    assert (len(webhooks.receiver.requests), present.disabled_because, webhooks.outbox()) == (2, "gone", [])
    assert webhooks.delivery(waiting, endpoint.id).state is DeliveryState.FAILED


def test_endpoint_that_fails_for_five_days_is_disabled(webhooks: WebhookHarness) -> None:
    """Not before; one success resets the count."""
    webhooks.receiver.script = [Reply(500), Reply(200), *[Reply(500)] * 20]
    endpoint = webhooks.endpoint()

    def fail() -> Endpoint:
        webhooks.failed_job(webhook=None, has_endpoints=True)
        webhooks.deliver_due()
        present = webhooks.endpoints.find("alice", endpoint.id)
        assert present
        return present

    assert fail().failing_since == webhooks.clock()
    assert fail().failing_since is None
    began = fail().failing_since
    webhooks.clock.advance(timedelta(days=5).total_seconds() - 1)
    assert fail().disabled_at is None
    webhooks.clock.advance(1)
    assert (began, fail().disabled_because) == (webhooks.clock() - timedelta(days=5), "failing")


def test_fault_16_redirect_is_a_failure_and_never_followed(webhooks: WebhookHarness) -> None:
    """One request goes out; the try records its status."""
    webhooks.receiver.otherwise = Reply(307, {"Location": f"{webhooks.receiver.origin}/elsewhere"})
    job = webhooks.failed_job()
    webhooks.deliver_due()
    assert [request.path for request in webhooks.receiver.requests] == ["/hook?token=abc"]
    assert webhooks.delivery(job).attempts[0].status == 307


@pytest.mark.parametrize(
    ("retry_after", "delay_s"), [("120", 120), ("1000000000", 86_400), ("1", 5), ("soon", 5), ("-5", 5)]
)
def test_fault_16_retry_after_is_honoured_and_clamped(
    webhooks: WebhookHarness, retry_after: str, delay_s: float
) -> None:
    """It delays the next try by a day at most, and never brings it before the schedule."""
    webhooks.receiver.script = [Reply(429, {"Retry-After": retry_after})]
    job = webhooks.failed_job()
    webhooks.deliver_due()
    assert (webhooks.delivery(job).next_try_at - webhooks.clock()).total_seconds() == pytest.approx(delay_s, abs=0.001)


def test_retry_after_may_be_a_date() -> None:
    """HTTP allows both forms."""
    headers = {"retry-after": "Thu, 01 Jan 2026 13:00:00 GMT"}
    assert next_try_at(1, NOON, headers, lambda: 1.0) == NOON + timedelta(hours=1)


def test_fault_16_endless_answer_is_read_to_20_kb_and_not_decompressed(webhooks: WebhookHarness) -> None:
    """Of an endless body that claims gzip, 20 kB are read and 2,000 characters kept."""
    webhooks.receiver.otherwise = Reply(200, {"Content-Encoding": "gzip"}, ends=False)
    job = webhooks.failed_job()
    webhooks.deliver_due()
    kept = webhooks.delivery(job).attempts[0]
    assert (kept.status, kept.answer) == (200, "x" * 2_000)
    assert webhooks.receiver.bytes_sent < 5_000_000, "more was sent than the sockets hold"


@pytest.mark.parametrize(
    ("answer", "kept"),
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
def test_secrets_in_an_answer_are_not_kept(answer: bytes, kept: str) -> None:
    """Receivers may echo headers, tokens and query strings."""
    assert kept_answer(answer) == kept


def test_fault_16_receiver_that_drips_is_cut_off(webhooks: WebhookHarness) -> None:
    """When the time of a try ends, though bytes still arrive; the delivery stays pending."""
    webhooks.receiver.script = [Reply(drip_s=60.0)]
    webhooks.sender.try_s = 0.3
    job = webhooks.failed_job()
    webhooks.deliver_due()
    assert [attempt.status for attempt in webhooks.delivery(job).attempts] == [None]
    assert webhooks.delivery(job).state is DeliveryState.PENDING


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "64:ff9b::7f00:1"])
def test_fault_20_name_that_re_resolves_inward_is_never_dialled(webhooks: WebhookHarness, address: str) -> None:
    """A receiver that was public at the submit and private at the delivery gets no packet; the try fails."""
    listener = canary()

    def dial(_address: str, _port: int, timeout_s: float) -> httpcore.NetworkStream:
        return tcp_dial(*listener.getsockname(), timeout_s)

    webhooks.sender.egress = Egress(resolve=lambda _host, _timeout_s: [address], dial=dial)
    job = webhooks.failed_job(webhook=Webhook(url="https://hooks.example.com/"))
    webhooks.deliver_due()
    tried = webhooks.delivery(job, target_of("https://hooks.example.com/")).attempts
    assert [(attempt.status, attempt.answer) for attempt in tried] == [(None, "")]
    assert not was_reached(listener)
    listener.close()


def test_fault_6_repair_announces_an_end_that_a_crash_left_unannounced(webhooks: WebhookHarness) -> None:
    """The outbox entry or the pending marker is always stored; both give the same event and one delivery."""
    job = webhooks.failed_job()
    webhooks.deliver_due()
    webhooks.store.put(
        keys.pending_marker(job.lane, job.id, job.run_number, job.caller), b""
    )  # as if its deletion had been lost
    for marker in webhooks.jobs.pending_markers():
        webhooks.jobs.repair(marker, queue_ttl_s=1e9, orphan_s=1e9)
    assert len(webhooks.outbox()) == 1
    webhooks.deliver_due()
    assert (len(webhooks.receiver.requests), webhooks.outbox()) == (1, [])


def test_concurrent_senders_of_one_entry_make_one_try(webhooks: WebhookHarness) -> None:
    """The delivery is claimed by compare-and-set."""
    webhooks.failed_job()
    entry = next(iter(Outbox(webhooks.store).due(webhooks.clock())))
    senders = [webhooks.create_sender() for _ in range(4)]
    threads = [threading.Thread(target=sender.deliver, args=(entry,)) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(webhooks.receiver.requests) == 1


def test_try_of_a_dead_sender_is_repeated_once_its_claim_expires(webhooks: WebhookHarness) -> None:
    """No other sender tries before."""
    job = webhooks.failed_job()
    entry = next(iter(Outbox(webhooks.store).due(webhooks.clock())))
    webhooks.sender._claimed(entry, webhooks.sender.outbox.read(entry))
    webhooks.deliver_due()
    assert webhooks.receiver.requests == []
    webhooks.clock.advance(CLAIM_S)
    webhooks.deliver_due()
    assert (len(webhooks.receiver.requests), webhooks.delivery(job).state) == (1, DeliveryState.DELIVERED)


def reference(job: Job) -> dict[str, Any]:
    """Return what is sent of a failed job that does not fit into a body."""
    url = f"{BASE_URL}/v1/jobs/{job.id}"
    return {"id": job.id, "custom_id": None, "batch_id": None, "status": "failed", "status_url": url}


def test_both_ends_of_a_retried_job_are_sent(webhooks: WebhookHarness) -> None:
    """Each run has its own event; a late one carries only the reference of its job."""
    job = webhooks.failed_job()
    webhooks.jobs.retry(job.id)
    webhooks.deliver_due()
    held = webhooks.jobs.claim(job.id, "worker")
    assert held
    webhooks.jobs.succeed(held, artifacts={}, timings={})
    webhooks.deliver_due()
    events = [json.loads(request.body) for request in webhooks.receiver.requests]
    assert [event["type"] for event in events] == ["job.failed", "job.succeeded"]
    assert events[0]["data"] == reference(job)


def test_purged_job_is_sent_without_its_metadata(webhooks: WebhookHarness) -> None:
    """What the caller deleted is not sent; the job's own webhook URL is deleted, too."""
    endpoint = webhooks.endpoint()
    job = webhooks.failed_job(has_endpoints=True, metadata={"secret": "plan"})
    webhooks.jobs.purge(job.id)
    webhooks.deliver_due()
    assert [json.loads(request.body)["data"]["metadata"] for request in webhooks.receiver.requests] == [{}]
    assert webhooks.delivery(job, endpoint.id).state is DeliveryState.DELIVERED


def test_job_that_does_not_fit_is_sent_as_a_reference(webhooks: WebhookHarness) -> None:
    """A body has less than 20 kB."""
    job = webhooks.failed_job(metadata={f"key{number}": "x" * 500 for number in range(50)})
    webhooks.deliver_due()
    body = webhooks.receiver.requests[0].body
    assert len(body) < 20_000
    assert json.loads(body)["data"] == reference(job)


def test_webhook_and_api_show_a_job_by_one_schema(webhooks: WebhookHarness) -> None:
    """The client parses both to the same value."""
    webhooks.failed_job(metadata={"sku": "7"})
    webhooks.deliver_due()
    data = json.loads(webhooks.receiver.requests[0].body)["data"]
    job = webhooks.jobs.read(data["id"]).record
    assert data == json.loads(job_body(job, BASE_URL).model_dump_json())
    parsed = ClientJob.from_json(data)
    assert (parsed.id, parsed.status, parsed.metadata) == (job.id, "failed", {"sku": "7"})


def test_every_endpoint_gets_its_own_signature_and_two_during_a_rotation(webhooks: WebhookHarness) -> None:
    """The old secret signs for a day after a rotation."""
    first, second = webhooks.endpoint(), webhooks.endpoint(secret="whsec_" + "NDU2" * 10)
    rotated = webhooks.endpoints.rotate("alice", first.id, webhooks.clock())
    assert rotated
    webhooks.failed_job(webhook=None, has_endpoints=True)
    webhooks.deliver_due()
    by_signatures = {
        len(request.headers["webhook-signature"].split(" ")): request for request in webhooks.receiver.requests
    }
    assert sorted(by_signatures) == [1, 2]
    Verifier(second.secret).verify(by_signatures[1].body, by_signatures[1].headers)
    Verifier(first.secret).verify(by_signatures[2].body, by_signatures[2].headers)
    Verifier(rotated.secret).verify(by_signatures[2].body, by_signatures[2].headers)
    assert rotated.secrets(webhooks.clock() + timedelta(hours=24)) == [rotated.secret]
