"""Submitting images, retries, errors and credentials."""

import json
from pathlib import Path

import httpx
import pytest
from trellis2_modal import (
    ApiError,
    Client,
    Conflict,
    InputRejected,
    NotAllowed,
    NotFound,
    NotReachable,
    RateLimited,
    ServiceFailed,
    Status,
    UrlInvalid,
)
from trellis2_modal._submission import LARGE_BYTES

from tests.unit.client.scripted_transport import Script, job, job_body, problem, streamed

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
SLOT = {
    "upload_id": "up_1",
    "url": "https://bucket.example.net/",
    "fields": {"key": "uploads/alice/up_1", "policy": "p"},
    "max_bytes": 20_000_000,
    "expires_at": "2026-01-01T01:00:00Z",
}


def accepted() -> httpx.Response:
    return job(code=202)


def test_submit_of_a_file_sends_image_and_fields_in_one_form(tmp_path: Path) -> None:
    """Strings unchanged, other values as JSON."""
    (tmp_path / "mug.png").write_bytes(PNG)
    script = Script([accepted()])
    handle = script.client().submit(
        tmp_path / "mug.png", preset="web", seed=7, remesh=False, pipeline_type="512", metadata={"sku": "1"}
    )
    assert (handle.id, handle.status) == ("job_1", Status.QUEUED)
    assert script.lines == ["POST https://3d.example.com/v1/jobs"]
    body = script.requests[0].content
    assert b'name="image"; filename="mug.png"\r\nContent-Type: image/png\r\n\r\n' + PNG in body
    for name, value in {"preset": "web", "seed": "7", "remesh": "false", "pipeline_type": "512"}.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in body
    assert b'name="metadata"\r\n\r\n{"sku": "1"}\r\n' in body


def test_submit_of_bytes_detects_their_type() -> None:
    """An image in memory needs no name."""
    script = Script([accepted()])
    script.client().submit(b"RIFF\x00\x00\x00\x00WEBPVP8 ")
    assert b'filename="image"\r\nContent-Type: image/webp' in script.requests[0].content


def test_submit_of_a_url_sends_no_image() -> None:
    """The service fetches it; the request is JSON, with typed parameters."""
    script = Script([accepted()])
    script.client().submit("https://shop.example.com/mug.png", seed=7, preset="web")
    assert json.loads(script.requests[0].content) == {
        "image": {"url": "https://shop.example.com/mug.png"},
        "preset": "web",
        "seed": 7,
    }


def test_large_file_is_uploaded_to_the_store() -> None:
    """Over LARGE_BYTES: a signed form to the store, then JSON with the upload's id. The store gets no credentials."""
    script = Script([httpx.Response(201, json=SLOT), httpx.Response(204), accepted()])
    script.client(api_key="t2_a_b").submit(PNG + bytes(LARGE_BYTES), seed=7)
    assert script.lines == [
        "POST https://3d.example.com/v1/uploads",
        "POST https://bucket.example.net/",
        "POST https://3d.example.com/v1/jobs",
    ]
    form = script.requests[1]
    assert form.content.index(b'name="policy"') < form.content.index(b'name="file"')
    assert "authorization" not in form.headers
    assert json.loads(script.requests[2].content) == {"image": {"upload_id": "up_1"}, "seed": 7}


def test_file_over_the_services_limit_is_refused_before_it_is_sent() -> None:
    """The response to the upload request has the limit."""
    script = Script([httpx.Response(201, json=SLOT | {"max_bytes": LARGE_BYTES})])
    with pytest.raises(InputRejected) as caught:
        script.client().submit(PNG + bytes(LARGE_BYTES))
    assert caught.value.code == "image_too_large"


def test_submit_with_the_callers_key_sends_even_a_large_file_as_a_form() -> None:
    """An upload would change the payload under the key, and the service would reject the repeated request."""
    script = Script([accepted()])
    script.client().submit(PNG + bytes(LARGE_BYTES), idempotency_key="order-17")
    assert script.lines == ["POST https://3d.example.com/v1/jobs"]
    assert script.requests[0].headers["Idempotency-Key"] == "order-17"


