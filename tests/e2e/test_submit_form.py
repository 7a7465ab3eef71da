"""From a photo to a model that can be turned, in a real browser with the real service."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import HANG_MS, OpenPage, generate_block, png
from tests.e2e.controllable_engine import ControllableEngine, plain_image
from tests.e2e.screenshots import Screenshot, take_screenshot

MUG = Path("docs/samples/mug.png")
IMAGE_INPUT = "input[type=file]:not([capture])"
VIEWER = "model-viewer.min.js"
PHONE = (
    "Mozilla/5.0 (Linux; Android 16; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36"
)
WriteImage = Callable[[str, np.ndarray], Path]


def choose_smallest(page: Page, preset: str = "low_poly") -> None:
    """Choose the options of the smallest asset."""
    page.select_option("select[name=preset]", preset)
    page.get_by_text("All parameters").click()
    page.select_option("select[name=pipeline_type]", label="512")


def submit(page: Page, image: Path) -> None:
    """Choose an image and submit it."""
    page.set_input_files(IMAGE_INPUT, image)
    page.get_by_role("button", name="Make it 3D").click()


def wait_for_result(page: Page) -> None:
    """Wait until the job has succeeded."""
    expect(page.get_by_role("heading", name="Download")).to_be_visible(timeout=HANG_MS)


def wait_for_model(page: Page) -> None:
    """Wait until the model is shown."""
    wait_for_result(page)
    expect(page.get_by_role("button", name="Wireframe")).to_be_visible(timeout=HANG_MS)
    page.wait_for_function("document.querySelector('model-viewer').modelIsVisible")


def block_viewer(page: Page) -> None:
    """Make the viewer fail to load: the rest of the page works without it, and tests are faster."""
    page.route(re.compile(re.escape(VIEWER)), lambda route: route.abort())


def steady_screenshot(page: Page, unlike: Screenshot | None = None, by: float = 0.0) -> Screenshot:
    """Take screenshots of the model until two are equal, and differ from `unlike` by a share of their pixels."""
    viewer = page.locator("model-viewer")
    previous = take_screenshot(viewer)
    while True:
        page.wait_for_timeout(150)
        current = take_screenshot(viewer)
        if current.difference(previous) == 0 and (unlike is None or current.difference(unlike) > by):
            return current
        previous = current


@pytest.fixture(scope="module")
def job_id(service: str) -> str:
    """The id of a succeeded job: a block."""
    return generate_block(service, 200, 120, 40)


def test_a_photo_becomes_a_visible_textured_model_that_turns(open_page: OpenPage) -> None:
    """The viewer is loaded only after the job; dragging turns the model, and each view looks different."""
    page = open_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    choose_smallest(page)
    submit(page, MUG)
    expect(page.get_by_role("progressbar")).to_be_visible()
    assert not any(VIEWER in url for url in requested)
    wait_for_model(page)
    assert any(VIEWER in url for url in requested)
    front = steady_screenshot(page)
    assert front.share_of_object > 0.1
    assert front.colours > 10
    turn(page)
    side = steady_screenshot(page, unlike=front, by=0.05)
    assert side.share_of_object > 0.05
    page.get_by_role("button", name="Wireframe").click()
    steady_screenshot(page, unlike=side, by=0.02)
    page.get_by_role("button", name="Textures").click()
    texture = take_screenshot(page.get_by_role("img", name="Texture: Base colour"))
    assert texture.colours > 5


def turn(page: Page) -> None:
    """Drag the model to another side."""
    box = page.locator("model-viewer").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 150, y, steps=4)
    page.mouse.up()


def test_light_and_brightness_change_the_view(open_page: OpenPage, job_id: str) -> None:
    """Each on its own."""
    page = open_page(f"/#/jobs/{job_id}")
    wait_for_model(page)
    even = steady_screenshot(page)
    page.get_by_label("Light").select_option("legacy")
    steady_screenshot(page, unlike=even, by=0.005)
    page.get_by_label("Light").select_option("neutral")
    page.get_by_label("Brightness").fill("2")
    steady_screenshot(page, unlike=even, by=0.05)


def test_results_can_be_saved_without_the_viewer(open_page: OpenPage, job_id: str) -> None:
    """Model, poster and state have the right formats; the snippet names them."""
    page = open_page("/#/key")
    block_viewer(page)
    page.goto(page.url.partition("#")[0] + f"#/jobs/{job_id}")
    wait_for_result(page)
    expect(page.get_by_role("alert")).to_contain_text("the downloads work without it")
    signatures = {"model": b"glTF", "poster": b"RIFF", "state": b""}
    for name, magic in signatures.items():
        with page.expect_download() as saving:
            page.locator(f"[data-artifact={name}]").click()
        assert Path(saving.value.path()).read_bytes().startswith(magic)
        assert saving.value.suggested_filename.startswith("job_")
    page.get_by_text("Embed it in your page").click()
    expect(page.locator("pre")).to_contain_text("<model-viewer src=")


def test_a_model_is_exported_again_without_sampling(open_page: OpenPage, service: str, job_id: str) -> None:
    """With another preset, as a new job."""
    page = open_page("/#/key")
    block_viewer(page)
    page.goto(f"{service}/#/jobs/{job_id}")
    wait_for_result(page)
    page.select_option("select[name=preset]", "mobile")
    page.get_by_role("button", name="Export").click()
    page.wait_for_url(lambda url: job_id not in url)
    wait_for_result(page)
    expect(page.get_by_text("5 of 5 checks passed")).to_be_visible()
    job = page.request.get(f"{service}/v1/jobs/{page.url.rpartition('/')[2]}").json()
    assert (job["preset"], set(job["timings"]) & {"sparse_structure", "shape", "texture"}) == ("mobile", set())


def test_a_usdz_is_exported_on_request(open_page: OpenPage, image_file: WriteImage) -> None:
    """As a valid file, in the snippet, and in the viewer for iPhones."""
    page = open_page()
    choose_smallest(page)
    page.get_by_label("usdz").check()
    submit(page, image_file("usdz.png", plain_image(60, 140, 140)))
    wait_for_result(page)
    with page.expect_download() as saving:
        page.locator("[data-artifact=usdz]").click()
    assert saving.value.suggested_filename.endswith(".usdz")
    with zipfile.ZipFile(saving.value.path()) as saved:
        assert saved.testzip() is None
        assert saved.namelist()[0].endswith((".usdc", ".usda"))
    page.get_by_text("Embed it in your page").click()
    expect(page.locator("pre")).to_contain_text(".usdz")
    expect(page.locator("model-viewer")).to_have_attribute("ios-src", re.compile("usdz"), timeout=HANG_MS)


def test_a_phone_offers_to_see_it_in_the_room(open_page: OpenPage, job_id: str) -> None:
    """With Android's own viewer; a desktop has no such button."""
    phone = open_page(f"/#/jobs/{job_id}", width=412, user_agent=PHONE)
    wait_for_model(phone)
    expect(phone.get_by_role("button", name="See it in your room")).to_be_visible()


