"""A catalog in the page: checked, confirmed, reviewed, and the accepted models saved."""

import csv
import io
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import HANG_MS, OpenPage, png
from tests.e2e.controllable_engine import Colour, ControllableEngine, plain_image

CATALOG = "sku,image,preset\nRED-1,red.png,low_poly\nBLUE-2,blue.png,low_poly\nGONE-3,gone.png,low_poly\n"
COLOURS = {"red.png": (200, 40, 40), "blue.png": (40, 60, 200)}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A catalog of three rows, and a zip that lacks one image."""
    (tmp_path / "catalog.csv").write_text(CATALOG)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, colour in COLOURS.items():
            archive.writestr(name, png(plain_image(*colour)))
    return tmp_path / "catalog.csv", tmp_path / "images.zip"


def row(page: Page, sku: str) -> Locator:
    """Find a row's card."""
    return page.locator(f"[data-sku={sku}]")


def test_a_catalog_is_checked_confirmed_run_and_reviewed(open_page: OpenPage, files: tuple[Path, Path]) -> None:
    """Invalid rows are listed before confirmation; valid rows run, one is generated again, the accepted are saved."""
    catalog, images = files
    page = open_page("/#/batches")
    page.set_input_files("[name=manifest]", catalog)
    page.set_input_files("[name=images]", images)
    page.get_by_text("Parameters of all rows").click()
    page.select_option("[name=pipeline_type]", label="512")
    page.get_by_role("button", name="Check it").click()

    expect(page.get_by_text("Run this plan?")).to_be_visible(timeout=HANG_MS)
    expect(page.get_by_text("1: see errors.csv")).to_be_visible()
    expect(row(page, "GONE-3")).to_contain_text("Line 4")
    page.get_by_role("button", name="Yes, run it").click()

    expect(page.locator("main .badge").first).to_have_text("Completed", timeout=HANG_MS)
    expect(page.locator(".counts")).to_contain_text("2 succeeded")
    row(page, "RED-1").scroll_into_view_if_needed()
    expect(row(page, "RED-1").get_by_role("img")).to_be_visible()

    page.get_by_role("button", name="Accept RED-1").click()
    again = page.get_by_role("button", name="Generate BLUE-2 again with another seed")
    first = row(page, "BLUE-2").get_by_role("link").get_attribute("href")
    again.click()
    expect(row(page, "BLUE-2")).to_contain_text("Succeeded new variant", timeout=HANG_MS)
    second = row(page, "BLUE-2").get_by_role("link").get_attribute("href")
    assert second != first
    page.get_by_role("button", name="Accept BLUE-2").click()
    expect(page.get_by_text("2 accepted")).to_be_visible()

    with page.expect_download() as saving:
        page.get_by_role("button", name="Save accepted").click()
    with zipfile.ZipFile(saving.value.path()) as saved:
        assert saved.testzip() is None
        assert sorted(saved.namelist()) == ["BLUE-2.glb", "BLUE-2.webp", "RED-1.glb", "RED-1.webp", "accepted.csv"]
        assert saved.read("RED-1.glb").startswith(b"glTF")
        table = {line["custom_id"]: line for line in csv.DictReader(io.StringIO(saved.read("accepted.csv").decode()))}
    assert (second or "").endswith(table["BLUE-2"]["job_id"])

    page.reload()
    expect(page.get_by_text("2 accepted")).to_be_visible()
    with page.expect_download() as saving:
        page.get_by_role("button", name="errors.csv").click()
    assert "GONE-3" in Path(saving.value.path()).read_text()


def test_an_unreadable_catalog_is_reported(open_page: OpenPage, tmp_path: Path) -> None:
    """With advice."""
    (tmp_path / "catalog.csv").write_text("this,is,not\na,catalog,at all\n")
    page = open_page("/#/batches")
    page.set_input_files("[name=manifest]", tmp_path / "catalog.csv")
    page.get_by_role("button", name="Check it").click()
    expect(page.get_by_text("Correct the file, then start a new batch.")).to_be_visible(timeout=HANG_MS)


