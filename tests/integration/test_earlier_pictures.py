"""A picture once more: a job can be made from what an earlier one of the caller's was made from."""

import pytest

from tests.support.gateway_harness import IMAGE, GatewayHarness, another_callers_job, build_gateway


@pytest.fixture
def gateway() -> GatewayHarness:
    """A service."""
    return build_gateway()


def again(gateway: GatewayHarness, job_id: str, **fields: object) -> tuple[int, dict[str, object]]:
    """Submit an earlier job's picture; the answer's status and body."""
    answer = gateway.client.post("/v1/jobs", json={"image": {"job_id": job_id}, **fields})
    return answer.status_code, answer.json()


def test_an_earlier_picture_makes_a_job_of_its_own(gateway: GatewayHarness) -> None:
    """With a copy of the picture, so that the earlier job may be deleted."""
    first = gateway.submit()["id"]
    status, job = again(gateway, first, seed=5)
    gateway.client.delete(f"/v1/jobs/{first}")
    made = gateway.job(str(job["id"]))
    assert (status, job["seed"], made.input.bytes) == (202, 5, len(IMAGE))
    assert gateway.store.get(made.input.key or "").body == IMAGE


def test_an_exports_picture_is_that_of_the_job_it_was_made_from(gateway: GatewayHarness) -> None:
    """Through any number of exports."""
    first = gateway.submit()["id"]
    gateway.succeed(first)
    export = gateway.client.post(f"/v1/jobs/{first}/exports", json={}).json()["id"]
    status, job = again(gateway, export)
    assert (status, gateway.job(str(job["id"])).input.bytes) == (202, len(IMAGE))


def test_an_earlier_url_is_fetched_again(gateway: GatewayHarness) -> None:
    """By the worker, as the first time."""
    url = "https://shop.example/mug.png"
    first = gateway.client.post("/v1/jobs", json={"image": {"url": url}}).json()["id"]
    status, job = again(gateway, first)
    assert (status, gateway.job(str(job["id"])).input.url) == (202, url)


def test_only_ones_own_pictures_that_are_still_there_can_be_had(gateway: GatewayHarness) -> None:
    """What is another's, deleted, or never was, looks alike."""
    gone = gateway.submit()["id"]
    gateway.client.delete(f"/v1/jobs/{gone}")
    for job_id in (gone, another_callers_job(gateway), "nope", "../keys/x"):
        status, problem = again(gateway, job_id)
        assert (status, problem["code"]) == (422, "upload_not_found")
        assert problem["errors"] == [
            {"pointer": "/image/job_id", "detail": "the job does not exist, or its image was deleted"}
        ]
