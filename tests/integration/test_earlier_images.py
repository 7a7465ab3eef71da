"""Submits that reuse the image of an earlier job of the caller."""

import pytest

from tests.support.gateway_harness import IMAGE, GatewayHarness, another_callers_job, build_gateway


@pytest.fixture
def gateway() -> GatewayHarness:
    """A service."""
    return build_gateway()


def again(gateway: GatewayHarness, job_id: str, **fields: object) -> tuple[int, dict[str, object]]:
    """Submit an earlier job's image; return the answer's status and body."""
    answer = gateway.client.post("/v1/jobs", json={"image": {"job_id": job_id}, **fields})
    return answer.status_code, answer.json()


def test_earlier_image_becomes_the_input_of_a_new_job(gateway: GatewayHarness) -> None:
    """The image is copied, so the earlier job may be deleted."""
    first = gateway.submit()["id"]
    status, job = again(gateway, first, seed=5)
    gateway.client.delete(f"/v1/jobs/{first}")
    second = gateway.job(str(job["id"]))
    assert (status, job["seed"], second.input.bytes) == (202, 5, len(IMAGE))
    assert gateway.store.get(second.input.key or "").body == IMAGE


def test_image_of_an_export_is_that_of_its_first_job(gateway: GatewayHarness) -> None:
    """Through any number of exports."""
    first = gateway.submit()["id"]
    gateway.succeed(first)
    export = gateway.client.post(f"/v1/jobs/{first}/exports", json={}).json()["id"]
    status, job = again(gateway, export)
    assert (status, gateway.job(str(job["id"])).input.bytes) == (202, len(IMAGE))


def test_earlier_url_is_fetched_again(gateway: GatewayHarness) -> None:
    """By the worker."""
    url = "https://shop.example/mug.png"
    first = gateway.client.post("/v1/jobs", json={"image": {"url": url}}).json()["id"]
    status, job = again(gateway, first)
    assert (status, gateway.job(str(job["id"])).input.url) == (202, url)


def test_foreign_deleted_and_unknown_images_are_refused_alike(gateway: GatewayHarness) -> None:
    """The answer does not reveal which jobs exist."""
    gone = gateway.submit()["id"]
    gateway.client.delete(f"/v1/jobs/{gone}")
    for job_id in (gone, another_callers_job(gateway), "nope", "../keys/x"):
        status, problem = again(gateway, job_id)
        assert (status, problem["code"]) == (422, "upload_not_found")
        assert problem["errors"] == [
            {"pointer": "/image/job_id", "detail": "the job does not exist, or its image was deleted"}
        ]