def test_a_batch_without_files_is_not_sent(open_page: OpenPage) -> None:
    """It says what is missing."""
    page = open_page("/#/batches")
    page.get_by_role("button", name="Check it").click()
    expect(page.get_by_role("alert")).to_contain_text("Give a catalog, or a zip of photos, or both")


def start_batch(page: Page, folder: Path, colours: dict[str, Colour]) -> None:
    """Submit a catalog with an image for each row, and confirm it."""
    rows = [f"{sku},{sku}.png,low_poly\n" for sku in colours]
    (folder / "catalog.csv").write_text("".join(["sku,image,preset\n", *rows]))
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for sku, colour in colours.items():
            archive.writestr(f"{sku}.png", png(plain_image(*colour)))
    page.set_input_files("[name=manifest]", folder / "catalog.csv")
    page.set_input_files("[name=images]", folder / "images.zip")
    page.get_by_role("button", name="Check it").click()
    page.get_by_role("button", name="Yes, run it").click(timeout=HANG_MS)


def status(page: Page) -> Locator:
    """Find the batch's status."""
    return page.locator("main .badge").first


def counts(page: Page) -> Locator:
    """Find the numbers of rows by status."""
    return page.locator(".counts li")


def test_retry_runs_failed_rows_only(open_page: OpenPage, engine: ControllableEngine, tmp_path: Path) -> None:
    """The button disappears when there is no row left to retry."""
    page = open_page("/#/batches")
    dim = (20, 20, 60)
    with engine.fail_for(dim):
        start_batch(page, tmp_path, {"PLAIN-1": (210, 160, 30), "DIM-2": dim})
        expect(status(page)).to_have_text("Completed", timeout=HANG_MS)
        expect(counts(page)).to_have_text(["1 succeeded", "1 failed"])
        expect(row(page, "DIM-2")).to_contain_text("nothing stands out")
    first = row(page, "PLAIN-1").get_by_role("link").get_attribute("href")
    retry = page.get_by_role("button", name="Retry what failed")
    retry.click()
    expect(counts(page)).to_have_text(["2 succeeded"], timeout=HANG_MS)
    expect(status(page)).to_have_text("Completed", timeout=HANG_MS)
    expect(row(page, "DIM-2")).to_contain_text("Succeeded")
    expect(retry).to_have_count(0)
    assert row(page, "PLAIN-1").get_by_role("link").get_attribute("href") == first


def test_a_paused_batch_starts_no_row_until_it_is_resumed(
    open_page: OpenPage, engine: ControllableEngine, tmp_path: Path
) -> None:
    """The running row continues to its end."""
    page = open_page("/#/batches")
    with engine.held():
        start_batch(page, tmp_path, {"ONE-1": (30, 120, 90), "TWO-2": (120, 30, 90)})
        expect(counts(page)).to_have_text(["1 queued", "1 running"], timeout=HANG_MS)
        page.get_by_role("button", name="Pause").click()
        expect(status(page)).to_have_text("Paused")
    expect(counts(page)).to_have_text(["1 queued", "1 succeeded"], timeout=HANG_MS)
    expect(status(page)).to_have_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(counts(page)).to_have_text(["2 succeeded"], timeout=HANG_MS)
    expect(status(page)).to_have_text("Completed", timeout=HANG_MS)


def test_a_canceled_batch_stops_and_can_be_retried(
    open_page: OpenPage, engine: ControllableEngine, tmp_path: Path
) -> None:
    """Every row that had not ended is canceled."""
    page = open_page("/#/batches")
    with engine.held():
        start_batch(page, tmp_path, {"RUN-1": (10, 150, 150), "WAIT-2": (150, 10, 150)})
        expect(counts(page)).to_have_text(["1 queued", "1 running"], timeout=HANG_MS)
        page.get_by_role("button", name="Cancel").click()
        expect(status(page)).to_have_text("Canceled", timeout=HANG_MS)
        expect(counts(page)).to_have_text(["2 canceled"])
    page.get_by_role("button", name="Run the rest").click()
    expect(counts(page)).to_have_text(["2 succeeded"], timeout=HANG_MS)
    expect(status(page)).to_have_text("Completed", timeout=HANG_MS)