def test_submit_of_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """A local error keeps its own class."""
    with pytest.raises(FileNotFoundError):
        Script([]).client().submit(tmp_path / "missing.png")


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.ReadTimeout("silent"),
        httpx.RemoteProtocolError("closed"),
        problem(429),
        problem(502),
        problem(503),
        problem(504),
    ],
    ids=repr,
)
def test_submit_is_retried_with_the_same_key_and_the_complete_body(trouble: httpx.Response | Exception) -> None:
    """After each transient error."""
    script = Script([trouble, accepted()])
    script.client().submit(PNG)
    first, second = script.requests
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert PNG in first.content
    assert PNG in second.content
    assert len(script.pauses) == 1


def test_each_submit_has_its_own_key() -> None:
    """Two calls are two jobs."""
    script = Script([accepted(), accepted()])
    client = script.client()
    client.submit(PNG)
    client.submit(PNG)
    first, second = (request.headers["Idempotency-Key"] for request in script.requests)
    assert first != second


def test_pauses_grow_with_jitter_until_the_last_try() -> None:
    """The longest possible pause doubles each time, up to eight seconds."""
    script = Script([httpx.ConnectError("refused")], forever=True)
    with pytest.raises(NotReachable, match=r"3d\.example\.com"):
        script.client(tries=8).submit(PNG)
    assert len(script.requests) == 8
    bounds = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert all(0.1 * bound <= pause <= bound for pause, bound in zip(script.pauses, bounds, strict=True))


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "1000000000"}, 60.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:09 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 9.0),
    ],
)
def test_retry_after_is_honoured_up_to_a_minute(headers: dict[str, str], pause_s: float) -> None:
    """As seconds or as a date."""
    script = Script([httpx.Response(429, headers=headers), accepted()])
    script.client().submit(PNG)
    assert script.pauses == [pause_s]


@pytest.mark.parametrize(
    ("headers", "expected_s"), [({"Retry-After": "3600"}, 3600.0), ({}, None)], ids=["given", "absent"]
)
def test_error_has_the_services_retry_after(headers: dict[str, str], expected_s: float | None) -> None:
    """Without the limit: a spent daily budget is renewed at midnight."""
    with pytest.raises(RateLimited) as caught:
        Script([httpx.Response(429, headers=headers)], forever=True).client().submit(PNG)
    assert caught.value.retry_after_s == expected_s


@pytest.mark.parametrize("value", ["soon", "", "-5", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_invalid_retry_after_is_ignored(value: str) -> None:
    """Also a date in the past."""
    script = Script([httpx.Response(503, headers={"Retry-After": value}), accepted()])
    script.client().submit(PNG)
    assert 0 < script.pauses[0] <= 0.5


@pytest.mark.parametrize(
    ("status", "kind", "tries", "retryable"),
    [
        (400, InputRejected, 1, False),
        (413, InputRejected, 1, False),
        (415, InputRejected, 1, False),
        (422, InputRejected, 1, False),
        (401, NotAllowed, 1, False),
        (403, NotAllowed, 1, False),
        (404, NotFound, 1, False),
        (409, Conflict, 1, False),
        (418, ApiError, 1, False),
        (429, RateLimited, 6, True),
        (500, ServiceFailed, 1, True),
        (503, ServiceFailed, 6, True),
    ],
)
def test_status_selects_the_error_class(status: int, kind: type[ApiError], tries: int, retryable: bool) -> None:
    """With code, detail and fields of the problem; only transient errors are retried."""
    fields = {"errors": [{"pointer": "/seed", "detail": "too large"}]}
    script = Script([problem(status, **fields)], forever=True)
    with pytest.raises(ApiError) as caught:
        script.client().submit(PNG)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.detail, error.retryable) == (status, "some_code", "It is so.", retryable)
    assert [(one.pointer, one.detail) for one in error.errors] == [("/seed", "too large")]
    assert str(error) == "It is so.\n  /seed: too large"
    assert len(script.requests) == tries


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"[]", b"", b"null"])
def test_error_of_a_proxy_has_a_code_and_a_message(body: bytes) -> None:
    """Its body is not problem+json."""
    with pytest.raises(ServiceFailed) as caught:
        Script([httpx.Response(500, content=body)]).client().submit(PNG)
    assert (caught.value.code, str(caught.value)) == ("http_500", "the service responded 500")


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b'{"hello": "world"}', b"null"])
def test_response_of_another_server_is_not_reachable(body: bytes) -> None:
    """A wrong URL often leads to a page with status 200."""
    with pytest.raises(NotReachable, match="is not the service"):
        Script([httpx.Response(200, content=body)]).client().submit(PNG)


