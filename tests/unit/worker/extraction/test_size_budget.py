"""Fitting a GLB into max_bytes: what is lowered, in which order, at what cost."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.geometry.glb_reader import read_glb
from shared.domain.job import Degradation
from shared.domain.parameters import UNBOUND, ExportParameters, Target
from shared.errors import AssetTooLarge
from tests.unit.worker.extraction.conftest import LABELS, TARGET, with_alpha
from tests.validators.gltf.khronos import validate
from worker.engine import Surface
from worker.extraction import Asset
from worker.extraction.size_budget import TextureSetting, extract_to_fit, texture_settings
from worker.extraction.texture.encoding import halve

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made

Fit = Callable[..., Asset]


class Runs:
    """A progress that counts the reported extractions."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, fraction: float) -> None:
        self.count += fraction == 0.0


def extract_fitted(surface: Surface, target: Target = UNBOUND, runs: Runs | None = None, **options: object) -> Asset:
    """The surface within its limits."""
    parameters = ExportParameters.model_validate({"decimation_target": TARGET, "texture_size": 512, **options})
    return extract_to_fit(surface, parameters, target, provenance=LABELS, progress=runs or Runs())


def degradations(asset: Asset) -> dict[str, tuple[object, object]]:
    """The degradations by name: requested and actual value."""
    return {one.name: (one.requested, one.actual) for one in asset.degradations}


def test_an_asset_that_fits_does_not_change(surfaces: dict[str, Surface], made: "Made") -> None:
    """Its bytes are equal."""
    whole = made("knot")
    asset = extract_fitted(surfaces["knot"], max_bytes=len(whole.glb))
    assert (asset.glb, asset.degradations) == (whole.glb, ())


def test_texture_settings_lower_format_then_quality_then_size() -> None:
    """WebP is never introduced, and each size begins at high quality."""
    assert list(texture_settings("png", 1024, 512)) == [
        TextureSetting("png", "high", 1024),
        TextureSetting("jpeg", "high", 1024),
        TextureSetting("jpeg", "medium", 1024),
        TextureSetting("jpeg", "low", 1024),
        TextureSetting("jpeg", "high", 512),
        TextureSetting("jpeg", "medium", 512),
        TextureSetting("jpeg", "low", 512),
    ]
    assert [setting.texture_format for setting in texture_settings("webp", 512, 512)] == ["webp"] * 3


@pytest.mark.parametrize(
    ("options", "share", "lowered"),
    [
        ({"texture_format": "png"}, 0.999, {"texture_format": ("png", "jpeg")}),
        ({}, 0.999, {"texture_quality": ("high", "medium")}),
        ({"texture_format": "webp"}, 0.999, {"texture_quality": ("high", "medium")}),
        ({"texture_size": 1024}, 0.48, {"texture_size": (1024, 512), "texture_quality": ("high", "medium")}),
    ],
)
def test_textures_are_lowered_as_little_as_possible_and_recorded(
    surfaces: dict[str, Surface],
    made: "Made",
    tmp_path: Path,
    options: dict[str, object],
    share: float,
    lowered: dict[str, tuple[object, object]],
) -> None:
    """Without another extraction; the file passes the Khronos validator."""
    most, runs = int(len(made("knot", **options).glb) * share), Runs()
    asset = extract_fitted(surfaces["knot"], runs=runs, max_bytes=most, **options)
    assert len(asset.glb) <= most
    assert (degradations(asset), runs.count) == (lowered, 1)
    model = read_glb(asset.glb)
    assert len(model.colour) == len(model.surface) == asset.texture_px == len(asset.texels)
    report = validate(asset.glb, tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0), report["messages"]


def test_alpha_is_kept_with_fewer_levels(surfaces: dict[str, Surface], made: "Made") -> None:
    """JPEG cannot store it."""
    whole = made("sheet", alpha=0.5)
    asset = extract_fitted(with_alpha(surfaces["sheet"], 0.5), max_bytes=len(whole.glb) - 1)
    model = read_glb(asset.glb)
    assert degradations(asset) == {"texture_quality": ("high", "medium")}
    assert asset.base_colour.mime_type == "image/png"
    difference = model.colour[..., 3].astype(int) - read_glb(whole.glb).colour[..., 3]
    assert 0 < np.abs(difference).max() <= 255 / 63 / 2 + 0.5


def test_triangles_are_reduced_only_if_textures_do_not_suffice(
    surfaces: dict[str, Surface], made: "Made", tmp_path: Path
) -> None:
    """Then better textures fit again."""
    whole = made("knot")
    geometry_bytes = len(whole.glb) - len(whole.base_colour.body) - len(whole.metallic_roughness.body)
    runs = Runs()
    asset = extract_fitted(surfaces["knot"], runs=runs, max_bytes=geometry_bytes)
    assert len(asset.glb) <= geometry_bytes
    assert asset.triangles < whole.triangles
    assert runs.count <= 3  # textures and seams of the second one may still come out a little larger
    assert degradations(asset)["decimation_target"][0] == TARGET
    assert len(asset.base_colour.body) + len(asset.metallic_roughness.body) > 0.25 * geometry_bytes
    report = validate(asset.glb, tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0), report["messages"]


def test_triangles_that_cannot_fit_are_not_tried(surfaces: dict[str, Surface]) -> None:
    """A million of them take at least 22 MB."""
    runs = Runs()
    asset = extract_fitted(surfaces["knot"], runs=runs, max_bytes=300_000, decimation_target=1_000_000)
    assert (runs.count, len(asset.glb) <= 300_000) == (1, True)
    assert asset.degradations[-1] == Degradation(name="decimation_target", requested=1_000_000, actual=4_687)


def test_an_asset_that_cannot_fit_is_an_error_with_its_smallest_size(surfaces: dict[str, Surface]) -> None:
    """With its own code, not retryable."""
    with pytest.raises(AssetTooLarge, match=r"the smallest GLB of this shape has \d+,\d+ bytes; max_bytes is 50,000"):
        extract_fitted(surfaces["knot"], max_bytes=50_000)
    assert (AssetTooLarge.code, AssetTooLarge.retryable) == ("asset_too_large", False)


def test_a_target_limits_how_small_textures_become(surfaces: dict[str, Surface], made: "Made") -> None:
    """Triangles are reduced instead."""
    whole = made("knot", texture_size=1024)
    most = int(0.5 * len(whole.glb))
    asset = extract_fitted(surfaces["knot"], Target(min_texture_px=1024), max_bytes=most, texture_size=1024)
    assert (asset.texture_px, len(asset.glb) <= most, asset.triangles < whole.triangles) == (1024, True, True)


def test_equal_parameters_give_equal_bytes(surfaces: dict[str, Surface]) -> None:
    """Also with every kind of degradation."""
    first, second = (extract_fitted(surfaces["noisy"], max_bytes=160_000, texture_format="png") for _ in range(2))
    assert first.glb == second.glb
    assert {"texture_format", "texture_quality", "decimation_target"} <= degradations(first).keys()


def test_halve_averages_colours_in_linear_light() -> None:
    """Half the light of black and white is 188, not 128; channels that are not colours have their plain mean."""
    texels = np.zeros((2, 2, 6), np.uint8)
    texels[0] = 255
    assert halve(texels).tolist() == [[[188, 188, 188, 128, 128, 128]]]
