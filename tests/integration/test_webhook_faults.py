"""A job's end is delivered though the worker dies, and no webhook reaches a private address."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook as Verifier

from bench.support.stub_worker import build_stub_work
from infra.embedded_store.store import SqliteStore
from infra.local import Service
from infra.queues.local import PollingQueue
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from shared.domain.job import Status, Webhook
from shared.net.egress import Egress
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.webhooks import EndpointRepository
from shared.storage import keys
from tests.support.fakes import keys_under, submitted
from tests.support.gateway_harness import IMAGE, build_gateway, public_egress
from tests.support.waiting import HANG_S
from tests.support.webhook_receivers import Receiver
from tests.unit.shared.net.test_egress import INWARD_ADDRESSES, REFUSED_SPELLINGS
from worker.maintenance.reconciler import Reconciler
from worker.webhooks.relay import OutboxRelay
from worker.webhooks.sender import WebhookSender


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that answers 200."""
    listening = Receiver()
    yield listening
    listening.close()


@pytest.mark.parametrize("moment", ["outbox:before", "outbox:after", "marker:before", "never"])
def test_fault_6_end_is_delivered_once_though_the_worker_is_killed(
    moment: str, receiver: Receiver, tmp_path: Path
) -> None:
    """The reconciler adds what is missing in the outbox; the relay sends it, signed, under the event's id."""
    settings = Settings(data_dir=tmp_path)
    store = SqliteStore(tmp_path / "store", secret=settings.signing_secret())
    jobs = build_job_repository(store)
    job = submitted(jobs, webhook=Webhook(url=receiver.url))
    worker = subprocess.run(
        [sys.executable, "-m", "tests.support.crashing_worker", moment],
        env={"TRELLIS2_DATA_DIR": str(tmp_path)},
        check=False,
    )
    assert worker.returncode == (0 if moment == "never" else -signal.SIGKILL)
    assert jobs.read(job.id).record.status is Status.SUCCEEDED
    assert receiver.requests == []
    Reconciler(jobs, PollingQueue(jobs)).reconcile()
    OutboxRelay(WebhookSender(jobs, Egress(private_origins=[receiver.origin]))).run_until_idle(HANG_S)
    Reconciler(jobs, PollingQueue(jobs)).reconcile()
    OutboxRelay(WebhookSender(jobs, Egress(private_origins=[receiver.origin]))).run_until_idle(HANG_S)
    assert [request.headers["webhook-id"] for request in receiver.requests] == [keys.event_id(job.id, 0)]
    body = Verifier(EndpointRepository(store).default("alice").secret).verify(
        receiver.requests[0].body, receiver.requests[0].headers
    )
    assert (body["type"], body["data"]["id"]) == ("job.succeeded", job.id)
    assert list(keys_under(store, keys.OUTBOX)) == []


def test_service_in_one_process_delivers_an_end(receiver: Receiver, tmp_path: Path) -> None:
    """Gateway, worker, reconciler and notifier together, as in `trellis2 serve`."""
    settings = Settings(data_dir=tmp_path, port=0, webhook_private_origins=(receiver.origin,))
    service = Service(settings, work=build_stub_work(open_store(settings), 0.1))
    service.start()
    webhook = json.dumps({"url": receiver.url})
    answer = httpx.post(
        f"{service.base_url}/v1/jobs", files={"image": ("a.png", IMAGE)}, data={"webhook": webhook}, timeout=HANG_S
    )
    assert answer.status_code == 202, answer.text
    [request] = receiver.wait_for(lambda requests: len(requests) == 1)
    assert request.headers["webhook-id"] == keys.event_id(answer.json()["id"], 0)
    service.stop()


def submit_with(url: str, *addresses: str) -> tuple[int, str, list[str]]:
    """Submit with this webhook; return status, code and stored keys. Every name has these addresses."""
    gateway = build_gateway(receivers=public_egress(*addresses))
    body = {"image": {"upload_id": gateway.uploaded()}, "webhook": {"url": url}}
    answer = gateway.client.post("/v1/jobs", json=body)
    return answer.status_code, answer.json().get("code", ""), [key for key in gateway.stored() if "uploads" not in key]


@pytest.mark.parametrize("address", INWARD_ADDRESSES)
def test_fault_20_webhook_to_an_inward_address_is_refused(address: str) -> None:
    """At the submit, like a name that does not exist; nothing is stored."""
    assert submit_with("https://hooks.example.com/", address) == (422, "url_unreachable", [])


@pytest.mark.parametrize("url", [url for url in REFUSED_SPELLINGS if url and len(url) <= 2048])
def test_fault_20_webhook_url_in_a_refused_spelling_is_refused(url: str) -> None:
    """Schemes, ports, credentials, control characters, encoded numbers."""
    assert submit_with(url) == (422, "url_unreachable", [])


def test_webhook_comes_back_with_the_job_without_its_query() -> None:
    """A query often has tokens."""
    gateway = build_gateway()
    webhook = '{"url": "https://hooks.example.com/a?token=b", "events": ["job.failed"]}'
    answer = gateway.submit(webhook=webhook)
    assert answer["webhook"] == {"url": "https://hooks.example.com/a", "events": ["job.failed"]}
    assert gateway.job(answer["id"]).webhook == Webhook(
        url="https://hooks.example.com/a?token=b", events=("job.failed",)
    )


@pytest.mark.parametrize("webhook", [{}, {"url": "https://hooks.example.com", "events": ["job.eaten"]}, {"url": 1}])
def test_invalid_webhook_is_refused_by_name(webhook: dict[str, object]) -> None:
    """Like every parameter."""
    gateway = build_gateway()
    body = {"image": {"upload_id": gateway.uploaded()}, "webhook": webhook}
    answer = gateway.client.post("/v1/jobs", json=body).json()
    assert (answer["code"], answer["errors"][0]["pointer"].split("/")[1]) == ("parameter_invalid", "webhook")


def test_cancel_wakes_the_notifier() -> None:
    """The gateway wakes the notifier of its process."""
    woken = threading.Event()
    gateway = build_gateway()
    gateway.jobs.announced = woken.set
    job = gateway.submit(webhook='{"url": "https://hooks.example.com/a"}')
    gateway.client.post(f"/v1/jobs/{job['id']}/cancel")
    assert woken.is_set()
    assert [key.split(".")[0].partition("-")[2] for key in keys_under(gateway.store, keys.OUTBOX)] == [
        keys.event_id(job["id"], 0)
    ]
