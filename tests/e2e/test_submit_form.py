"""From a picture to a model that can be turned around, in a real browser through the real service."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import OpenPage, png
from tests.e2e.controllable_engine import Studio, a_plain_picture
from tests.e2e.screenshots import Sight, sight

MUG = Path("docs/samples/mug.png")
PICTURE_INPUT = "input[type=file]:not([capture])"
VIEWER = "model-viewer.min.js"
PHONE = (
    "Mozilla/5.0 (Linux; Android 16; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36"
)
SLOW_MS = 120_000  # a relief on a busy machine, and a viewer without a GPU
WritePicture = Callable[[str, np.ndarray], Path]


def choose_little(page: Page, preset: str = "low_poly") -> None:
    """What makes the smallest asset."""
    page.select_option("select[name=preset]", preset)
    page.get_by_text("All parameters").click()
    page.select_option("select[name=pipeline_type]", label="512")


def make(page: Page, picture: Path) -> None:
    """Give a picture and send it."""
    page.set_input_files(PICTURE_INPUT, picture)
    page.get_by_role("button", name="Make it 3D").click()


def wait_for_result(page: Page) -> None:
    """Until the job has ended well."""
    expect(page.get_by_role("heading", name="Download")).to_be_visible(timeout=SLOW_MS)


def wait_for_model(page: Page) -> None:
    """Until the model is there to be turned."""
    wait_for_result(page)
    expect(page.get_by_role("button", name="Wireframe")).to_be_visible(timeout=SLOW_MS)
    page.wait_for_function("document.querySelector('model-viewer').modelIsVisible")


def without_viewer(page: Page) -> None:
    """Let the viewer be away: what does not need it must work, and sooner."""
    page.route(re.compile(re.escape(VIEWER)), lambda route: route.abort())


def steady_sight(page: Page) -> Sight:
    """The model once two looks at it are the same."""
    place = page.locator("model-viewer")
    before = sight(place)
    for _ in range(20):
        page.wait_for_timeout(150)
        now = sight(place)
        if now.share_unlike(before) == 0:
            return now
        before = now
    raise AssertionError("the model does not come to rest")


@pytest.fixture(scope="module")
def made(service: str) -> str:
    """The id of a job that has succeeded: a block."""
    picture = {"image": ("block.png", png(a_plain_picture(200, 120, 40)))}
    fields = {"preset": "low_poly", "pipeline_type": "512"}
    job = httpx.post(f"{service}/v1/jobs", files=picture, data=fields, headers={"Prefer": "wait=60"}, timeout=90).json()
    assert job["status"] == "succeeded"
    return str(job["id"])


def test_a_picture_becomes_a_visible_textured_model_that_turns(open_page: OpenPage) -> None:
    """Stage by stage; the viewer is fetched only then; dragging turns it, and each view of it looks different."""
    page = open_page()
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    choose_little(page)
    make(page, MUG)
    expect(page.get_by_role("progressbar")).to_be_visible()
    assert not any(VIEWER in url for url in fetched)
    wait_for_model(page)
    assert any(VIEWER in url for url in fetched)
    front = steady_sight(page)
    assert front.share_of_object > 0.1
    assert front.colours > 10
    turn(page)
    side = steady_sight(page)
    assert side.share_of_object > 0.05
    assert side.share_unlike(front) > 0.05
    page.get_by_role("button", name="Wireframe").click()
    assert steady_sight(page).share_unlike(side) > 0.02
    page.get_by_role("button", name="Textures").click()
    texture = sight(page.get_by_role("img", name="Texture: Base colour"))
    assert texture.colours > 5


def turn(page: Page) -> None:
    """Drag the model a good way round."""
    box = page.locator("model-viewer").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 150, y, steps=4)
    page.mouse.up()


def test_light_and_brightness_change_what_is_seen(open_page: OpenPage, made: str) -> None:
    """Each by itself."""
    page = open_page(f"/#/jobs/{made}")
    wait_for_model(page)
    even = steady_sight(page)
    page.get_by_label("Light").select_option("legacy")
    page.wait_for_timeout(300)
    assert steady_sight(page).share_unlike(even) > 0.005
    page.get_by_label("Light").select_option("neutral")
    page.get_by_label("Brightness").fill("2")
    assert steady_sight(page).share_unlike(even) > 0.05


def test_what_was_made_can_be_saved_even_without_the_viewer(open_page: OpenPage, made: str) -> None:
    """Model, poster and state are the files that they claim to be; the snippet names them."""
    page = open_page("/#/key")
    without_viewer(page)
    page.goto(page.url.partition("#")[0] + f"#/jobs/{made}")
    wait_for_result(page)
    expect(page.get_by_role("alert")).to_contain_text("the downloads work without it")
    begins = {"model": b"glTF", "poster": b"RIFF", "state": b""}
    for name, magic in begins.items():
        with page.expect_download() as saving:
            page.locator(f"[data-artifact={name}]").click()
        assert Path(saving.value.path()).read_bytes().startswith(magic)
        assert saving.value.suggested_filename.startswith("job_")
    page.get_by_text("Put it on your page").click()
    expect(page.locator("pre")).to_contain_text("<model-viewer src=")


def test_an_asset_is_exported_again_without_sampling(open_page: OpenPage, service: str, made: str) -> None:
    """Under another preset, as a job of its own."""
    page = open_page("/#/key")
    without_viewer(page)
    page.goto(f"{service}/#/jobs/{made}")
    wait_for_result(page)
    page.select_option("select[name=preset]", "mobile")
    page.get_by_role("button", name="Export").click()
    page.wait_for_url(lambda url: made not in url)
    wait_for_result(page)
    expect(page.get_by_text("5 of 5 checks passed")).to_be_visible()
    job = page.request.get(f"{service}/v1/jobs/{page.url.rpartition('/')[2]}").json()
    assert (job["preset"], set(job["timings"]) & {"sparse_structure", "shape", "texture"}) == ("mobile", set())


def test_a_usdz_comes_along_where_it_is_wanted(open_page: OpenPage, picture: WritePicture) -> None:
    """As a file that is a zip, to the snippet, and to the viewer for what iPhones open."""
    page = open_page()
    choose_little(page)
    page.get_by_label("usdz").check()
    make(page, picture("usdz.png", a_plain_picture(60, 140, 140)))
    wait_for_result(page)
    with page.expect_download() as saving:
        page.locator("[data-artifact=usdz]").click()
    assert saving.value.suggested_filename.endswith(".usdz")
    with zipfile.ZipFile(saving.value.path()) as saved:
        assert saved.testzip() is None
        assert saved.namelist()[0].endswith((".usdc", ".usda"))
    page.get_by_text("Put it on your page").click()
    expect(page.locator("pre")).to_contain_text(".usdz")
    expect(page.locator("model-viewer")).to_have_attribute("ios-src", re.compile("usdz"), timeout=SLOW_MS)


def test_a_phone_offers_to_see_it_in_the_room(open_page: OpenPage, made: str) -> None:
    """By Android's own viewer; a desk has no room to see it in."""
    phone = open_page(f"/#/jobs/{made}", width=412, user_agent=PHONE)
    wait_for_model(phone)
    expect(phone.get_by_role("button", name="See it in your room")).to_be_visible()


