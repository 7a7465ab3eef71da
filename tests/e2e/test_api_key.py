"""The API key in the page: kept for the tab only, sent to the service only."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from api.limits.api_keys import Scope, create_key
from infra.local import Role, Service
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from tests.e2e.conftest import OpenPage

STORED = "[Object.values(sessionStorage), Object.values(localStorage), document.cookie]"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A gateway that requires a key, and the key."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("locked"), port=0)
    _, key = create_key(open_store(settings), caller="shop", name="page", scopes=frozenset(Scope))
    running = Service(settings, Role.GATEWAY)
    running.start()
    yield running.base_url, key
    running.stop()


def test_without_a_key_the_page_says_where_to_enter_one(open_page: OpenPage, locked: tuple[str, str]) -> None:
    """With a link."""
    page = open_page("/#/history", url=locked[0])
    expect(page.get_by_role("alert")).to_contain_text("Enter a valid API key")
    page.get_by_role("link", name="Enter a key").click()
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_key_is_kept_for_this_tab_only(open_page: OpenPage, locked: tuple[str, str]) -> None:
    """In no cookie, no URL, no other tab, and no storage that outlives the tab."""
    url, key = locked
    page = open_page("/#/key", url=url)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_text("The key works")).to_be_visible()
    page.get_by_role("link", name="History").click()
    expect(page.get_by_text("Nothing yet.")).to_be_visible()
    assert page.evaluate(STORED) == [[key], [], ""]
    assert page.get_by_label("API key").count() == 0
    assert [address for address in requested if key in address or not address.startswith(url)] == []
    page.reload()
    expect(page.get_by_text("Nothing yet.")).to_be_visible()
    second_tab = page.context.new_page()
    second_tab.goto(f"{url}/#/history")
    expect(second_tab.get_by_role("alert")).to_contain_text("Enter a valid API key")


def test_a_wrong_key_is_reported_and_can_be_forgotten(open_page: OpenPage, locked: tuple[str, str]) -> None:
    """With advice."""
    page = open_page("/#/key", url=locked[0])
    page.get_by_label("API key").fill("t2_wrong")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("alert")).to_contain_text("unknown, expired or revoked")
    page.get_by_role("button", name="Forget it").click()
    assert page.evaluate(STORED) == [[], [], ""]