def test_every_parameter_has_its_meaning_and_range(open_page: OpenPage, service: str) -> None:
    """Those of the OpenAPI document."""
    page = open_page()
    page.get_by_text("All parameters").click()
    schemas = page.request.get(f"{service}/openapi.json").json()["components"]["schemas"]
    names = schemas["JobFields"]["properties"].keys() - {"preset", "lane", "metadata", "webhook", "dimensions_m"}
    for name in sorted(names | {"width", "height", "depth", "fit"}):
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


def test_only_changed_parameters_are_sent(open_page: OpenPage, service: str, image_file: WriteImage) -> None:
    """Numbers as numbers, choices by value, an object with the given lengths."""
    page = open_page()
    block_viewer(page)
    choose_smallest(page)
    page.fill("[name=seed]", "7")
    page.fill("[name=height]", "0.095")
    page.fill("[name=custom_id]", "<img src=x onerror=alert(1)>")
    submit(page, image_file("plain.png", plain_image(40, 90, 200)))
    wait_for_result(page)
    job = page.request.get(f"{service}/v1/jobs/{page.url.rpartition('/')[2]}").json()
    assert (job["seed"], job["parameters"]["pipeline_type"], job["lane"]) == (7, "512", "interactive")
    assert job["artifacts"]["model"]["dimensions_m"][1] == 0.095
    expect(page.get_by_role("heading", level=1)).to_have_text("<img src=x onerror=alert(1)>")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photo_can_be_dropped_or_pasted(open_page: OpenPage, way: str) -> None:
    """And is shown."""
    page = open_page()
    expect(page.get_by_role("button", name="Choose a photo")).to_be_visible()
    page.evaluate(
        """([way, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "photo.png", {type: "image/png"}));
            const event = way === "drop"
                ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
                : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
            (way === "drop" ? document.querySelector(".drop") : document.body).dispatchEvent(event);
        }""",
        [way, list(png(plain_image(200, 60, 40)))],
    )
    shown = page.get_by_alt_text("Your photo")
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.naturalWidth") == 64


