"""A picture once more: a job can be made from what an earlier one of the caller's was made from."""

import pytest

from tests.support.gateway_harness import PICTURE, House, a_house, another_callers_job


@pytest.fixture
def house() -> House:
    """A service."""
    return a_house()


def again(house: House, job_id: str, **fields: object) -> tuple[int, dict[str, object]]:
    """Submit an earlier job's picture; the answer's status and body."""
    answer = house.client.post("/v1/jobs", json={"image": {"job_id": job_id}, **fields})
    return answer.status_code, answer.json()


def test_an_earlier_picture_makes_a_job_of_its_own(house: House) -> None:
    """With a copy of the picture, so that the earlier job may be deleted."""
    first = house.submit()["id"]
    status, job = again(house, first, seed=5)
    house.client.delete(f"/v1/jobs/{first}")
    made = house.job(str(job["id"]))
    assert (status, job["seed"], made.input.bytes) == (202, 5, len(PICTURE))
    assert house.store.get(made.input.key or "").body == PICTURE


def test_an_exports_picture_is_that_of_the_job_it_was_made_from(house: House) -> None:
    """Through any number of exports."""
    first = house.submit()["id"]
    house.succeed(first)
    export = house.client.post(f"/v1/jobs/{first}/exports", json={}).json()["id"]
    status, job = again(house, export)
    assert (status, house.job(str(job["id"])).input.bytes) == (202, len(PICTURE))


def test_an_earlier_url_is_fetched_again(house: House) -> None:
    """By the worker, as the first time."""
    url = "https://shop.example/mug.png"
    first = house.client.post("/v1/jobs", json={"image": {"url": url}}).json()["id"]
    status, job = again(house, first)
    assert (status, house.job(str(job["id"])).input.url) == (202, url)


def test_only_ones_own_pictures_that_are_still_there_can_be_had(house: House) -> None:
    """What is another's, deleted, or never was, looks alike."""
    gone = house.submit()["id"]
    house.client.delete(f"/v1/jobs/{gone}")
    for job_id in (gone, another_callers_job(house), "nope", "../keys/x"):
        status, problem = again(house, job_id)
        assert (status, problem["code"]) == (422, "upload_not_found")
        assert problem["errors"] == [
            {"pointer": "/image/job_id", "detail": "the job does not exist, or its image was deleted"}
        ]