def test_response_that_breaks_off_is_retried() -> None:
    """An incomplete body is a lost response."""
    script = Script([streamed(b'{"id"', httpx.ReadError("reset"), content_type="application/json"), accepted()])
    assert script.client().submit(PNG).id == "job_1"


@pytest.mark.parametrize(
    "url", ["3d.example.com", "localhost:8080", "ftp://3d.example.com", "https://", "", "http://[::1"]
)
def test_invalid_url_is_refused_at_once(url: str) -> None:
    """Without a request or a pause."""
    with pytest.raises(UrlInvalid):
        Client(url)


def test_invalid_header_is_not_retried() -> None:
    """An invalid request stays invalid."""
    script = Script([httpx.LocalProtocolError("illegal header value")])
    with pytest.raises(NotReachable, match="illegal header value"):
        script.client().submit(PNG)


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({}, {}),
        ({"api_key": "t2_a_b"}, {"authorization": "Bearer t2_a_b"}),
        (
            {"api_key": "t2_a_b", "modal_key": "wk-1", "modal_secret": "ws-1"},
            {"x-api-key": "t2_a_b", "modal-key": "wk-1", "modal-secret": "ws-1"},
        ),
    ],
)
def test_credentials_are_sent_in_their_headers(options: dict[str, str], headers: dict[str, str]) -> None:
    """Behind Modal's proxy authentication the API key is in X-API-Key."""
    script = Script([accepted()])
    script.client(**options).submit(PNG)
    names = {"authorization", "x-api-key", "modal-key", "modal-secret"}
    assert {name: value for name, value in script.requests[0].headers.items() if name in names} == headers


@pytest.mark.parametrize("webhook", ["https://hooks.example.com/", {"url": "https://hooks.example.com/"}])
def test_webhook_is_a_url_or_an_object(webhook: str | dict[str, str]) -> None:
    """The request has an object."""
    script = Script([accepted()])
    script.client().submit("https://images.example.com/mug.png", webhook=webhook)
    assert json.loads(script.requests[0].content)["webhook"] == {"url": "https://hooks.example.com/"}


def test_list_fetches_pages_on_demand() -> None:
    """The second page only after the last item of the first."""
    first = httpx.Response(200, json={"data": [job_body(), job_body()], "next_cursor": "c1"})
    second = httpx.Response(200, json={"data": [job_body(id="job_3")], "next_cursor": None})
    script = Script([first, second])
    found = script.client().list(status="failed")
    assert [next(found).id, next(found).id] == ["job_1", "job_1"]
    assert len(script.requests) == 1
    assert [handle.id for handle in found] == ["job_3"]
    assert script.lines == [
        "GET https://3d.example.com/v1/jobs?limit=100&status=failed",
        "GET https://3d.example.com/v1/jobs?limit=100&status=failed&after=c1",
    ]


def test_get_quotes_the_id() -> None:
    """An id with a slash is one segment of the path."""
    script = Script([problem(404)])
    with pytest.raises(NotFound):
        script.client().get("../keys?x=1")
    assert script.lines == ["GET https://3d.example.com/v1/jobs/..%2Fkeys%3Fx%3D1"]