def test_a_running_job_shows_its_stage_and_preview_and_can_be_canceled(
    open_page: OpenPage, engine: ControllableEngine, image_file: WriteImage
) -> None:
    """Live, over a connection that breaks off once."""
    page = open_page()
    block_viewer(page)
    lost: list[str] = []

    def lose_once(route: Route) -> None:
        lost.append(route.request.url)
        route.abort() if len(lost) == 1 else route.continue_()

    page.route(re.compile(r"/events$"), lose_once)
    with engine.held():
        choose_smallest(page)
        submit(page, image_file("held.png", plain_image(90, 160, 60)))
        expect(page.locator("[aria-current=step]")).to_have_text("Shape")
        expect(page.get_by_alt_text("Preview of the model")).to_be_visible()
        expect(page.locator("#announcer")).to_contain_text("Stage 2 of 6: Shape")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("You canceled this job.")).to_be_visible()
    assert len(lost) >= 2
    page.get_by_role("button", name="Try again").click()
    wait_for_result(page)


def test_a_failed_job_shows_reason_and_advice(open_page: OpenPage, image_file: WriteImage) -> None:
    """A blank image has no object."""
    page = open_page()
    choose_smallest(page)
    submit(page, image_file("blank.png", np.full((128, 128, 3), 255, np.uint8)))
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("Use a photo of one object")
    assert notice.get_attribute("data-code") == "no_object_found"
    expect(page.get_by_role("link", name="Use another photo")).to_be_visible()


def test_a_refused_image_shows_the_accepted_formats(open_page: OpenPage, tmp_path: Path) -> None:
    """The view keeps the chosen options."""
    (tmp_path / "story.png").write_text("once upon a time")
    page = open_page()
    expect(page.locator("select[name=preset]")).to_be_visible()
    submit(page, tmp_path / "story.png")
    expect(page.get_by_role("alert")).to_contain_text("Use a PNG, JPEG or WebP")
    expect(page.locator("select[name=preset]")).to_be_visible()


def test_without_a_photo_nothing_is_sent(open_page: OpenPage) -> None:
    """The message asks for a photo."""
    page = open_page()
    page.get_by_role("button", name="Make it 3D").click()
    expect(page.get_by_role("alert")).to_contain_text("Drop it, paste it, or choose a file.")


def test_an_unreachable_service_is_reported(open_page: OpenPage, image_file: WriteImage) -> None:
    """With advice; the chosen options are kept."""
    page = open_page()
    expect(page.locator("select[name=preset]")).to_be_visible()
    page.route(re.compile(r"/v1/jobs$"), lambda route: route.abort())
    submit(page, image_file("away.png", plain_image(1, 2, 3)))
    expect(page.get_by_role("alert")).to_contain_text("Check your connection")


def test_history_lists_jobs_and_deletes_them(open_page: OpenPage, job_id: str, service: str) -> None:
    """With posters; deleting asks for confirmation."""
    page = open_page("/#/history")
    card = page.locator(f"[data-job={job_id}]")
    card.scroll_into_view_if_needed()
    expect(card.get_by_role("img")).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    card.get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    assert json.loads(page.request.get(f"{service}/v1/jobs/{job_id}").text())["code"] == "job_not_found"
