"""Event streams: snapshots of a job until it has ended."""

import json

import pytest

from shared.domain.job import Stage
from tests.support.gateway_harness import GatewayHarness, build_gateway


@pytest.fixture
def gateway() -> GatewayHarness:
    """A fresh service."""
    return build_gateway()


def events(text: str) -> list[tuple[int, str, str]]:
    """(id, event, status) of each event in a stream; comments and the reconnect time left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])["status"]))
    return found


def test_a_stream_tells_each_change_and_ends_with_the_job(gateway: GatewayHarness) -> None:
    """Queued, started, progress with a stage, succeeded; ids grow."""
    job_id = gateway.submit()["id"]
    held = []

    def claim() -> None:
        held.append(gateway.jobs.claim(job_id, "worker"))

    def renew() -> None:
        held.append(gateway.jobs.renew(held[-1], stage=Stage.SHAPE, progress=0.5))

    gateway.time.then = [claim, renew, lambda: gateway.jobs.succeed(held[-1], artifacts={}, timings={})]
    answer = gateway.client.get(f"/v1/jobs/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("retry: 2000\n\n")
    assert events(answer.text) == [
        (1, "queued", "queued"), (2, "started", "running"), (3, "progress", "running"), (4, "succeeded", "succeeded"),
    ]  # fmt: skip
    assert '"stage":"shape"' in answer.text


@pytest.mark.parametrize("seen", range(6))
def test_a_resumed_stream_has_no_gap_and_no_repeat(gateway: GatewayHarness, seen: int) -> None:
    """From any id, even if no client was connected: the record has the history."""
    job_id = gateway.submit()["id"]
    held = gateway.jobs.claim(job_id, "worker")
    assert held
    held = gateway.jobs.release(gateway.jobs.renew(held, stage=Stage.SHAPE, progress=0.5))
    gateway.succeed(job_id)
    answer = gateway.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(seen)})
    missed = [
        (1, "queued", "queued"), (2, "started", "running"), (3, "progress", "running"), (4, "queued", "queued"),
        (5, "started", "running"), (6, "succeeded", "succeeded"),
    ]  # fmt: skip
    assert events(answer.text) == missed[seen:]


def test_an_event_of_the_past_shows_nothing_of_what_came_later(gateway: GatewayHarness) -> None:
    """Neither artifacts nor times; its own stage and progress."""
    job_id = gateway.submit()["id"]
    held = gateway.jobs.claim(job_id, "worker")
    assert held
    held = gateway.jobs.renew(held, stage=Stage.SHAPE, progress=0.5)
    gateway.jobs.succeed(held, artifacts={}, timings={"shape": 1.0}, cost_usd=1.0)
    text = gateway.client.get(f"/v1/jobs/{job_id}/events").text
    bodies = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    queued, _, progress, succeeded = bodies
    assert (progress["stage"], progress["progress"], progress["attempt"]) == ("shape", 0.5, 1)
    assert (progress["timings"], progress["cost_usd"], progress["finished_at"]) == ({}, 0.0, None)
    assert (queued["attempt"], queued["started_at"], queued["progress"]) == (0, None, 0.0)
    assert (succeeded["timings"], succeeded["cost_usd"]) == ({"shape": 1.0}, 1.0)


def test_client_that_has_the_last_event_gets_204(gateway: GatewayHarness) -> None:
    """204, which an EventSource obeys."""
    job_id = gateway.submit()["id"]
    gateway.succeed(job_id)
    answer = gateway.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "3"})
    assert answer.status_code == 204


def test_a_quiet_stream_is_kept_alive_every_fifteen_seconds(gateway: GatewayHarness) -> None:
    """Three comments in a minute of nothing; it looks every two seconds by then."""
    job_id = gateway.submit()["id"]
    nothing = [lambda: None] * 29
    gateway.time.then = [*nothing, lambda: gateway.succeed(job_id)]
    answer = gateway.client.get(f"/v1/jobs/{job_id}/events")
    assert 45 < gateway.time.now_s < 62
    assert answer.text.count(": still there\n\n") == 3


def test_a_stream_of_a_deleted_job_ends(gateway: GatewayHarness) -> None:
    """Without another word."""
    job_id = gateway.submit()["id"]
    gateway.time.then = [lambda: gateway.jobs.purge(job_id)]
    answer = gateway.client.get(f"/v1/jobs/{job_id}/events")
    assert events(answer.text) == [(1, "queued", "queued")]


def test_preview_is_an_event_of_its_own_and_is_replayed_like_the_others(gateway: GatewayHarness) -> None:
    """The job at the event, with the image as a data URL."""
    job_id = gateway.submit()["id"]
    held = gateway.jobs.claim(job_id, "worker")
    assert held
    held = gateway.jobs.renew(held, stage=Stage.SHAPE, progress=0.2, preview=b"webp")
    gateway.jobs.succeed(held, artifacts={}, timings={})
    text = gateway.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "2"}).text
    assert events(text) == [(3, "preview", "running"), (4, "succeeded", "succeeded")]
    shown, end = (json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: "))
    assert (shown["preview"], shown["stage"], shown["id"]) == ("data:image/webp;base64,d2VicA==", "shape", job_id)
    assert "preview" not in end
