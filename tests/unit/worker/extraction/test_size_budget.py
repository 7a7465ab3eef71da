"""A GLB that keeps to max_bytes: what gives way, in which order, at which cost."""

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
    """A progress that counts the extractions that it was told of."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, fraction: float) -> None:
        self.count += fraction == 0.0


def fitted(surface: Surface, target: Target = UNBOUND, runs: Runs | None = None, **options: object) -> Asset:
    """The surface within bounds."""
    parameters = ExportParameters.model_validate({"decimation_target": TARGET, "texture_size": 512, **options})
    return extract_to_fit(surface, parameters, target, provenance=LABELS, progress=runs or Runs())


def told(asset: Asset) -> dict[str, tuple[object, object]]:
    """What was lowered, by name: from what, to what."""
    return {one.name: (one.wanted, one.made) for one in asset.degradations}


def test_what_fits_is_left_as_it_was(surfaces: dict[str, Surface], made: "Made") -> None:
    """To the byte."""
    whole = made("knot")
    asset = fitted(surfaces["knot"], max_bytes=len(whole.glb))
    assert (asset.glb, asset.degradations) == (whole.glb, ())


def test_textures_give_way_by_format_then_quality_then_size() -> None:
    """WebP is never put in; every size begins at its best."""
    assert list(texture_settings("png", 1024, 512)) == [
        TextureSetting("png", "high", 1024),
        TextureSetting("jpeg", "high", 1024),
        TextureSetting("jpeg", "medium", 1024),
        TextureSetting("jpeg", "low", 1024),
        TextureSetting("jpeg", "high", 512),
        TextureSetting("jpeg", "medium", 512),
        TextureSetting("jpeg", "low", 512),
    ]
    assert [rung.texture_format for rung in texture_settings("webp", 512, 512)] == ["webp"] * 3


@pytest.mark.parametrize(
    ("options", "share", "lowered"),
    [
        ({"texture_format": "png"}, 0.999, {"texture_format": ("png", "jpeg")}),
        ({}, 0.999, {"texture_quality": ("high", "medium")}),
        ({"texture_format": "webp"}, 0.999, {"texture_quality": ("high", "medium")}),
        ({"texture_size": 1024}, 0.48, {"texture_size": (1024, 512), "texture_quality": ("high", "medium")}),
    ],
)
def test_textures_are_lowered_just_so_far_and_told_of(
    surfaces: dict[str, Surface],
    made: "Made",
    tmp_path: Path,
    options: dict[str, object],
    share: float,
    lowered: dict[str, tuple[object, object]],
) -> None:
    """Without another extraction; the file passes the Khronos validator."""
    most, runs = int(len(made("knot", **options).glb) * share), Runs()
    asset = fitted(surfaces["knot"], runs=runs, max_bytes=most, **options)
    assert len(asset.glb) <= most
    assert (told(asset), runs.count) == (lowered, 1)
    model = read_glb(asset.glb)
    assert len(model.colour) == len(model.surface) == asset.texture_px == len(asset.texels)
    report = validate(asset.glb, tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0), report["messages"]


def test_alpha_survives_in_fewer_levels(surfaces: dict[str, Surface], made: "Made") -> None:
    """No JPEG can hold it."""
    whole = made("sheet", alpha=0.5)
    asset = fitted(with_alpha(surfaces["sheet"], 0.5), max_bytes=len(whole.glb) - 1)
    model = read_glb(asset.glb)
    assert told(asset) == {"texture_quality": ("high", "medium")}
    assert asset.base_colour.mime_type == "image/png"
    difference = model.colour[..., 3].astype(int) - read_glb(whole.glb).colour[..., 3]
    assert 0 < np.abs(difference).max() <= 255 / 63 / 2 + 0.5


def test_triangles_go_only_where_textures_do_not_help(
    surfaces: dict[str, Surface], made: "Made", tmp_path: Path
) -> None:
    """Then there is room for better textures again."""
    whole = made("knot")
    geometry_bytes = len(whole.glb) - len(whole.base_colour.body) - len(whole.metallic_roughness.body)
    runs = Runs()
    asset = fitted(surfaces["knot"], runs=runs, max_bytes=geometry_bytes)
    assert len(asset.glb) <= geometry_bytes
    assert asset.triangles < whole.triangles
    assert runs.count <= 3  # textures and seams of the second one may still come out a little larger
    assert told(asset)["decimation_target"][0] == TARGET
    assert len(asset.base_colour.body) + len(asset.metallic_roughness.body) > 0.25 * geometry_bytes
    report = validate(asset.glb, tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0), report["messages"]


def test_triangles_that_could_never_fit_are_not_tried(surfaces: dict[str, Surface]) -> None:
    """A million of them take 22 MB at the least."""
    runs = Runs()
    asset = fitted(surfaces["knot"], runs=runs, max_bytes=300_000, decimation_target=1_000_000)
    assert (runs.count, len(asset.glb) <= 300_000) == (1, True)
    assert asset.degradations[-1] == Degradation(name="decimation_target", wanted=1_000_000, made=4_687)


def test_what_cannot_fit_is_an_error_that_says_how_small_it_can_be(surfaces: dict[str, Surface]) -> None:
    """With a code of its own, not retryable."""
    with pytest.raises(AssetTooLarge, match=r"the smallest GLB of this shape has \d+,\d+ bytes; max_bytes is 50,000"):
        fitted(surfaces["knot"], max_bytes=50_000)
    assert (AssetTooLarge.code, AssetTooLarge.retryable) == ("asset_too_large", False)


def test_a_target_keeps_textures_from_becoming_too_small(surfaces: dict[str, Surface], made: "Made") -> None:
    """Triangles go instead."""
    whole = made("knot", texture_size=1024)
    most = int(0.5 * len(whole.glb))
    asset = fitted(surfaces["knot"], Target(min_texture_px=1024), max_bytes=most, texture_size=1024)
    assert (asset.texture_px, len(asset.glb) <= most, asset.triangles < whole.triangles) == (1024, True, True)


def test_equal_wishes_give_equal_bytes(surfaces: dict[str, Surface]) -> None:
    """Also where everything was lowered."""
    first, second = (fitted(surfaces["noisy"], max_bytes=160_000, texture_format="png") for _ in range(2))
    assert first.glb == second.glb
    assert {"texture_format", "texture_quality", "decimation_target"} <= told(first).keys()


def test_a_halved_texel_is_the_mean_of_four_in_light() -> None:
    """Of black and white, 188 is half the light, not 128; numbers that are no colours have their plain mean."""
    texels = np.zeros((2, 2, 6), np.uint8)
    texels[0] = 255
    assert halve(texels).tolist() == [[[188, 188, 188, 128, 128, 128]]]
