"""Validation of GLBs, and checks of finished files against limits."""

import json
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared.domain.parameters import PRESETS, TARGETS, UNBOUND, ExportParameters, PresetName, Target, resolve, target_of
from shared.errors import OutputInvalid
from tests.unit.worker.extraction.conftest import LABELS
from worker.engine import Surface
from worker.extraction import export
from worker.extraction.formats.glb_validation import check_limits, validate

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made

ALL = Target(300_000, 4_000, 512, 512, max_materials=1)


def rewritten(glb: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return the file with its JSON document changed and its lengths corrected."""
    (text_bytes,) = struct.unpack_from("<I", glb, 12)
    document = json.loads(glb[20 : 20 + text_bytes])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = glb[20 + text_bytes :]
    header = struct.pack("<III", 0x46546C67, 2, 20 + len(text) + len(rest))
    return header + struct.pack("<II", len(text), 0x4E4F534A) + text + rest


def overwritten(glb: bytes, accessor: int, content: bytes) -> bytes:
    """Return the file with other bytes at the beginning of an accessor's data."""
    (text_bytes,) = struct.unpack_from("<I", glb, 12)
    document = json.loads(glb[20 : 20 + text_bytes])
    view = document["bufferViews"][document["accessors"][accessor]["bufferView"]]
    start = 28 + text_bytes + view["byteOffset"]
    return glb[:start] + content + glb[start + len(content) :]


def test_validate_accepts_an_extracted_file(made: "Made") -> None:
    """Also with its document serialized in another way."""
    validate(made("parts").glb)
    validate(rewritten(made("parts").glb, lambda _: None))


@pytest.mark.parametrize(
    "broken",
    [
        lambda _: b"",
        lambda glb: glb[:11],
        lambda glb: b"PNG!" + glb[4:],
        lambda glb: glb[:-4],
        lambda glb: glb + b"\0\0\0\0",
        lambda glb: glb[:20] + b"\xff" + glb[21:],
        lambda glb: glb[:16] + b"NOSJ" + glb[20:],
    ],
    ids=["nothing", "half a header", "magic", "cut", "longer", "not json", "chunk type"],
)
def test_validate_rejects_a_broken_container(made: "Made", broken: Callable[[bytes], bytes]) -> None:
    """Header, lengths, chunk types, and JSON syntax."""
    with pytest.raises(OutputInvalid):
        validate(broken(made("parts").glb))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["bufferViews"][0].update(byteLength=10**9),
        lambda document: document["bufferViews"][0].update(byteOffset=-4),
        lambda document: document["accessors"][0].update(count=3),
        lambda document: document["accessors"][0].update(componentType=5125),
        lambda document: document["accessors"][0]["max"].__setitem__(1, 9.0),
        lambda document: document["buffers"][0].update(byteLength=8),
        lambda document: document["images"][0].update(mimeType="image/png"),
        lambda document: document["images"][0].update(bufferView=0),
        lambda document: document["meshes"][0]["primitives"][0].update(indices=9),
        lambda document: document.pop("meshes"),
    ],
    ids=[
        "view too long",
        "view before",
        "count",
        "type",
        "bounds",
        "buffer",
        "mime",
        "no image",
        "accessor",
        "no mesh",
    ],
)
def test_validate_rejects_a_broken_document(made: "Made", change: Callable[[dict[str, Any]], None]) -> None:
    """Views, accessors, bounds, buffer and images."""
    with pytest.raises(OutputInvalid):
        validate(rewritten(made("parts").glb, change))


@pytest.mark.parametrize(
    ("accessor", "content"),
    [
        (0, np.array([np.nan], "<f4").tobytes()),
        (1, np.array([3, 3, 3], "<f4").tobytes()),
        (2, np.array([np.inf], "<f4").tobytes()),
        (3, np.array([65_534], "<u2").tobytes()),
    ],
    ids=["position", "normal", "texture coordinate", "index"],
)
def test_validate_rejects_broken_numbers(made: "Made", accessor: int, content: bytes) -> None:
    """Not finite, not of length one, or an index without a vertex."""
    with pytest.raises(OutputInvalid):
        validate(overwritten(made("parts").glb, accessor, content))


def test_check_limits_measures_every_limit_of_the_target(made: "Made") -> None:
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
def test_a_value_beyond_its_limit_fails_only_its_check(
    made: "Made", target: Target, options: dict[str, object], name: str
) -> None:
    """The other checks pass."""
    checks = check_limits(made("knot", **options).glb, target, None)
    assert [check.name for check in checks if not check.passed] == [name]


def test_the_smaller_of_both_max_bytes_is_checked(made: "Made") -> None:
    """Of the caller's and the target's; without either there is no check."""
    glb = made("knot").glb
    limits = [
        [check.limit for check in check_limits(glb, Target(max_bytes=target, image_formats=None), own)]
        for target, own in ((9, 8), (8, 9), (9, None), (None, 8), (None, None))
    ]
    assert limits == [[8], [8], [9], [8], []]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_parameters_of_a_preset_are_within_its_target(preset: PresetName) -> None:
    """A preset without other parameters cannot exceed its limits."""
    parameters, target = resolve({}, preset), target_of(preset)
    assert target == TARGETS.get(preset, UNBOUND)
    assert parameters.max_bytes == target.max_bytes
    assert parameters.decimation_target <= (target.max_triangles or 1_000_000)
    assert (target.min_texture_px or 0) <= parameters.texture_size <= (target.max_texture_px or 4096)
    assert parameters.texture_format != "webp"


def test_an_explicit_parameter_beyond_a_limit_is_used_and_its_check_fails(surfaces: dict[str, Surface]) -> None:
    """A request for more triangles than the target allows is followed."""
    parameters = ExportParameters(decimation_target=2_000, texture_size=512)
    product = export(
        surfaces["knot"], parameters, Target(max_triangles=1_000), provenance=LABELS, progress=lambda _: None
    )
    failed = {check.name: (check.limit, check.measured) for check in product.checks if not check.passed}
    assert failed == {"max_triangles": (1_000, product.asset.triangles)}
    assert product.asset.triangles > 1_000


@pytest.mark.parametrize("preset", ["game", "mobile"])
def test_a_file_exported_with_a_preset_passes_every_check(surfaces: dict[str, Surface], preset: PresetName) -> None:
    """It is reduced until it does."""
    parameters = ExportParameters.model_validate(PRESETS[preset])
    product = export(surfaces["parts"], parameters, target_of(preset), provenance=LABELS, progress=lambda _: None)
    assert product.checks
    assert [check for check in product.checks if not check.passed] == []
