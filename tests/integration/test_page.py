"""The page's files: small, from this service only, cached until they change, under a strict policy."""

import re
from pathlib import Path

import pytest

from api.routers.web import FOLDER, page_version
from bench.support.memory_store import MemoryStore
from tests.support.fakes import ManualClock
from tests.support.gateway_harness import GatewayHarness, build_gateway

OWN_BYTES = 100_000
VENDOR = "vendor/model-viewer/"


@pytest.fixture(scope="module")
def gateway() -> GatewayHarness:
    """A service."""
    return build_gateway()


def own_files() -> list[Path]:
    """List the page's files, without the vendored ones."""
    return [path for path in FOLDER.rglob("*") if path.is_file() and "vendor" not in path.parts]


def test_the_page_is_under_100_kb() -> None:
    """Uncompressed, with comments."""
    assert 0 < sum(path.stat().st_size for path in own_files()) < OWN_BYTES


def test_the_page_loads_nothing_from_elsewhere(gateway: GatewayHarness) -> None:
    """Every URL is one of this service; there are no inline scripts or styles."""
    page = gateway.client.get("/").text
    urls = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(urls) > 10
    assert [url for url in urls if not re.match(r"/(?!/)|#", url)] == []
    assert not re.search(r"<style|style=|<script(?! type=\"module\" src=)|\son\w+=", page)


def test_every_imported_file_is_served(gateway: GatewayHarness) -> None:
    """Preloads, styles and imports."""
    named = set(re.findall(r'"(/page/[^"]+)"', gateway.client.get("/").text))
    for module in FOLDER.glob("*.js"):
        imported = re.findall(r'(?:from|import\() ?"\./([^"]+)"', module.read_text())
        named |= {f"/page/{page_version()}/{name}" for name in imported if name != "schema"}
    assert len(named) > 25
    answers = {path: gateway.client.get(path) for path in named}
    assert [path for path, answer in answers.items() if answer.status_code != 200] == []
    assert {answer.headers["cache-control"] for answer in answers.values()} == {"public, max-age=31536000, immutable"}


def test_a_file_of_an_older_version_is_not_cached(gateway: GatewayHarness) -> None:
    """It is the present file, so that a page opened before a deployment continues to work."""
    answer = gateway.client.get("/page/0123456789abcdef/main.js")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("path", ["nope.js", "%2E%2E/app.py", "..%2Fapp.py", "vendor", ""])
def test_only_the_pages_own_files_are_served(gateway: GatewayHarness, path: str) -> None:
    """Other paths are 404."""
    assert gateway.client.get(f"/page/x/{path}").status_code == 404


def test_the_policy_allows_what_the_viewer_needs(gateway: GatewayHarness) -> None:
    """No inline script, no eval, no other host; other routes allow nothing."""
    policy = gateway.client.get("/").headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert re.fullmatch(r"'self' 'sha256-[A-Za-z0-9+/]{43}='", rules.pop("style-src"))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self' 'wasm-unsafe-eval'",
        "img-src": "data: 'self' blob:",
        "connect-src": "'self' blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert gateway.client.get("/healthz").headers["content-security-policy"].startswith("default-src 'none'; frame-anc")


def test_the_policy_allows_a_store_on_another_host() -> None:
    """Its origin only, not its signed URLs."""

    class Bucket(MemoryStore):
        def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
            return f"https://bucket.example:9000/{key}?signature={expires_s}{filename}"

    policy = build_gateway(store=Bucket(ManualClock())).client.get("/").headers["content-security-policy"]
    assert "img-src data: 'self' blob: https://bucket.example:9000;" in policy
    assert "connect-src 'self' blob: https://bucket.example:9000;" in policy


def test_the_page_does_not_repeat_its_host(gateway: GatewayHarness) -> None:
    """A Host header is not inserted into the HTML."""
    assert "a&b" not in gateway.client.get("/", headers={"Host": "a&b"}).text


def test_vendored_files_have_their_licences(gateway: GatewayHarness) -> None:
    """The viewer's, and those of the libraries in it."""
    for name, sentence in (
        ("LICENSE", "Apache License"),
        ("LICENSE-three", "The MIT License"),
        ("LICENSE-lit", "BSD 3-Clause License"),
        ("LICENSE-gainmap-js", "MIT License"),
    ):
        assert sentence in gateway.client.get(f"/page/x/{VENDOR}{name}").text
