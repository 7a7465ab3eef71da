"""File size bounds, dimensions and formats in requests and jobs."""

from typing import Any

import pytest

from shared.domain.job import Check, Degradation
from tests.support.gateway_harness import IMAGE, GatewayHarness, build_gateway, new_artifact

ASK = {
    "max_bytes": 4_000_000,
    "dimensions_m": {"width": 0.12, "height": None, "depth": None, "fit": "exact"},
    "formats": ["glb", "usdz"],
}


@pytest.fixture
def gateway() -> GatewayHarness:
    """A service with every format."""
    return build_gateway()


@pytest.fixture
def glb_only() -> GatewayHarness:
    """A service whose workers have no OpenUSD."""
    return build_gateway(formats=("glb",))


def in_json(gateway: GatewayHarness, **fields: Any) -> Any:
    """The answer to a submit as JSON."""
    return gateway.client.post("/v1/jobs", json={"image": {"upload_id": gateway.uploaded()}, **fields})


def test_bounds_dimensions_and_formats_come_back_with_the_job(gateway: GatewayHarness) -> None:
    """As JSON and as a form; a side alone is enough."""
    asked = in_json(gateway, max_bytes=4_000_000, dimensions_m={"width": 0.12, "fit": "exact"}, formats=["usdz"])
    form = {"max_bytes": "4000000", "dimensions_m": '{"width": 0.12, "fit": "exact"}', "formats": '["usdz", "glb"]'}
    for body in (asked.json(), gateway.submit(**form)):
        assert {name: body["parameters"][name] for name in ASK} == ASK


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"max_bytes": 49_999}, "/max_bytes"),
        ({"max_bytes": "4000000"}, "/max_bytes"),
        ({"dimensions_m": {}}, "/dimensions_m"),
        ({"dimensions_m": {"fit": "exact"}}, "/dimensions_m"),
        ({"dimensions_m": {"width": 0}}, "/dimensions_m/width"),
        ({"dimensions_m": {"length": 1}}, "/dimensions_m/length"),
        ({"dimensions_m": [1, 2, 3]}, "/dimensions_m"),
        ({"formats": ["obj"]}, "/formats/0"),
        ({"formats": "usdz"}, "/formats"),
    ],
)
def test_invalid_value_is_refused_by_name(gateway: GatewayHarness, fields: dict[str, Any], pointer: str) -> None:
    """Before anything is stored."""
    answer = in_json(gateway, **fields)
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid")
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("fields", [{"formats": ["glb", "usdz"]}, {"preset": "ar_ios"}])
def test_unavailable_format_is_refused_at_the_submit(glb_only: GatewayHarness, fields: dict[str, Any]) -> None:
    """A preset that includes it, too; the answer says what to do."""
    answer = in_json(glb_only, **fields)
    assert (answer.status_code, answer.json()["code"]) == (422, "format_unavailable")
    assert answer.json()["errors"][0]["pointer"] == "/formats"
    assert glb_only.client.get("/readyz").json()["formats"] == ["glb"]
    assert glb_only.client.get("/v1/jobs").json()["data"] == []


def test_explicit_formats_replace_those_of_the_preset(glb_only: GatewayHarness) -> None:
    """As every explicit parameter does."""
    assert in_json(glb_only, preset="ar_ios", formats=["glb"]).status_code == 202


def test_export_has_formats_too(gateway: GatewayHarness, glb_only: GatewayHarness) -> None:
    """It is refused where a format is unavailable."""
    answers = []
    for each in (gateway, glb_only):
        source = each.submit()["id"]
        each.succeed(source)
        answers.append(each.client.post(f"/v1/jobs/{source}/exports", json={"formats": ["usdz"]}))
    assert [answer.status_code for answer in answers] == [202, 422]
    assert answers[0].json()["parameters"]["formats"] == ["glb", "usdz"]


def test_job_shows_checks_and_degradations(gateway: GatewayHarness) -> None:
    """Until it is purged."""
    job_id = gateway.submit()["id"]
    check = Check(name="max_bytes", limit=5, measured=10, passed=False)
    lowered = Degradation(name="texture_size", requested=4096, actual=512)
    made = new_artifact(job_id, 1, "model").model_copy(update={"lowered": (lowered,), "dimensions_m": (1, 2.5, 3)})
    held = gateway.jobs.claim(job_id, "worker")
    assert held
    gateway.jobs.succeed(held, artifacts={"model": made}, checks=(check,), timings={})
    body = gateway.client.get(f"/v1/jobs/{job_id}").json()
    assert body["checks"] == [{"name": "max_bytes", "limit": 5, "measured": 10, "passed": False}]
    assert body["artifacts"]["model"]["lowered"] == [{"name": "texture_size", "requested": 4096, "actual": 512}]
    assert body["artifacts"]["model"]["dimensions_m"] == [1, 2.5, 3]
    assert gateway.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert gateway.job(job_id).checks == ()


def test_bound_is_part_of_an_idempotent_request(gateway: GatewayHarness) -> None:
    """The same request gives the same job; another bound is refused."""
    headers, form = {"Idempotency-Key": "k"}, {"max_bytes": "4000000", "dimensions_m": '{"height": 0.2}'}
    first, again = (gateway.submit(headers, **form)["id"] for _ in range(2))
    other = gateway.client.post(
        "/v1/jobs", files={"image": ("a.png", IMAGE)}, data=form | {"max_bytes": "4000001"}, headers=headers
    )
    assert (first == again, other.status_code, other.json()["code"]) == (True, 422, "idempotency_mismatch")
