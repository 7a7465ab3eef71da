"""Accessibility: keyboard, screen reader, light and dark, narrow phone."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import HANG_MS, OpenPage, generate_block, png
from tests.e2e.controllable_engine import plain_image
from tests.support.waiting import HANG_S

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
# Level A and AA of WCAG 2.2, and axe's best practices.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
VIEWS = {
    "make": "Options",
    "history": "Your models",
    "batches": "New batch",
    "webhooks": "Deliveries",
    "key": "API key",
    "jobs": "Download",
    "batch": "Run this plan?",
}
WIDTHS = (360, 1280)


@pytest.fixture(scope="module")
def job_id(service: str) -> str:
    """The id of a succeeded job."""
    return generate_block(service, 90, 200, 120)


@pytest.fixture(scope="module")
def batch(service: str) -> str:
    """The id of a batch that waits for confirmation; one of its rows is invalid."""
    catalog = "sku,image\nA,https://shop.example/a.jpg\nB,no image\n"
    return str(httpx.post(f"{service}/v1/batches", files={"manifest": ("a.csv", catalog)}, timeout=HANG_S).json()["id"])


def open_all(page: Page) -> None:
    """Open all `details`."""
    page.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")


def violations(page: Page) -> list[str]:
    """Run axe-core; list each broken rule with its elements."""
    page.evaluate(AXE.read_text())
    report: dict[str, Any] = page.evaluate(
        "(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})", RULES
    )
    return [f"{rule['id']}: {[node['html'] for node in rule['nodes']]}" for rule in report["violations"]]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_and_no_view_is_too_wide(
    open_page: OpenPage, job_id: str, batch: str, view: str, dark: bool
) -> None:
    """On a phone of 360 pixels and on a desktop, with all details open."""
    page = open_page("/#/key", dark=dark, width=WIDTHS[0])
    page.route("**/model-viewer.min.js", lambda route: route.abort())
    address = {"make": "", "jobs": f"jobs/{job_id}", "batch": f"batch/{batch}"}.get(view, view)
    page.evaluate(f"location.hash = '#/{address}'")
    expect(page.get_by_text(VIEWS[view]).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    open_all(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 700})
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_finds_nothing_in_the_viewer(open_page: OpenPage, job_id: str) -> None:
    """With its tools and its textures."""
    page = open_page(f"/#/jobs/{job_id}", width=WIDTHS[0])
    page.get_by_role("button", name="Textures").click(timeout=HANG_MS)
    expect(page.get_by_role("img", name="Texture: Base colour")).to_be_visible()
    assert violations(page) == []


def test_an_image_is_submitted_by_keyboard_only(open_page: OpenPage, tmp_path: Path) -> None:
    """Tab leads from the skip link past the navigation to the photo, the preset and the button, in this order."""
    (tmp_path / "key.png").write_bytes(png(plain_image(10, 20, 90)))
    page = open_page("/")
    page.route("**/model-viewer.min.js", lambda route: route.abort())
    # Registered early: the browser needs a moment before it sends the event instead of opening a dialog.
    page.on("filechooser", lambda chooser: chooser.set_files(tmp_path / "key.png"))
    expect(page.locator("select[name=preset]")).to_be_visible()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 16)"))
        if reached[-1] == "Choose a photo":
            page.keyboard.press("Enter")
            expect(page.get_by_alt_text("Your photo")).to_be_visible()
        if reached[-1] == "Make it 3D":
            page.keyboard.press("Enter")
            break
    assert reached[0] == "Skip to the cont"
    expect(page.get_by_role("heading", name="Model")).to_be_focused()
    expect(page.get_by_role("heading", name="Download")).to_be_visible(timeout=HANG_MS)


def test_the_heading_of_a_view_has_the_focus_and_the_link_to_it_is_marked(open_page: OpenPage) -> None:
    """As after a page load."""
    page = open_page("/")
    page.get_by_role("link", name="Batches").click()
    expect(page.get_by_role("heading", name="Batches")).to_be_focused()
    expect(page.get_by_role("link", name="Batches")).to_have_attribute("aria-current", "page")
    expect(page).to_have_title("Batches · Photos to 3D")
    page.go_back()
    expect(page).to_have_title("Make · Photos to 3D")


def test_the_heading_has_the_focus_before_the_first_view_was_loaded(open_page: OpenPage) -> None:
    """If the user is faster than the network."""
    page = open_page("/#/key")
    expect(page.get_by_role("heading", name="Your key")).to_be_visible()
    held: list[Route] = []
    page.route("**/submit-form.js", lambda route: held.append(route))  # noqa: PLW0108 - Playwright sets an attribute on its handler
    page.goto(page.url.partition("#")[0], wait_until="commit")
    expect(page.get_by_role("link", name="Make", exact=True)).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="Batches").click()
    expect(page.get_by_role("heading", name="Batches")).to_be_focused()
    for route in held:
        route.abort()


def test_the_page_shows_its_heading_before_any_script(open_page: OpenPage) -> None:
    """The heading is in the HTML; the viewer is not requested."""
    page = open_page("/#/key")
    expect(page.get_by_role("heading", name="Your key")).to_be_visible()  # or the next load would cut this one off
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.route("**/*.js", lambda route: route.abort())
    page.goto(page.url.partition("#")[0])
    expect(page.get_by_role("heading", name="Turn a photo into a 3D model")).to_be_visible()
    assert not any("model-viewer" in url for url in requested)