def test_every_parameter_is_there_with_its_meaning_and_range(open_page: OpenPage, service: str) -> None:
    """As the OpenAPI document has them."""
    page = open_page()
    page.get_by_text("All parameters").click()
    schemas = page.request.get(f"{service}/openapi.json").json()["components"]["schemas"]
    wanted = schemas["JobFields"]["properties"].keys() - {"preset", "lane", "metadata", "webhook", "dimensions_m"}
    for name in sorted(wanted | {"width", "height", "depth", "fit"}):
        control = page.locator(f"[name={name}]").first
        expect(control).to_be_visible()
    steps = page.locator("[name=ss_sampling_steps]")
    assert (steps.get_attribute("min"), steps.get_attribute("max"), steps.get_attribute("placeholder")) == (
        "1",
        "50",
        "12",
    )
    hint = page.locator(f"#{steps.get_attribute('aria-describedby')}")
    expect(hint).to_have_text("Steps of the sampler: more are finer and slower. 1 to 50.")


def test_parameters_that_are_touched_are_sent_and_no_others(
    open_page: OpenPage, service: str, picture: WritePicture
) -> None:
    """Numbers as numbers, a choice by its value, an object with the sides that are known."""
    page = open_page()
    without_viewer(page)
    choose_little(page)
    page.fill("[name=seed]", "7")
    page.fill("[name=height]", "0.095")
    page.fill("[name=custom_id]", "<img src=x onerror=alert(1)>")
    make(page, picture("plain.png", a_plain_picture(40, 90, 200)))
    wait_for_result(page)
    job = page.request.get(f"{service}/v1/jobs/{page.url.rpartition('/')[2]}").json()
    assert (job["seed"], job["parameters"]["pipeline_type"], job["lane"]) == (7, "512", "interactive")
    assert job["artifacts"]["model"]["dimensions_m"][1] == 0.095
    expect(page.get_by_role("heading", level=1)).to_have_text("<img src=x onerror=alert(1)>")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(open_page: OpenPage, way: str) -> None:
    """And is shown."""
    page = open_page()
    expect(page.get_by_role("button", name="Choose a picture")).to_be_visible()
    page.evaluate(
        """([way, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "given.png", {type: "image/png"}));
            const event = way === "drop"
                ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
                : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
            (way === "drop" ? document.querySelector(".drop") : document.body).dispatchEvent(event);
        }""",
        [way, list(png(a_plain_picture(200, 60, 40)))],
    )
    shown = page.get_by_alt_text("The picture that you gave")
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.naturalWidth") == 64


