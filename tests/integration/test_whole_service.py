"""An image becomes a textured GLB through the whole service."""

import io
import json
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.support.service_processes import SAMPLES, trellis2, whole_service
from tests.support.waiting import HANG_S
from tests.validators.gltf.khronos import validate
from tests.validators.gltf.packing import with_gltfpack
from tests.validators.usd.openusd import arkit_faults

BRIEFLY = ("--preset", "low_poly", "--pipeline-type", "512", "--seed", "7")


@pytest.mark.parametrize("image", ["mug.png", "robot.jpg"])
def test_image_becomes_a_valid_glb_with_a_poster(image: str, tmp_path: Path) -> None:
    """With alpha, and a product on a plain background; the Khronos validator finds nothing to say against either."""
    glb, poster = tmp_path / "model.glb", tmp_path / "poster.webp"
    with whole_service(tmp_path / "var", "all") as url:
        made = trellis2(url, "generate", str(SAMPLES / image), "-o", str(glb), "--poster", str(poster), *BRIEFLY)
    assert (made.returncode, made.stderr.count("succeeded")) == (0, 1)
    report = validate(glb.read_bytes(), tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0)
    with Image.open(io.BytesIO(poster.read_bytes())) as drawn:
        assert (drawn.format, drawn.size) == ("WEBP", (1024, 1024))


def test_a_stored_state_gives_the_same_bytes_for_the_same_options_and_others_for_others(tmp_path: Path) -> None:
    """An export never samples again, and extraction on the CPU leaves nothing to chance."""
    with whole_service(tmp_path, "all") as url, httpx.Client(base_url=url, follow_redirects=True) as http:
        made = trellis2(url, "generate", str(SAMPLES / "mug.png"), "-o", str(tmp_path / "0.glb"), "--json", *BRIEFLY)
        job = json.loads(made.stdout)
        equal, smaller = (
            http.post(f"/v1/jobs/{job['id']}/exports", json=options).json()
            for options in ({}, {"decimation_target": 1_000, "texture_format": "png"})
        )
        for export in (equal, smaller):
            while export["status"] in ("queued", "running"):
                export.update(http.get(f"/v1/jobs/{export['id']}", params={"wait": 20}, timeout=HANG_S).json())
        first = (tmp_path / "0.glb").read_bytes()
        assert http.get(equal["artifacts"]["model"]["url"]).content == first
        other = http.get(smaller["artifacts"]["model"]["url"]).content
    assert smaller["artifacts"]["model"]["triangles"] <= 1_000 < job["artifacts"]["model"]["triangles"]
    report = validate(other, tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0)


def test_a_catalog_entry_fits_its_bound_has_its_size_and_comes_in_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller, in metres, as GLB, as USDZ and packed; an export makes them again from the stored state, to the byte."""
    with_gltfpack(monkeypatch)
    glb, usdz, packed = (tmp_path / name for name in ("mug.glb", "mug.usdz", "mug.meshopt.glb"))
    bound = ("--preset", "mobile", "--max-bytes", "200000", "--dimensions-m", "height=0.095")
    image = str(SAMPLES / "mug.png")
    with whole_service(tmp_path / "var", "all") as url, httpx.Client(base_url=url, follow_redirects=True) as http:
        options = ("-o", str(glb), "--usdz", str(usdz), "--meshopt", str(packed), "--json", *BRIEFLY[2:], *bound)
        made = trellis2(url, "generate", image, *options)
        job = json.loads(made.stdout)
        again = http.post(f"/v1/jobs/{job['id']}/exports", json={}).json()
        while again["status"] in ("queued", "running"):
            again.update(http.get(f"/v1/jobs/{again['id']}", params={"wait": 20}, timeout=HANG_S).json())
    assert len(glb.read_bytes()) == job["artifacts"]["model"]["bytes"] <= 200_000
    assert job["artifacts"]["model"]["lowered"]
    assert job["artifacts"]["model"]["dimensions_m"][1] == 0.095
    assert {check["name"]: check["passed"] for check in job["checks"]} == dict.fromkeys(
        ("max_bytes", "max_triangles", "max_texture_px", "power_of_two", "image_formats", "usdz_errors"), True
    )
    for file in (glb, packed):
        report = validate(file.read_bytes(), tmp_path)
        assert (report["numErrors"], report["numWarnings"]) == (0, 0)
    assert arkit_faults(usdz) == []
    assert len(packed.read_bytes()) < len(glb.read_bytes())
    assert {name: made["sha256"] for name, made in again["artifacts"].items()} == {
        name: made["sha256"] for name, made in job["artifacts"].items() if name != "state"
    }


def test_what_cannot_fit_fails_with_a_code_and_costs_nothing(tmp_path: Path) -> None:
    """At the first attempt: another would come out alike."""
    image = str(SAMPLES / "robot.jpg")
    with whole_service(tmp_path / "var", "all") as url:
        made = trellis2(url, "generate", image, "-o", str(tmp_path / "x.glb"), *BRIEFLY, "--max-bytes", "50000")
        (job,) = httpx.get(f"{url}/v1/jobs").json()["data"]
    assert made.returncode == 1
    assert (job["status"], job["error"]["code"], job["attempt"]) == ("failed", "asset_too_large", 1)
    assert "max_bytes is 50,000" in made.stderr


def test_a_picture_without_an_object_fails_with_a_code_and_costs_nothing(tmp_path: Path) -> None:
    """Exit code 1, and the sentence says what to do."""
    blank = tmp_path / "blank.png"
    Image.new("RGB", (128, 128), "white").save(blank)
    with whole_service(tmp_path / "var", "all") as url:
        made = trellis2(url, "generate", str(blank), "-o", str(tmp_path / "x.glb"), "--json", *BRIEFLY)
        (job,) = httpx.get(f"{url}/v1/jobs").json()["data"]
    assert made.returncode == 1
    assert (job["status"], job["error"]["code"], job["cost_usd"], job["attempt"]) == ("failed", "no_object_found", 0, 1)
