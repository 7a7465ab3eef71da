"""What every route has in common: problems, headers, health, and the way to the bytes."""

import json
import logging
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from bench.support.memory_store import MemoryStore
from shared.errors import StoreRefused, StoreUnavailable
from shared.storage.ports import Fetched
from tests.support.fakes import LossyStore, ManualClock
from tests.support.gateway_harness import LOCAL, GatewayHarness, build_gateway


@pytest.fixture
def gateway() -> GatewayHarness:
    """A fresh service."""
    return build_gateway()


# --- problems


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nowhere", 404, "not_found"), ("PUT", "/v1/jobs", 405, "method_not_allowed")],
)
def test_the_frameworks_own_errors_are_problems_too(
    gateway: GatewayHarness, method: str, path: str, status: int, code: str
) -> None:
    """RFC 9457, with all members."""
    answer = gateway.client.many((method, path, {}))[0]
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert sorted(problem) == ["code", "detail", "errors", "status", "title", "type"]


def test_unforeseen_error_is_logged_with_an_id_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """500 without the reason; the log has both the id and the trace."""

    class Broken(MemoryStore):
        def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
            raise RuntimeError(f"password=hunter2 at {key} {first_byte} {length}")

    gateway = build_gateway(store=Broken())
    with caplog.at_level(logging.ERROR, logger="trellis2"):
        answer = gateway.client.get("/v1/jobs/job_01m87pc66kkf8q56k0eagz459p")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "hunter2" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["detail"]
    record = next(record for record in caplog.records if record.message == "request.failed")
    assert record.exc_info is not None
    assert record.__dict__["keys"] == {"request_id": answer.headers["x-request-id"]}


@pytest.mark.parametrize(("error", "code"), [(StoreUnavailable, "store_unavailable"), (StoreRefused, "store_refused")])
def test_a_store_that_fails_is_503_and_its_words_stay_inside(error: type[Exception], code: str) -> None:
    """With Retry-After."""

    def fail(key: str) -> None:
        raise error(f"bucket secret-name, {key}")

    answer = build_gateway(store=LossyStore(before_put=fail)).client.post(
        "/v1/jobs", json={"image": {"url": "https://shop.example/a.png"}}
    )
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, code, "5")
    assert "secret-name" not in answer.text


# --- headers


def test_every_answer_has_an_id_and_the_headers_of_a_careful_service(gateway: GatewayHarness) -> None:
    """Success, problem and page alike; no CORS."""
    for path in ("/healthz", "/v1/jobs", "/nowhere", "/docs", "/"):
        headers = gateway.client.get(path, headers={"Origin": LOCAL}).headers
        assert len(headers["x-request-id"]) == 16
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert not [name for name in headers if name.startswith("access-control")]


def test_a_request_id_comes_back_if_it_is_harmless(gateway: GatewayHarness) -> None:
    """Letters, digits, dots, hyphens; anything else is replaced."""
    sent = [gateway.client.get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"] for given in
            ("shop-42", "a b", "x" * 65)]  # fmt: skip
    assert sent[0] == "shop-42"
    assert [len(other) for other in sent[1:]] == [16, 16]


def test_https_is_insisted_on_only_where_there_is_https() -> None:
    """Strict-Transport-Security follows the public URL."""
    plain, secure = build_gateway(), build_gateway(public_url="https://3d.example/")
    assert "strict-transport-security" not in plain.client.get("/healthz").headers
    assert "strict-transport-security" in secure.client.get("/healthz").headers


def test_urls_are_under_the_public_url_where_one_is_set() -> None:
    """Whatever Host the request names."""
    gateway = build_gateway(public_url="https://3d.example/")
    assert gateway.submit()["status_url"].startswith("https://3d.example/v1/jobs/job_")


# --- health


def test_health_needs_nothing(gateway: GatewayHarness) -> None:
    """Neither a key nor the store."""
    assert build_gateway(address="93.184.215.14").client.get("/healthz").status_code == 200
    assert gateway.stored() == []


