"""Exports: new jobs that extract a stored state again."""

import pytest

from tests.support.gateway_harness import LOCAL, GatewayHarness, build_gateway, new_artifact


@pytest.fixture
def gateway() -> GatewayHarness:
    """A fresh service."""
    return build_gateway()


@pytest.fixture
def source(gateway: GatewayHarness) -> str:
    """The id of a job that has succeeded and left a state."""
    job_id = str(gateway.submit(preset="web", seed="7", pipeline_type="512", engine="trellis")["id"])
    gateway.succeed(job_id)
    return job_id


def test_export_is_a_job_over_the_state_with_other_export_options(gateway: GatewayHarness, source: str) -> None:
    """It has its own id, the same engine and sampling parameters, and it is enqueued."""
    answer = gateway.client.post(f"/v1/jobs/{source}/exports", json={"preset": "game", "texture_format": "webp"})
    body = answer.json()
    job = gateway.job(body["id"])
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{LOCAL}/v1/jobs/{body['id']}"
    assert (job.input.state, job.input.job_id) == (new_artifact(source, 1, "state"), source)
    assert (job.input.key, job.input.url, job.engine) == (None, None, "trellis")
    changed = {"decimation_target": 10_000, "texture_size": 1024, "max_bytes": 3_000_000, "texture_format": "webp"}
    assert job.parameters == gateway.job(source).parameters.model_copy(update=changed)
    assert gateway.queue.enqueued[-1] == body["id"] != source


def test_preset_of_an_export_replaces_the_first_one(gateway: GatewayHarness) -> None:
    """The values of `ar_ios` are gone; explicit parameters stay."""
    source = str(gateway.submit(preset="ar_ios", texture_format="png", dimensions_m='{"height": 0.1}')["id"])
    gateway.succeed(source)
    body = gateway.client.post(f"/v1/jobs/{source}/exports", json={"preset": "max_quality"}).json()
    replaced = {name: body["parameters"][name] for name in ("formats", "decimation_target", "texture_format")}
    assert replaced == {"formats": ["glb"], "decimation_target": 1_000_000, "texture_format": "png"}
    assert body["parameters"]["dimensions_m"]["height"] == 0.1


def test_an_export_without_a_body_repeats_the_extraction(gateway: GatewayHarness, source: str) -> None:
    """All options stay the same."""
    answer = gateway.client.post(f"/v1/jobs/{source}/exports")
    assert gateway.job(answer.json()["id"]).parameters == gateway.job(source).parameters


def test_an_export_can_be_exported_again(gateway: GatewayHarness, source: str) -> None:
    """It uses the first job's state, even if the export stored none."""
    first = gateway.client.post(f"/v1/jobs/{source}/exports").json()["id"]
    gateway.succeed(first, ["model", "poster"])
    second = gateway.client.post(f"/v1/jobs/{first}/exports", json={"texture_size": 512})
    assert gateway.job(second.json()["id"]).input.state == new_artifact(source, 1, "state")


@pytest.mark.parametrize("field", ["seed", "pipeline_type", "engine", "image", "magic"])
def test_what_an_export_cannot_change_is_refused_by_name(gateway: GatewayHarness, source: str, field: str) -> None:
    """Sampling is not repeated."""
    answer = gateway.client.post(f"/v1/jobs/{source}/exports", json={field: 1})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{field}")


def test_only_a_succeeded_job_can_be_exported(gateway: GatewayHarness) -> None:
    """409 while it is queued."""
    answer = gateway.client.post(f"/v1/jobs/{gateway.submit()['id']}/exports")
    assert (answer.status_code, answer.json()["code"]) == (409, "transition_refused")


def test_a_job_that_left_no_state_cannot_be_exported(gateway: GatewayHarness) -> None:
    """409 with its own code."""
    job_id = gateway.submit()["id"]
    gateway.succeed(job_id, ["model"])
    answer = gateway.client.post(f"/v1/jobs/{job_id}/exports")
    assert (answer.status_code, answer.json()["code"]) == (409, "state_missing")


def test_an_idempotency_key_makes_one_export(gateway: GatewayHarness, source: str) -> None:
    """The same key and body give the same job; the same key on another route is another key."""
    headers = {"Idempotency-Key": "k"}
    ids = {gateway.client.post(f"/v1/jobs/{source}/exports", json={}, headers=headers).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    assert gateway.submit(headers)["id"] not in ids
    other = gateway.client.post(f"/v1/jobs/{source}/exports", json={"preset": "web"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
