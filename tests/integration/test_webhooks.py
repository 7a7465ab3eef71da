"""Webhook endpoints and deliveries through the API, with a receiver on loopback."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from api.routers.webhooks import MAX_ENDPOINTS
from shared.net.egress import Egress
from shared.repositories.outbox import Outbox
from shared.storage import keys
from tests.support.fakes import keys_under
from tests.support.gateway_harness import GatewayHarness, build_gateway
from tests.support.webhook_receivers import Receiver, Reply
from worker.webhooks.sender import WebhookSender


@dataclass
class WebhookApi:
    """A gateway, a receiver that its webhooks may reach, and a sender."""

    receiver: Receiver
    gateway: GatewayHarness

    def __post_init__(self) -> None:
        self.gateway.clock.at = datetime.now(UTC)
        self.sender = WebhookSender(
            self.gateway.jobs, Egress(private_origins=[self.receiver.origin]), jitter=lambda: 1.0
        )

    def register(self, **fields: Any) -> dict[str, Any]:
        answer = self.gateway.client.post("/v1/webhook-endpoints", json={"url": self.receiver.url, **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def deliver(self) -> None:
        self.gateway.clock.advance(1)
        for _ in range(2):  # the first pass turns an entry for all endpoints into one for each
            for entry in list(Outbox(self.gateway.store).due(self.gateway.clock())):
                self.sender.deliver(entry)

    def get(self, path: str) -> dict[str, Any]:
        answer = self.gateway.client.get(path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, path: str, status: int) -> dict[str, Any]:
        answer = self.gateway.client.post(path)
        assert answer.status_code == status, answer.text
        return dict(answer.json())


@pytest.fixture
def api() -> Iterator[WebhookApi]:
    receiver = Receiver()
    yield WebhookApi(receiver, build_gateway(receivers=Egress(private_origins=[receiver.origin])))
    receiver.close()


def test_registered_endpoint_gets_events_of_jobs_without_a_webhook(api: WebhookApi) -> None:
    """Signed by the secret, which only the registration shows."""
    endpoint = api.register()
    job = api.gateway.submit()
    api.gateway.fail(job["id"])
    api.deliver()
    request = api.receiver.requests[0]
    assert Verifier(endpoint["secret"]).verify(request.body, request.headers)["data"]["id"] == job["id"]
    shown = json.dumps([api.get("/v1/webhook-endpoints"), api.get(f"/v1/webhook-endpoints/{endpoint['id']}")])
    assert endpoint["secret"] not in shown
    assert "whsec" not in json.dumps(api.get("/v1/webhook-deliveries"))


def test_endpoint_gets_only_the_events_that_it_names(api: WebhookApi) -> None:
    """None once it is deleted."""
    endpoint = api.register(events=["job.succeeded"])
    api.gateway.fail(api.gateway.submit()["id"])
    api.deliver()
    assert api.receiver.requests == []
    api.gateway.succeed(api.gateway.submit()["id"])
    api.deliver()
    assert len(api.receiver.requests) == 1
    api.gateway.succeed(api.gateway.submit()["id"])
    assert api.gateway.client.delete(f"/v1/webhook-endpoints/{endpoint['id']}").status_code == 204
    api.deliver()
    assert len(api.receiver.requests) == 1


def test_fault_17_after_a_rotation_both_secrets_sign_for_a_day(api: WebhookApi) -> None:
    """Then only the new one does."""
    endpoint = api.register()
    rotated = api.post(f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret", 200)
    assert rotated["secret"] != endpoint["secret"]
    api.post(f"/v1/webhook-endpoints/{endpoint['id']}/test", 202)
    api.deliver()
    request = api.receiver.requests[0]
    for secret in (endpoint["secret"], rotated["secret"]):
        assert Verifier(secret).verify(request.body, request.headers)["type"] == "webhook.test"
    api.gateway.clock.advance(86_400)
    api.post(f"/v1/webhook-endpoints/{endpoint['id']}/test", 202)
    api.deliver()
    assert len(api.receiver.requests[1].headers["webhook-signature"].split()) == 1


def test_rotation_shows_the_secret_for_urls_of_jobs(api: WebhookApi) -> None:
    """Jobs may name a webhook before its secret was read."""
    api.gateway.fail(api.gateway.submit(webhook=json.dumps({"url": api.receiver.url}))["id"])
    secret = api.post("/v1/webhook-endpoints/default/rotate-secret", 200)["secret"]
    api.deliver()
    request = api.receiver.requests[0]
    assert Verifier(secret).verify(request.body, request.headers)["type"] == "job.failed"
    assert api.get("/v1/webhook-endpoints")["data"] == []


def test_delivery_shows_every_try_and_can_be_sent_again(api: WebhookApi) -> None:
    """Under the same id; a success after failures ends it."""
    api.receiver.script = [Reply(500, body=b"no ?token=abc"), Reply(200, body=b"yes")]
    endpoint = api.register()
    job = api.gateway.submit()
    api.gateway.fail(job["id"])
    api.deliver()
    [pending] = api.get(f"/v1/webhook-deliveries?job={job['id']}")["data"]
    assert (pending["state"], pending["endpoint_id"], pending["job_id"]) == ("pending", endpoint["id"], job["id"])
    assert pending["attempts"][0] | {"at": 0, "duration_ms": 0} == {
        "at": 0, "status": 500, "duration_ms": 0, "answer": "no ?[redacted]"
    }  # fmt: skip
    assert pending["url"] == api.receiver.url.partition("?")[0]
    api.post(f"/v1/webhook-deliveries/{pending['id']}/redeliver", 202)
    api.deliver()
    delivered = api.get(f"/v1/webhook-deliveries/{pending['id']}")
    assert ([attempt["status"] for attempt in delivered["attempts"]], delivered["state"]) == ([500, 200], "delivered")
    assert len({request.headers["webhook-id"] for request in api.receiver.requests}) == 1
    api.deliver()
    api.gateway.clock.advance(10)
    api.deliver()
    assert (len(api.receiver.requests), list(Outbox(api.gateway.store).due(api.gateway.clock()))) == (2, [])


def test_redelivery_after_success_sends_once_more(api: WebhookApi) -> None:
    """A redelivery always sends."""
    api.register()
    api.gateway.fail(api.gateway.submit()["id"])
    api.deliver()
    [delivered] = api.get("/v1/webhook-deliveries?status=delivered")["data"]
    api.post(f"/v1/webhook-deliveries/{delivered['id']}/redeliver", 202)
    api.deliver()
    assert len(api.receiver.requests) == 2


def test_disabled_endpoint_says_why_and_can_be_enabled_again(api: WebhookApi) -> None:
    """After `disabled: false` it gets events again."""
    api.receiver.script = [Reply(410)]
    path = f"/v1/webhook-endpoints/{api.register()['id']}"
    api.gateway.fail(api.gateway.submit()["id"])
    api.deliver()
    assert (api.get(path)["disabled_because"], api.get(path)["disabled_at"] is None) == ("gone", False)
    [(answer)] = api.gateway.client.many(("PATCH", path, {"json": {"disabled": False}}))
    assert (answer.status_code, answer.json()["disabled_at"], answer.json()["failing_since"]) == (200, None, None)
    api.gateway.fail(api.gateway.submit()["id"])
    api.deliver()
    assert len(api.receiver.requests) == 2


def test_deliveries_are_listed_newest_jobs_first_page_by_page(api: WebhookApi) -> None:
    """Each delivery once."""
    api.register()
    job_list = [api.gateway.submit()["id"] for _ in range(5)]
    for job in job_list:
        api.gateway.fail(job)
    api.deliver()
    seen, after = [], ""
    while after is not None:
        page = api.get(f"/v1/webhook-deliveries?limit=2&after={after}")
        seen += [delivery["job_id"] for delivery in page["data"]]
        after = page["next_cursor"]
    assert seen == job_list[::-1]


def test_another_callers_endpoints_and_deliveries_do_not_exist(api: WebhookApi) -> None:
    """The same 404 as for unknown ids."""
    now = api.gateway.clock()
    foreign = keys.new_id("we", now)
    event = keys.event_id(keys.new_id("job", now), 0)
    for path in (f"/v1/webhook-endpoints/{foreign}", "/v1/webhook-endpoints/default", "/v1/webhook-endpoints/nope"):
        assert api.gateway.client.get(path).json()["code"] == "endpoint_not_found"
    for path in (f"/v1/webhook-deliveries/{event}-{foreign}", "/v1/webhook-deliveries/nope"):
        assert api.gateway.client.get(path).json()["code"] == "delivery_not_found"


def test_endpoints_are_bounded_and_their_urls_are_validated(api: WebhookApi) -> None:
    """A caller cannot turn one event into many, nor register or change to a private address."""
    first = api.register()
    for _ in range(MAX_ENDPOINTS - 1):
        api.register()
    answer = api.gateway.client.post("/v1/webhook-endpoints", json={"url": api.receiver.url})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_endpoints")
    inward = {"json": {"url": "https://127.0.0.1/"}}
    for method, path in (("POST", ""), ("PATCH", f"/{first['id']}")):
        [refused] = api.gateway.client.many((method, f"/v1/webhook-endpoints{path}", inward))
        assert (refused.status_code, refused.json()["code"], refused.json()["errors"][0]["pointer"]) == (
            422, "url_unreachable", "/url"
        )  # fmt: skip


@pytest.mark.parametrize("job", ["job_xz16u6i1z7fmmn5a8t8mvlu0c6", "job_zzzzzzzzzzzzzzzzzzzzzzzzzz"])
def test_impossible_job_id_has_no_deliveries(api: WebhookApi, job: str) -> None:
    """An id with a letter outside the alphabet is refused; one from the far future is unknown."""
    answer = api.gateway.client.get(f"/v1/webhook-deliveries?job={job}")
    assert answer.status_code == (422 if "i" in job else 200)


def test_redelivery_cancels_the_planned_try(api: WebhookApi) -> None:
    """The schedule restarts; the entry of the old one is dropped when it is due."""
    api.receiver.script = [Reply(500), Reply(500)]
    api.register()
    api.gateway.fail(api.gateway.submit()["id"])
    api.deliver()
    [pending] = api.get("/v1/webhook-deliveries")["data"]
    api.gateway.clock.advance(3)
    api.post(f"/v1/webhook-deliveries/{pending['id']}/redeliver", 202)
    api.deliver()
    api.gateway.clock.advance(1)
    api.deliver()
    assert (len(api.receiver.requests), len(list(keys_under(api.gateway.store, keys.OUTBOX)))) == (2, 1)
    api.gateway.clock.advance(5)
    api.deliver()
    assert (len(api.receiver.requests), list(keys_under(api.gateway.store, keys.OUTBOX))) == (3, [])
