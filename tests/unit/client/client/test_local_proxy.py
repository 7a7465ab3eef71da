"""The local proxy of the page: forwarded requests, credentials, and refusals."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx
import pytest
from trellis2_modal.client import app
from trellis2_modal.client.local_proxy import LocalProxy
from trellis2_modal.errors import UrlInvalid

from tests.unit.client.scripted_transport import Answer, Script, streamed

SERVICE = "https://3d.example.com"


@contextmanager
def opened(*answers: Answer, **keys: str) -> Iterator[tuple[httpx.Client, Script]]:
    """A browser at a proxy of a scripted service."""
    script = Script(list(answers))
    proxy = LocalProxy(SERVICE, port=0, transport=script.transport, **keys)
    thread = Thread(target=proxy.serve_forever, args=(0.1,))
    thread.start()
    try:
        with httpx.Client(base_url=proxy.url) as browser:
            yield browser, script
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def test_request_is_forwarded_with_credentials() -> None:
    """Path, query, body and headers unchanged; with Modal's tokens and the API key, without cookies."""
    with opened(httpx.Response(202, json={}), api_key="t2_a_b", modal_key="wk", modal_secret="ws") as (browser, script):
        sent = {"Idempotency-Key": "k", "Cookie": "a=b", "Origin": str(browser.base_url).rstrip("/")}
        assert browser.post("/v1/jobs?a=1", json={"seed": 7}, headers=sent).status_code == 202
    (request,) = script.requests
    assert (str(request.url), json.loads(request.content)) == (f"{SERVICE}/v1/jobs?a=1", {"seed": 7})
    named = ("modal-key", "modal-secret", "x-api-key", "idempotency-key", "cookie", "authorization", "host")
    assert {name: request.headers.get(name) for name in named} == {
        "modal-key": "wk",
        "modal-secret": "ws",
        "x-api-key": "t2_a_b",
        "idempotency-key": "k",
        "cookie": None,
        "authorization": None,
        "host": "3d.example.com",
    }


@pytest.mark.parametrize("typed", [{"Authorization": "Bearer t2_typed"}, {"X-API-Key": "t2_typed"}], ids=list)
def test_key_of_the_page_overrides_the_environments(typed: dict[str, str]) -> None:
    """In X-API-Key."""
    with opened(httpx.Response(200), api_key="t2_a_b") as (browser, script):
        browser.get("/v1/jobs", headers=typed)
    assert script.requests[0].headers["Authorization"] == "Bearer t2_typed"
    assert "X-API-Key" not in script.requests[0].headers


def test_urls_in_responses_lead_back_to_the_proxy() -> None:
    """In JSON, in events in any chunks, and in redirects; a file keeps its bytes and length."""
    link = f"{SERVICE}/v1/jobs/1".encode()
    answers = [
        httpx.Response(200, json={"status_url": link.decode()}),
        streamed(b"data: " + link[:12], link[12:] + b"\n\n"),
        httpx.Response(307, headers={"Location": link.decode()}),
        httpx.Response(200, content=link, headers={"Content-Type": "model/gltf-binary"}),
    ]
    with opened(*answers) as (browser, _):
        here = str(browser.base_url).rstrip("/")
        assert browser.get("/1").json() == {"status_url": f"{here}/v1/jobs/1"}
        assert browser.get("/2").text == f"data: {here}/v1/jobs/1\n\n"
        assert browser.get("/3").headers["Location"] == f"{here}/v1/jobs/1"
        file = browser.get("/4")
        assert (file.content, file.headers["Content-Length"]) == (link, str(len(link)))


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Host": "rebound.example.net"}),
        ("POST", {"Origin": "https://elsewhere.example.net"}),
        ("DELETE", {"Origin": "null"}),
    ],
)
def test_page_of_another_site_is_refused(method: str, headers: dict[str, str]) -> None:
    """A rebound host name, and a form of another origin: 403, without a request to the service."""
    with opened(api_key="t2_a_b") as (browser, script):
        assert browser.request(method, "/v1/jobs", headers=headers).status_code == 403
    assert script.requests == []


@pytest.mark.parametrize(
    "path", ["http://elsewhere.example.net/", "//elsewhere.example.net/", "/\\elsewhere.example.net"]
)
def test_no_path_sends_the_credentials_elsewhere(path: str) -> None:
    """Every request goes to the service."""
    proxy = LocalProxy(SERVICE, port=0)
    try:
        assert proxy.service_address(path).host == "3d.example.com"
    finally:
        proxy.server_close()


def test_unreachable_service_is_named() -> None:
    """With 502, which the page shows."""
    with opened(httpx.ConnectError("refused")) as (browser, _):
        answer = browser.get("/")
    assert answer.status_code == 502
    assert "3d.example.com does not respond" in answer.text


@pytest.mark.parametrize(
    "environment",
    [{"TRELLIS2_API_URL": "localhost"}, {"HOME": "broken"}],
    ids=["url", "secrets"],
)
def test_command_that_cannot_start_prints_the_reason(
    environment: dict[str, str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/.trellis2_modal_secrets.json").write_text("{")
    assert app.main(["--port", "0"], environment) == 2
    assert capsys.readouterr().err.startswith("python -m trellis2_modal.client.app: ")


def test_proxy_of_an_invalid_url_does_not_start() -> None:
    """Before it opens a port."""
    with pytest.raises(UrlInvalid):
        LocalProxy("3d.example.com", port=0)
