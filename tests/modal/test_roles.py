"""The bodies of Modal's functions, built from a container's environment: they turn an image into an asset."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bench.fleet.control_plane.server import ControlPlane, Faults
from bench.fleet.modal_fleet import new_queue_name, notifier_function, worker_function
from bench.support.processes import draw_test_image
from infra.modal_app import functions
from infra.runtime.wiring import open_store
from infra.settings.modal import ModalSettings
from tests.support.batch_harness import zipped
from tests.support.waiting import HANG_S


@pytest.fixture
def container_environment(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ControlPlane]:
    """The variables of a deployment without a GPU whose bucket is a folder."""
    monkeypatch.setenv("TRELLIS2_GPU", "")
    monkeypatch.setenv("TRELLIS2_APP_NAME", new_queue_name())
    for name, value in ModalSettings().environment().items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TRELLIS2_STORE", "embedded")
    monkeypatch.setenv("TRELLIS2_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRELLIS2_REQUEUE_AFTER_S", "0")
    functions.settings.cache_clear()
    yield control_plane
    functions.settings.cache_clear()


@pytest.fixture
def client(container_environment: ControlPlane) -> TestClient:  # noqa: ARG001 - what the gateway is built from
    """A client of the gateway."""
    return TestClient(
        functions.gateway(worker_function(), notifier_function(), notifier_function()),
        base_url="http://127.0.0.1",
        client=("127.0.0.1", 5),
    )


def submit(client: TestClient) -> str:
    """Submit a small job; return its URL."""
    fields = {"preset": "low_poly", "pipeline_type": "512", "seed": "1"}
    answer = client.post("/v1/jobs", files={"image": draw_test_image()}, data=fields)
    assert answer.status_code == 202
    return f"/v1/jobs/{answer.json()['id']}"


def test_image_becomes_an_asset(container_environment: ControlPlane, client: TestClient) -> None:
    """Through the gateway, the queue on Modal, an invocation, and a worker with its real engine and extraction."""
    url = submit(client)
    assert container_environment.start_input(timeout_s=HANG_S)
    functions.start_worker(functions.load_engines(), worker_function(), notifier_function()).run_once()
    container_environment.finish_input()
    job = client.get(url).json()
    model = job["artifacts"]["model"]
    body = client.get(model["url"]).content
    assert (job["status"], job["engine"], body[:4]) == ("succeeded", "relief", b"glTF")
    assert hashlib.sha256(body).hexdigest() == model["sha256"]


def test_fault_3_reconciler_enqueues_a_job_whose_queue_item_was_lost(
    container_environment: ControlPlane, client: TestClient
) -> None:
    """And spawns its invocation."""
    for call in ("QueuePut", "FunctionMap"):
        container_environment.faults[call] = Faults(fail_before=1.0)
    url = submit(client)
    container_environment.reset_faults()
    assert not container_environment.start_input(timeout_s=0.1)
    functions.reconcile(worker_function(), notifier_function())
    assert container_environment.start_input(timeout_s=HANG_S)
    queue = functions.open_queue(worker_function())
    assert url.endswith(str(queue.dequeue()))


def test_catalog_becomes_an_asset(container_environment: ControlPlane, client: TestClient) -> None:
    """A submit and a confirmation spawn the scheduler, which plans the batch and dispatches its rows."""
    packed = zipped({"mug.png": draw_test_image()})
    files = {"images": ("p.zip", packed)}
    submitted = client.post("/v1/batches", files=files, data={"preset": "low_poly", "pipeline_type": "512"})
    assert container_environment.spawned["fu-notifier"] == 1  # which stands in for the scheduler here
    url = f"/v1/batches/{submitted.json()['id']}"
    functions.schedule(worker_function(), notifier_function())
    assert client.get(url).json()["status"] == "awaiting_confirmation"
    client.post(f"{url}/confirm")
    functions.schedule(worker_function(), notifier_function())
    assert container_environment.start_input(timeout_s=HANG_S)
    functions.start_worker(functions.load_engines(), worker_function(), notifier_function()).run_once()
    container_environment.finish_input()
    functions.schedule(worker_function(), notifier_function())
    ended = client.get(url).json()
    assert (ended["status"], ended["counts"]["succeeded"]) == ("completed", 1)


def test_gateway_offers_the_engines_of_the_workers(
    container_environment: ControlPlane,  # noqa: ARG001 - what the gateway is built from
    client: TestClient,
) -> None:
    """Without a GPU there is one."""
    assert client.get("/readyz").json()["engines"] == ["relief"]


def test_due_webhook_spawns_the_notifier(container_environment: ControlPlane) -> None:
    """One invocation for all that are due at the same time; it delivers until the outbox is empty."""
    jobs = functions.open_job_repository(open_store(functions.settings()), notifier_function())
    for _ in range(10):
        jobs.announced()
    assert 1 <= container_environment.spawned["fu-notifier"] <= 2
    functions.notify()


def test_webhook_stays_due_though_modal_refuses_the_spawn(container_environment: ControlPlane) -> None:
    """It is in the outbox, and the notifier runs every minute: finishing a job does not fail."""
    container_environment.faults["FunctionMap"] = Faults(fail_before=1.0)
    functions.open_job_repository(open_store(functions.settings()), notifier_function()).announced()
    assert container_environment.spawned["fu-notifier"] == 0
