"""What a finished file is held to, told in numbers that are read back from it."""

from typing import TYPE_CHECKING

import pytest

from shared.domain.parameters import PRESETS, TARGETS, UNBOUND, ExportParameters, PresetName, Target, resolve, target_of
from tests.unit.worker.extraction.conftest import LABELS
from worker.engine import Surface
from worker.extraction import export
from worker.extraction.formats.glb_validation import check_limits

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made

ALL = Target(300_000, 4_000, 512, 512, max_materials=1)


def test_every_bound_is_a_check_with_its_measure(made: "Made") -> None:
    """In a fixed order."""
    asset = made("knot")
    checks = {check.name: (check.limit, check.measured, check.passed) for check in check_limits(asset.glb, ALL, None)}
    assert checks == {
        "max_bytes": (300_000, len(asset.glb), len(asset.glb) <= 300_000),
        "max_triangles": (4_000, asset.triangles, True),
        "max_texture_px": (512, 512, True),
        "min_texture_px": (512, 512, True),
        "max_materials": (1, 1, True),
        "power_of_two": (True, True, True),
        "image_formats": ("jpeg, png", "jpeg", True),
    }


@pytest.mark.parametrize(
    ("target", "options", "name"),
    [
        (Target(max_bytes=1_000), {}, "max_bytes"),
        (Target(max_triangles=100), {}, "max_triangles"),
        (Target(max_texture_px=256), {}, "max_texture_px"),
        (Target(min_texture_px=1024), {}, "min_texture_px"),
        (Target(max_materials=0), {}, "max_materials"),
        (Target(), {"texture_format": "webp"}, "image_formats"),
    ],
)
def test_what_goes_beyond_a_bound_fails_its_check_alone(
    made: "Made", target: Target, options: dict[str, object], name: str
) -> None:
    """The others pass."""
    checks = check_limits(made("knot", **options).glb, target, None)
    assert [check.name for check in checks if not check.passed] == [name]


def test_the_callers_bound_counts_beside_the_targets(made: "Made") -> None:
    """The smaller of the two; without either there is nothing to check."""
    glb = made("knot").glb
    limits = [
        [check.limit for check in check_limits(glb, Target(max_bytes=target, image_formats=None), own)]
        for target, own in ((9, 8), (8, 9), (9, None), (None, 8), (None, None))
    ]
    assert limits == [[8], [8], [9], [8], []]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_asks_for_what_its_target_allows(preset: PresetName) -> None:
    """Nobody who names a preset alone can miss its bounds."""
    parameters, target = resolve({}, preset), target_of(preset)
    assert target == TARGETS.get(preset, UNBOUND)
    assert parameters.max_bytes == target.max_bytes
    assert parameters.decimation_target <= (target.max_triangles or 1_000_000)
    assert (target.min_texture_px or 0) <= parameters.texture_size <= (target.max_texture_px or 4096)
    assert parameters.texture_format != "webp"


def test_an_explicit_wish_beyond_a_bound_is_granted_and_its_check_fails(surfaces: dict[str, Surface]) -> None:
    """Whoever asks for more triangles than the target takes shall have them."""
    parameters = ExportParameters(decimation_target=2_000, texture_size=512)
    product = export(
        surfaces["knot"], parameters, Target(max_triangles=1_000), provenance=LABELS, progress=lambda _: None
    )
    failed = {check.name: (check.limit, check.measured) for check in product.checks if not check.passed}
    assert failed == {"max_triangles": (1_000, product.asset.triangles)}
    assert product.asset.triangles > 1_000


@pytest.mark.parametrize("preset", ["game", "mobile"])
def test_a_file_made_under_a_preset_passes_every_check(surfaces: dict[str, Surface], preset: PresetName) -> None:
    """Made smaller where it would not."""
    parameters = ExportParameters.model_validate(PRESETS[preset])
    product = export(surfaces["parts"], parameters, target_of(preset), provenance=LABELS, progress=lambda _: None)
    assert product.checks
    assert [check for check in product.checks if not check.passed] == []
