"""The page for everybody: by keyboard, with a screen reader, in light and dark, on a narrow phone."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import OpenPage, png
from tests.e2e.controllable_engine import a_plain_picture

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
# Level A and AA of WCAG 2.2, and axe's best practices.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
VIEWS = {
    "make": "What you want",
    "history": "What you have made",
    "batches": "New batch",
    "webhooks": "What was sent",
    "key": "API key",
    "jobs": "Download",
    "batch": "This is what was found",
}
WIDTHS = (360, 1280)


@pytest.fixture(scope="module")
def made(service: str) -> str:
    """The id of a job that has succeeded."""
    picture = {"image": ("block.png", png(a_plain_picture(90, 200, 120)))}
    fields = {"preset": "low_poly", "pipeline_type": "512"}
    job = httpx.post(f"{service}/v1/jobs", files=picture, data=fields, headers={"Prefer": "wait=60"}, timeout=90).json()
    return str(job["id"])


@pytest.fixture(scope="module")
def batch(service: str) -> str:
    """The id of a batch that waits for a yes; one of its rows is wrong."""
    catalog = "sku,image\nA,https://shop.example/a.jpg\nB,no picture\n"
    return str(httpx.post(f"{service}/v1/batches", files={"manifest": ("a.csv", catalog)}, timeout=30).json()["id"])


def open_all(page: Page) -> None:
    """Unfold everything that is folded away."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def faults(page: Page) -> list[str]:
    """What axe-core finds: each broken rule with the elements that break it."""
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate(
        "(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})", RULES
    )
    return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found["violations"]]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_and_nothing_sticks_out(
    open_page: OpenPage, made: str, batch: str, view: str, dark: bool
) -> None:
    """On a phone of 360 pixels and on a desk, with everything unfolded."""
    page = open_page("/#/key", dark=dark, width=WIDTHS[0])
    page.route("**/model-viewer.min.js", lambda route: route.abort())
    address = {"make": "", "jobs": f"jobs/{made}", "batch": f"batch/{batch}"}.get(view, view)
    page.evaluate(f"location.hash = '#/{address}'")
    expect(page.get_by_text(VIEWS[view]).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    open_all(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 700})
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_finds_nothing_in_the_viewer(open_page: OpenPage, made: str) -> None:
    """With its tools and its textures."""
    page = open_page(f"/#/jobs/{made}", width=WIDTHS[0])
    page.get_by_role("button", name="Textures").click(timeout=90_000)
    expect(page.get_by_role("img", name="Texture: Base colour")).to_be_visible()
    assert faults(page) == []


def test_a_picture_is_sent_by_keyboard_alone(open_page: OpenPage, tmp_path: Path) -> None:
    """Tab leads from the link past the navigation to the picture, the preset and the button, in this order."""
    (tmp_path / "key.png").write_bytes(png(a_plain_picture(10, 20, 90)))
    page = open_page("/")
    page.route("**/model-viewer.min.js", lambda route: route.abort())
    # Listened for from the start: the browser takes a moment until it asks us instead of a person.
    page.on("filechooser", lambda choosing: choosing.set_files(tmp_path / "key.png"))
    expect(page.locator("select[name=preset]")).to_be_visible()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 16)"))
        if reached[-1] == "Choose a picture":
            page.keyboard.press("Enter")
            expect(page.get_by_alt_text("The picture that you gave")).to_be_visible()
        if reached[-1] == "Make it 3D":
            page.keyboard.press("Enter")
            break
    assert reached[0] == "Skip to the cont"
    expect(page.get_by_role("heading", name="Model")).to_be_focused()
    expect(page.get_by_role("heading", name="Download")).to_be_visible(timeout=90_000)


def test_the_heading_of_a_view_has_the_focus_and_the_link_to_it_is_marked(open_page: OpenPage) -> None:
    """As on a page of its own."""
    page = open_page("/")
    page.get_by_role("link", name="Batches").click()
    expect(page.get_by_role("heading", name="Batches")).to_be_focused()
    expect(page.get_by_role("link", name="Batches")).to_have_attribute("aria-current", "page")
    expect(page).to_have_title("Batches · Pictures to 3D")
    page.go_back()
    expect(page).to_have_title("Make · Pictures to 3D")


def test_the_heading_has_the_focus_though_the_first_view_had_not_come(open_page: OpenPage) -> None:
    """Who is quicker than the network goes straight to where they want."""
    page = open_page("/#/key")
    expect(page.get_by_role("heading", name="Your key")).to_be_visible()
    held: list[Route] = []
    page.route("**/make.js", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    page.goto(page.url.partition("#")[0], wait_until="commit")
    expect(page.get_by_role("link", name="Make", exact=True)).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="Batches").click()
    expect(page.get_by_role("heading", name="Batches")).to_be_focused()
    for route in held:
        route.abort()


def test_the_page_shows_something_before_any_script_has_come(open_page: OpenPage) -> None:
    """The heading stands in the HTML; the viewer is not asked for."""
    page = open_page("/#/key")
    expect(page.get_by_role("heading", name="Your key")).to_be_visible()  # or the next load would cut this one off
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("**/*.js", lambda route: route.abort())
    page.goto(page.url.partition("#")[0])
    expect(page.get_by_role("heading", name="Turn a picture into a 3D model")).to_be_visible()
    assert not any("model-viewer" in url for url in asked)
