"""Webhook endpoints and deliveries, through the API; what is sent reaches a receiver on loopback."""

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
from tests.support.gateway_harness import House, a_house
from tests.support.webhook_receivers import Receiver, Said
from worker.webhooks.sender import WebhookSender


@dataclass
class Told:
    """A gateway, a receiver that its webhooks may go to, and a postman beside it."""

    receiver: Receiver
    house: House

    def __post_init__(self) -> None:
        self.house.clock.at = datetime.now(UTC)
        self.postman = WebhookSender(
            self.house.jobs, Egress(private_origins=[self.receiver.origin]), jitter=lambda: 1.0
        )

    def register(self, **fields: Any) -> dict[str, Any]:
        answer = self.house.client.post("/v1/webhook-endpoints", json={"url": self.receiver.url, **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def deliver(self) -> None:
        self.house.clock.advance(1)
        for _ in range(2):  # what goes to every endpoint becomes an entry for each first
            for entry in list(Outbox(self.house.store).due(self.house.clock())):
                self.postman.deliver(entry)

    def get(self, path: str) -> dict[str, Any]:
        answer = self.house.client.get(path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, path: str, status: int) -> dict[str, Any]:
        answer = self.house.client.post(path)
        assert answer.status_code == status, answer.text
        return dict(answer.json())


@pytest.fixture
def told() -> Iterator[Told]:
    receiver = Receiver()
    yield Told(receiver, a_house(receivers=Egress(private_origins=[receiver.origin])))
    receiver.close()


def test_registered_endpoint_is_told_of_jobs_that_name_no_webhook(told: Told) -> None:
    """Signed by the secret that was shown once and never again."""
    endpoint = told.register()
    job = told.house.submit()
    told.house.fail(job["id"])
    told.deliver()
    heard = told.receiver.heard[0]
    assert Verifier(endpoint["secret"]).verify(heard.body, heard.headers)["data"]["id"] == job["id"]
    shown = json.dumps([told.get("/v1/webhook-endpoints"), told.get(f"/v1/webhook-endpoints/{endpoint['id']}")])
    assert endpoint["secret"] not in shown
    assert "whsec" not in json.dumps(told.get("/v1/webhook-deliveries"))


def test_endpoint_hears_only_of_the_ends_that_it_asked_for(told: Told) -> None:
    """And of none once it is deleted."""
    endpoint = told.register(events=["job.succeeded"])
    told.house.fail(told.house.submit()["id"])
    told.deliver()
    assert told.receiver.heard == []
    told.house.succeed(told.house.submit()["id"])
    told.deliver()
    assert len(told.receiver.heard) == 1
    told.house.succeed(told.house.submit()["id"])
    assert told.house.client.delete(f"/v1/webhook-endpoints/{endpoint['id']}").status_code == 204
    told.deliver()
    assert len(told.receiver.heard) == 1


def test_fault_17_after_a_rotation_both_secrets_sign_for_a_day(told: Told) -> None:
    """Then the old one does not any more."""
    endpoint = told.register()
    rotated = told.post(f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret", 200)
    assert rotated["secret"] != endpoint["secret"]
    told.post(f"/v1/webhook-endpoints/{endpoint['id']}/test", 202)
    told.deliver()
    heard = told.receiver.heard[0]
    for secret in (endpoint["secret"], rotated["secret"]):
        assert Verifier(secret).verify(heard.body, heard.headers)["type"] == "webhook.test"
    told.house.clock.advance(86_400)
    told.post(f"/v1/webhook-endpoints/{endpoint['id']}/test", 202)
    told.deliver()
    assert len(told.receiver.heard[1].headers["webhook-signature"].split()) == 1


def test_secret_of_urls_that_jobs_name_is_learnt_by_rotating_the_default(told: Told) -> None:
    """Jobs may name a webhook before anybody has asked for its secret."""
    told.house.fail(told.house.submit(webhook=json.dumps({"url": told.receiver.url}))["id"])
    secret = told.post("/v1/webhook-endpoints/default/rotate-secret", 200)["secret"]
    told.deliver()
    heard = told.receiver.heard[0]
    assert Verifier(secret).verify(heard.body, heard.headers)["type"] == "job.failed"
    assert told.get("/v1/webhook-endpoints")["data"] == []


def test_delivery_shows_every_try_and_can_be_sent_again(told: Told) -> None:
    """Under the same id; a success after failures ends it."""
    told.receiver.script = [Said(500, body=b"no ?token=abc"), Said(200, body=b"yes")]
    endpoint = told.register()
    job = told.house.submit()
    told.house.fail(job["id"])
    told.deliver()
    [pending] = told.get(f"/v1/webhook-deliveries?job={job['id']}")["data"]
    assert (pending["state"], pending["endpoint_id"], pending["job_id"]) == ("pending", endpoint["id"], job["id"])
    assert pending["attempts"][0] | {"at": 0, "duration_ms": 0} == {
        "at": 0, "status": 500, "duration_ms": 0, "answer": "no ?[redacted]"
    }  # fmt: skip
    assert pending["url"] == told.receiver.url.partition("?")[0]
    told.post(f"/v1/webhook-deliveries/{pending['id']}/redeliver", 202)
    told.deliver()
    delivered = told.get(f"/v1/webhook-deliveries/{pending['id']}")
    assert ([one["status"] for one in delivered["attempts"]], delivered["state"]) == ([500, 200], "delivered")
    assert len({heard.headers["webhook-id"] for heard in told.receiver.heard}) == 1
    told.deliver()
    told.house.clock.advance(10)
    told.deliver()
    assert (len(told.receiver.heard), list(Outbox(told.house.store).due(told.house.clock()))) == (2, [])


def test_redelivery_after_success_sends_once_more(told: Told) -> None:
    """That is what it is asked for."""
    told.register()
    told.house.fail(told.house.submit()["id"])
    told.deliver()
    [delivered] = told.get("/v1/webhook-deliveries?status=delivered")["data"]
    told.post(f"/v1/webhook-deliveries/{delivered['id']}/redeliver", 202)
    told.deliver()
    assert len(told.receiver.heard) == 2


def test_endpoint_that_is_gone_says_so_and_can_be_started_anew(told: Told) -> None:
    """Its owner reads why; after `disabled: false` it is told again."""
    told.receiver.script = [Said(410)]
    path = f"/v1/webhook-endpoints/{told.register()['id']}"
    told.house.fail(told.house.submit()["id"])
    told.deliver()
    assert (told.get(path)["disabled_because"], told.get(path)["disabled_at"] is None) == ("gone", False)
    [(answer)] = told.house.client.many(("PATCH", path, {"json": {"disabled": False}}))
    assert (answer.status_code, answer.json()["disabled_at"], answer.json()["failing_since"]) == (200, None, None)
    told.house.fail(told.house.submit()["id"])
    told.deliver()
    assert len(told.receiver.heard) == 2


def test_deliveries_are_listed_newest_jobs_first_page_by_page(told: Told) -> None:
    """Every one once."""
    told.register()
    job_list = [told.house.submit()["id"] for _ in range(5)]
    for job in job_list:
        told.house.fail(job)
    told.deliver()
    seen, after = [], ""
    while after is not None:
        page = told.get(f"/v1/webhook-deliveries?limit=2&after={after}")
        seen += [one["job_id"] for one in page["data"]]
        after = page["next_cursor"]
    assert seen == job_list[::-1]


def test_another_callers_endpoints_and_deliveries_do_not_exist(told: Told) -> None:
    """The same 404 as for ids that nobody has."""
    now = told.house.clock()
    foreign = keys.new_id("we", now)
    event = keys.event_id(keys.new_id("job", now), 0)
    for path in (f"/v1/webhook-endpoints/{foreign}", "/v1/webhook-endpoints/default", "/v1/webhook-endpoints/nope"):
        assert told.house.client.get(path).json()["code"] == "endpoint_not_found"
    for path in (f"/v1/webhook-deliveries/{event}-{foreign}", "/v1/webhook-deliveries/nope"):
        assert told.house.client.get(path).json()["code"] == "delivery_not_found"


def test_endpoints_are_bounded_and_their_urls_are_judged(told: Told) -> None:
    """No caller can make one event into many; nobody can point us inward, by a change neither."""
    first = told.register()
    for _ in range(MAX_ENDPOINTS - 1):
        told.register()
    answer = told.house.client.post("/v1/webhook-endpoints", json={"url": told.receiver.url})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_endpoints")
    inward = {"json": {"url": "https://127.0.0.1/"}}
    for method, path in (("POST", ""), ("PATCH", f"/{first['id']}")):
        [refused] = told.house.client.many((method, f"/v1/webhook-endpoints{path}", inward))
        assert (refused.status_code, refused.json()["code"], refused.json()["errors"][0]["pointer"]) == (
            422, "url_unreachable", "/url"
        )  # fmt: skip


@pytest.mark.parametrize("job", ["job_xz16u6i1z7fmmn5a8t8mvlu0c6", "job_zzzzzzzzzzzzzzzzzzzzzzzzzz"])
def test_job_that_cannot_be_has_no_deliveries(told: Told, job: str) -> None:
    """An id of letters that no id has is refused; one from a far future is only unknown."""
    answer = told.house.client.get(f"/v1/webhook-deliveries?job={job}")
    assert answer.status_code == (422 if "i" in job else 200)


def test_try_that_was_planned_before_a_redelivery_is_not_made(told: Told) -> None:
    """The schedule has begun anew; the old plan's entry is dropped when its moment comes."""
    told.receiver.script = [Said(500), Said(500)]
    told.register()
    told.house.fail(told.house.submit()["id"])
    told.deliver()
    [pending] = told.get("/v1/webhook-deliveries")["data"]
    told.house.clock.advance(3)
    told.post(f"/v1/webhook-deliveries/{pending['id']}/redeliver", 202)
    told.deliver()
    told.house.clock.advance(1)
    told.deliver()
    assert (len(told.receiver.heard), len(list(keys_under(told.house.store, keys.OUTBOX)))) == (2, 1)
    told.house.clock.advance(5)
    told.deliver()
    assert (len(told.receiver.heard), list(keys_under(told.house.store, keys.OUTBOX))) == (3, [])