def test_readiness_tries_the_store_once_in_five_seconds() -> None:
    """However often it is asked; and turns red with the reason's code, then green again."""
    puts: list[str] = []
    faults: list[Exception] = []

    def note(key: str) -> None:
        puts.append(key)
        if faults:
            raise faults[0]

    gateway = build_gateway(store=LossyStore(before_put=note))
    assert [gateway.client.get("/readyz").status_code for _ in range(3)] == [200, 200, 200]
    assert len(puts) == 1
    faults.append(StoreRefused("no space on /dev/sda1"))
    gateway.time.now_s += 5
    red = gateway.client.get("/readyz")
    assert (red.status_code, red.json()["code"]) == (503, "store_refused")
    assert "/dev/sda1" not in red.text
    faults.clear()
    gateway.time.now_s += 5
    assert gateway.client.get("/readyz").json() == {
        "status": "ready",
        "engines": ["relief", "trellis"],
        "formats": ["glb", "usdz", "meshopt"],
    }


def test_a_store_that_gives_back_something_else_is_not_ready() -> None:
    """What was written must be what is read."""

    class Forgetful(MemoryStore):
        def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
            found = super().get(key, first_byte=first_byte, length=length)
            return Fetched(b"other", found.etag, found.size_bytes, found.modified_at, found.read_at)

    assert build_gateway(store=Forgetful(ManualClock())).client.get("/readyz").status_code == 503


# --- uploads and artifacts


def test_an_upload_is_a_form_for_one_picture_of_ones_own(gateway: GatewayHarness) -> None:
    """Signed for an hour, bounded, under a fresh id."""
    answer = gateway.client.post("/v1/uploads")
    body = answer.json()
    assert (answer.status_code, body["max_bytes"], body["fields"]["max_bytes"]) == (201, 20_000_000, "20000000")
    assert body["fields"]["key"] == f"uploads/local/{body['upload_id']}"
    assert body["expires_at"] == (gateway.clock() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert answer.headers["cache-control"] == "no-store"


def test_an_artifact_redirects_to_its_signed_url(gateway: GatewayHarness) -> None:
    """307, never cached, with a file name made of the caller's own."""
    job_id = gateway.submit(custom_id='mug "blue"/42')["id"]
    gateway.succeed(job_id)
    answer = gateway.client.get(f"/v1/jobs/{job_id}/artifacts/model")
    target = urlsplit(answer.headers["location"])
    assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
    assert target.path == f"/jobs/{job_id}/1/model.glb"
    assert parse_qs(target.query)["filename"] == ["mug-blue-42.glb"]


def test_an_artifact_that_is_not_there_is_404(gateway: GatewayHarness) -> None:
    """Of an unfinished job, and of a name that no job has."""
    job_id = gateway.submit()["id"]
    early = gateway.client.get(f"/v1/jobs/{job_id}/artifacts/model")
    gateway.succeed(job_id)
    strange = gateway.client.get(f"/v1/jobs/{job_id}/artifacts/job.json")
    assert [(answer.status_code, answer.json()["code"]) for answer in (early, strange)] == [
        (404, "artifact_not_found")
    ] * 2


def test_urls_that_the_gateway_serves_itself_are_made_absolute(gateway: GatewayHarness) -> None:
    """The embedded store signs paths; clients get whole URLs."""

    class Relative(MemoryStore):
        def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
            return f"/v1/files/{key}?expires={expires_s}&filename={filename}"

    gateway = build_gateway(store=Relative(ManualClock()))
    job_id = gateway.submit()["id"]
    gateway.succeed(job_id)
    location = gateway.client.get(f"/v1/jobs/{job_id}/artifacts/model").headers["location"]
    assert location.startswith(f"{LOCAL}/v1/files/jobs/{job_id}/1/model.glb?expires=900")
    assert json.dumps(location).isascii()
