"""The page as files: all of them from here, small, kept by browsers until they change, under a strict policy."""

import re
from pathlib import Path

import pytest

from api.routers.web import FOLDER, page_version
from infra.queues.memory import MemoryStore
from tests.support.fakes import HandClock
from tests.support.gateway_harness import House, a_house

OWN_BYTES = 100_000
VENDOR = "vendor/model-viewer/"


@pytest.fixture(scope="module")
def house() -> House:
    """A service."""
    return a_house()


def own_files() -> list[Path]:
    """What of the page is ours."""
    return [path for path in FOLDER.rglob("*") if path.is_file() and "vendor" not in path.parts]


def test_all_of_ours_is_under_100_kb() -> None:
    """Uncompressed, comments and all."""
    assert 0 < sum(path.stat().st_size for path in own_files()) < OWN_BYTES


def test_the_page_loads_nothing_from_elsewhere(house: House) -> None:
    """Every address in it is one of this service; no script or style stands in the page itself."""
    page = house.client.get("/").text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) > 10
    assert [one for one in addresses if not re.match(r"/(?!/)|#", one)] == []
    assert not re.search(r"<style|style=|<script(?! type=\"module\" src=)|\son\w+=", page)


def test_every_file_that_the_page_or_a_module_names_is_there(house: House) -> None:
    """Preloads, styles, imports."""
    named = set(re.findall(r'"(/page/[^"]+)"', house.client.get("/").text))
    for module in FOLDER.glob("*.js"):
        imported = re.findall(r'(?:from|import\() ?"\./([^"]+)"', module.read_text())
        named |= {f"/page/{page_version()}/{one}" for one in imported if one != "wire"}
    assert len(named) > 25
    answers = {path: house.client.get(path) for path in named}
    assert [path for path, answer in answers.items() if answer.status_code != 200] == []
    assert {answer.headers["cache-control"] for answer in answers.values()} == {"public, max-age=31536000, immutable"}


def test_a_file_under_an_older_version_is_not_kept(house: House) -> None:
    """It is what there is now: a page that was open during a deployment goes on."""
    answer = house.client.get("/page/0123456789abcdef/main.js")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("path", ["nope.js", "%2E%2E/app.py", "..%2Fapp.py", "vendor", ""])
def test_only_the_pages_own_files_are_served(house: House, path: str) -> None:
    """Whatever a path says."""
    assert house.client.get(f"/page/x/{path}").status_code == 404


def test_the_policy_lets_in_what_the_viewer_needs_and_no_more(house: House) -> None:
    """No inline script, no eval, no other host; other routes allow nothing at all."""
    policy = house.client.get("/").headers["content-security-policy"]
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
    assert house.client.get("/healthz").headers["content-security-policy"].startswith("default-src 'none'; frame-anc")


def test_the_policy_lets_in_the_store_where_results_lie_elsewhere() -> None:
    """Its origin, and no more of what is in its signed URLs."""

    class Bucket(MemoryStore):
        def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
            return f"https://bucket.example:9000/{key}?signature={expires_s}{filename}"

    policy = a_house(store=Bucket(HandClock())).client.get("/").headers["content-security-policy"]
    assert "img-src data: 'self' blob: https://bucket.example:9000;" in policy
    assert "connect-src 'self' blob: https://bucket.example:9000;" in policy


def test_the_page_does_not_repeat_its_host(house: House) -> None:
    """Nobody writes into it."""
    assert "a&b" not in house.client.get("/", headers={"Host": "a&b"}).text


def test_what_is_not_ours_comes_with_its_licences(house: House) -> None:
    """The viewer's, and those of what is built into it."""
    for name, sentence in (
        ("LICENSE", "Apache License"),
        ("LICENSE-three", "The MIT License"),
        ("LICENSE-lit", "BSD 3-Clause License"),
        ("LICENSE-gainmap-js", "MIT License"),
    ):
        assert sentence in house.client.get(f"/page/x/{VENDOR}{name}").text