def test_a_running_job_shows_its_stage_and_preview_and_can_be_canceled(
    open_page: OpenPage, studio: Studio, picture: WritePicture
) -> None:
    """Live, over a connection that was lost once."""
    page = open_page()
    without_viewer(page)
    lost: list[str] = []

    def lose_once(route: Route) -> None:
        lost.append(route.request.url)
        route.abort() if len(lost) == 1 else route.continue_()

    page.route(re.compile(r"/events$"), lose_once)
    with studio.held():
        choose_little(page)
        make(page, picture("held.png", a_plain_picture(90, 160, 60)))
        expect(page.locator("[aria-current=step]")).to_have_text("Shape")
        expect(page.get_by_alt_text("A first look at what is being made")).to_be_visible()
        expect(page.locator("#announcer")).to_contain_text("Stage 2 of 6: Shape")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("You canceled it.")).to_be_visible()
    assert len(lost) >= 2
    page.get_by_role("button", name="Try again").click()
    wait_for_result(page)


def test_a_job_that_fails_says_why_and_what_to_do(open_page: OpenPage, picture: WritePicture) -> None:
    """Nothing stands out of a blank picture."""
    page = open_page()
    choose_little(page)
    make(page, picture("blank.png", np.full((128, 128, 3), 255, np.uint8)))
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("Give a picture of one object that stands out")
    assert notice.get_attribute("data-code") == "no_object_found"
    expect(page.get_by_role("link", name="Give another picture")).to_be_visible()


def test_a_picture_that_is_refused_says_what_is_taken(open_page: OpenPage, tmp_path: Path) -> None:
    """The view stays, with what was chosen."""
    (tmp_path / "story.png").write_text("once upon a time")
    page = open_page()
    expect(page.locator("select[name=preset]")).to_be_visible()
    make(page, tmp_path / "story.png")
    expect(page.get_by_role("alert")).to_contain_text("Give a PNG, JPEG or WebP")
    expect(page.locator("select[name=preset]")).to_be_visible()


def test_without_a_picture_nothing_is_sent(open_page: OpenPage) -> None:
    """It says what is missing."""
    page = open_page()
    page.get_by_role("button", name="Make it 3D").click()
    expect(page.get_by_role("alert")).to_contain_text("Drop it, paste it, or choose a file.")


def test_a_service_that_is_away_is_told_of(open_page: OpenPage, picture: WritePicture) -> None:
    """With what to do; what was chosen is still there."""
    page = open_page()
    expect(page.locator("select[name=preset]")).to_be_visible()
    page.route(re.compile(r"/v1/jobs$"), lambda route: route.abort())
    make(page, picture("away.png", a_plain_picture(1, 2, 3)))
    expect(page.get_by_role("alert")).to_contain_text("Check your connection")


def test_history_lists_what_was_made_and_deletes_it(open_page: OpenPage, made: str, service: str) -> None:
    """With its poster, after a question."""
    page = open_page("/#/history")
    card = page.locator(f"[data-job={made}]")
    card.scroll_into_view_if_needed()
    expect(card.get_by_role("img")).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    card.get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    assert json.loads(page.request.get(f"{service}/v1/jobs/{made}").text())["code"] == "job_not_found"
