"""Event streams: snapshots of a job until it has ended."""

import json

import pytest

from shared.job import Stage
from tests.gateways import House, a_house


@pytest.fixture
def house() -> House:
    """A fresh service."""
    return a_house()


def events(text: str) -> list[tuple[int, str, str]]:
    """(id, event, status) of each event in a stream; comments and the reconnect time left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])["status"]))
    return found


def test_a_stream_tells_each_change_and_ends_with_the_job(house: House) -> None:
    """Queued, running, running with a stage, succeeded; ids grow."""
    job_id = house.submit()["id"]
    held = []

    def claim() -> None:
        held.append(house.ledger.claim(job_id, "worker"))

    def renew() -> None:
        held.append(house.ledger.renew(held[-1], stage=Stage.SHAPE, progress=0.5))

    house.time.then = [claim, renew, lambda: house.ledger.succeed(held[-1], artifacts={}, timings={})]
    answer = house.client.get(f"/v1/jobs/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("retry: 2000\n\n")
    assert events(answer.text) == [
        (1, "job", "queued"), (2, "job", "running"), (3, "job", "running"), (4, "job", "succeeded"),
    ]  # fmt: skip
    assert '"stage":"shape"' in answer.text


def test_a_resumed_stream_skips_what_was_seen(house: House) -> None:
    """Last-Event-ID 1: only the end comes."""
    job_id = house.submit()["id"]
    house.succeed(job_id)
    answer = house.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "1"})
    assert events(answer.text) == [(3, "job", "succeeded")]


def test_a_client_that_has_seen_the_end_is_told_not_to_come_back(house: House) -> None:
    """204, which an EventSource obeys."""
    job_id = house.submit()["id"]
    house.succeed(job_id)
    answer = house.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "3"})
    assert answer.status_code == 204


def test_a_quiet_stream_is_kept_alive_every_fifteen_seconds(house: House) -> None:
    """Three comments in 46 s of nothing."""
    job_id = house.submit()["id"]
    nothing = [lambda: None] * 91
    house.time.then = [*nothing, lambda: house.succeed(job_id)]
    answer = house.client.get(f"/v1/jobs/{job_id}/events")
    assert (house.time.now_s, answer.text.count(": still there\n\n")) == (46, 3)


def test_a_stream_of_a_deleted_job_ends(house: House) -> None:
    """Without another word."""
    job_id = house.submit()["id"]
    house.time.then = [lambda: house.ledger.erase(job_id)]
    answer = house.client.get(f"/v1/jobs/{job_id}/events")
    assert events(answer.text) == [(1, "job", "queued")]
