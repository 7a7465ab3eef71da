"""Submitting: how a picture travels, and why no retry makes a second job."""

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
from trellis2_modal._job_request import LARGE_BYTES

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


def test_submit_of_a_file_sends_picture_and_fields_in_one_form(tmp_path: Path) -> None:
    """Text goes as it is, everything else as JSON."""
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


def test_submit_of_bytes_names_their_type_by_their_head() -> None:
    """A picture in memory needs no name."""
    script = Script([accepted()])
    script.client().submit(b"RIFF\x00\x00\x00\x00WEBPVP8 ")
    assert b'filename="picture"\r\nContent-Type: image/webp' in script.requests[0].content


def test_submit_of_a_url_leaves_the_fetching_to_the_service() -> None:
    """A URL travels as JSON, parameters beside it with their types."""
    script = Script([accepted()])
    script.client().submit("https://shop.example.com/mug.png", seed=7, preset="web")
    assert json.loads(script.requests[0].content) == {
        "image": {"url": "https://shop.example.com/mug.png"},
        "preset": "web",
        "seed": 7,
    }


def test_submit_of_a_large_file_goes_past_the_gateway_into_the_store() -> None:
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


def test_submit_of_a_file_over_the_services_limit_is_refused_before_it_is_sent() -> None:
    """The upload's answer says how much the service takes."""
    script = Script([httpx.Response(201, json=SLOT | {"max_bytes": LARGE_BYTES})])
    with pytest.raises(InputRejected) as caught:
        script.client().submit(PNG + bytes(LARGE_BYTES))
    assert caught.value.code == "image_too_large"


def test_submit_with_a_key_of_the_callers_own_sends_even_a_large_file_as_a_form() -> None:
    """An upload would change the payload under the key: the second process would be refused."""
    script = Script([accepted()])
    script.client().submit(PNG + bytes(LARGE_BYTES), idempotency_key="order-17")
    assert script.lines == ["POST https://3d.example.com/v1/jobs"]
    assert script.requests[0].headers["Idempotency-Key"] == "order-17"


def test_submit_of_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """What is wrong on this side is said in this side's words."""
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
def test_submit_is_repeated_with_the_same_key_and_the_whole_body(trouble: httpx.Response | Exception) -> None:
    """Whatever passes is tried again, under the key of the first try."""
    script = Script([trouble, accepted()])
    script.client().submit(PNG)
    first, second = script.requests
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert PNG in first.content
    assert PNG in second.content
    assert len(script.pauses) == 1


def test_each_submit_has_a_key_of_its_own() -> None:
    """Two calls are two jobs."""
    script = Script([accepted(), accepted()])
    client = script.client()
    client.submit(PNG)
    client.submit(PNG)
    first, second = (request.headers["Idempotency-Key"] for request in script.requests)
    assert first != second


def test_pauses_grow_and_scatter_until_the_tries_are_used_up() -> None:
    """Each pause is at most twice as long as the one before could be, and never over eight seconds."""
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
def test_retry_after_is_honoured_and_clamped(headers: dict[str, str], pause_s: float) -> None:
    """Seconds or a date, a minute at most."""
    script = Script([httpx.Response(429, headers=headers), accepted()])
    script.client().submit(PNG)
    assert script.pauses == [pause_s]


@pytest.mark.parametrize(("headers", "told_s"), [({"Retry-After": "3600"}, 3600.0), ({}, None)], ids=["told", "untold"])
def test_error_says_when_the_service_wants_to_be_asked_again(headers: dict[str, str], told_s: float | None) -> None:
    """Unclamped: a day's budget that is spent comes back at midnight."""
    with pytest.raises(RateLimited) as caught:
        Script([httpx.Response(429, headers=headers)], forever=True).client().submit(PNG)
    assert caught.value.retry_after_s == told_s


@pytest.mark.parametrize("value", ["soon", "", "-5", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_retry_after_that_makes_no_sense_leaves_the_backoff(value: str) -> None:
    """A header that cannot be read, or lies in the past, delays nothing."""
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
def test_problem_becomes_the_error_of_its_family(
    status: int, kind: type[ApiError], tries: int, retryable: bool
) -> None:
    """Code, detail and fields are those of the problem; only what may pass is tried again."""
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
def test_error_of_a_proxy_in_between_still_has_a_code_and_a_sentence(body: bytes) -> None:
    """Not everything that answers speaks problem+json."""
    with pytest.raises(ServiceFailed) as caught:
        Script([httpx.Response(500, content=body)]).client().submit(PNG)
    assert (caught.value.code, str(caught.value)) == ("http_500", "the service answered 500")


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b'{"hello": "world"}', b"null"])
def test_answer_of_something_else_is_not_taken_for_the_services(body: bytes) -> None:
    """A wrong URL often leads to a page that says 200."""
    with pytest.raises(NotReachable, match="is not the service"):
        Script([httpx.Response(200, content=body)]).client().submit(PNG)


def test_answer_that_breaks_off_is_asked_for_again() -> None:
    """Half a body is a lost answer."""
    script = Script([streamed(b'{"id"', httpx.ReadError("reset"), content_type="application/json"), accepted()])
    assert script.client().submit(PNG).id == "job_1"


@pytest.mark.parametrize(
    "url", ["3d.example.com", "localhost:8080", "ftp://3d.example.com", "https://", "", "http://[::1"]
)
def test_url_that_is_none_is_refused_at_once(url: str) -> None:
    """No request, no waiting."""
    with pytest.raises(UrlInvalid):
        Client(url)


def test_header_that_cannot_be_sent_is_not_tried_again() -> None:
    """What is wrong with the request itself does not pass."""
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
def test_credentials_travel_in_the_headers_that_are_free(options: dict[str, str], headers: dict[str, str]) -> None:
    """Behind Modal's proxy auth the API key leaves the Authorization header alone."""
    script = Script([accepted()])
    script.client(**options).submit(PNG)
    names = {"authorization", "x-api-key", "modal-key", "modal-secret"}
    assert {name: value for name, value in script.requests[0].headers.items() if name in names} == headers


@pytest.mark.parametrize("webhook", ["https://hooks.example.com/", {"url": "https://hooks.example.com/"}])
def test_webhook_is_a_url_or_an_object(webhook: str | dict[str, str]) -> None:
    """On the wire it is an object."""
    script = Script([accepted()])
    script.client().submit("https://pictures.example.com/mug.png", webhook=webhook)
    assert json.loads(script.requests[0].content)["webhook"] == {"url": "https://hooks.example.com/"}


def test_list_fetches_pages_as_it_comes_to_them() -> None:
    """The second page is asked for only after the first is used up."""
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


def test_get_quotes_an_id_that_came_from_elsewhere() -> None:
    """An id with a slash stays one segment of the path."""
    script = Script([problem(404)])
    with pytest.raises(NotFound):
        script.client().get("../keys?x=1")
    assert script.lines == ["GET https://3d.example.com/v1/jobs/..%2Fkeys%3Fx%3D1"]
