"""USDZ packages, read back by OpenUSD and checked by its tools."""

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.geometry import glb_reader
from shared.domain.parameters import Dimensions
from shared.errors import FormatUnavailable, OutputInvalid
from tests.unit.worker.extraction.conftest import LABELS
from tests.validators.usd.openusd import Model, arkit_faults, read
from worker.extraction.formats import usdz
from worker.extraction.model.asset import scale_to_dimensions
from worker.extraction.render.poster import render_pixels

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made

pytest.importorskip("pxr", reason="the extra usdz is not installed")

VARIANTS = [
    {},
    {"texture_format": "png"},
    {"texture_format": "webp"},
    {"alpha": 0.5},
    {"alpha": 0.0},
    {"alpha": 0.5, "texture_format": "webp"},
    {"remesh": False},
]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The path for a package."""
    return tmp_path / "asset.usdz"


def written(made: "Made", path: Path, **options: object) -> Model:
    """Write a surface as USDZ and read it back."""
    path.write_bytes(usdz.write(made("sheet", **options), LABELS))
    return read(path)


@pytest.mark.parametrize("options", VARIANTS)
def test_package_passes_the_compliance_checker_for_arkit(
    made: "Made", package: Path, options: dict[str, object]
) -> None:
    """No error, failed check or warning by Apple's rules, and no fault by a newer validator."""
    written(made, package, **options)
    assert arkit_faults(package) == []
    assert list(usdz.find_faults(package)) == []


def test_a_package_has_one_binary_layer_and_two_textures(made: "Made", package: Path) -> None:
    """Uncompressed, each at a multiple of 64 bytes, the layer first."""
    model = written(made, package)
    assert model.files == ["asset.usdc", "colour.jpg", "finish.jpg"]
    with zipfile.ZipFile(package) as archive:
        for entry in archive.infolist():
            start = entry.header_offset + 30 + len(entry.filename) + _extra_bytes(package, entry.header_offset)
            assert (entry.compress_type, start % 64) == (zipfile.ZIP_STORED, 0)


def _extra_bytes(package: Path, header: int) -> int:
    """Length of the extra field in a local header, which may differ from the central one."""
    return int.from_bytes(package.read_bytes()[header + 28 : header + 30], "little")


@pytest.mark.parametrize("options", VARIANTS)
def test_a_package_has_the_content_of_the_glb(made: "Made", package: Path, options: dict[str, object]) -> None:
    """v points up in USD, down in glTF. WebP, which Quick Look cannot read, is encoded again."""
    model, glb = written(made, package, **options), glb_reader.read_glb(made("sheet", **options).glb)
    assert np.array_equal(model.positions, glb.positions)
    assert np.array_equal(model.normals, glb.normals)
    assert np.array_equal(model.faces, glb.faces)
    assert np.allclose(model.st, np.stack([glb.uv[:, 0], 1 - glb.uv[:, 1]], axis=1), atol=1e-7)
    assert model.double_sided == glb.document["materials"][0].get("doubleSided", False)
    channels, tolerance = model.colour.shape[2], 3 if options.get("texture_format") == "webp" else 0
    assert np.abs(model.colour.astype(int) - glb.colour[..., :channels]).mean() <= tolerance
    assert np.abs(model.finish.astype(int) - glb.surface).mean() <= tolerance


def test_units_are_metres_and_y_is_up(made: "Made", package: Path) -> None:
    """So Quick Look shows the object upright and in its real size."""
    asset = made("knot")
    mesh = scale_to_dimensions(asset.mesh, Dimensions(height=0.12))
    package.write_bytes(usdz.write(replace(asset, mesh=mesh), LABELS))
    model = read(package)
    assert (model.up, model.metres_per_unit) == ("Y", 1.0)
    assert model.positions[:, 1].min() == 0
    assert model.positions[:, 1].max() == pytest.approx(0.12)


@pytest.mark.parametrize(("alpha", "more"), [(1.0, set()), (0.5, {"opacity"}), (0.0, {"opacity", "opacityThreshold"})])
def test_the_material_is_that_of_gltf(made: "Made", package: Path, alpha: float, more: set[str]) -> None:
    """Colour in sRGB; roughness from green and metallic from blue, as data; alpha if it matters, a cutoff for masks."""
    model = written(made, package, alpha=alpha)
    assert model.inputs.keys() == {"diffuseColor", "roughness", "metallic"} | more
    assert {name: model.inputs[name][1] for name in ("diffuseColor", "roughness", "metallic")} == {
        "diffuseColor": "rgb",
        "roughness": "g",
        "metallic": "b",
    }
    assert model.spaces[model.inputs["diffuseColor"][0]] == "sRGB"
    assert model.spaces[model.inputs["roughness"][0]] == model.spaces[model.inputs["metallic"][0]] == "raw"
    if "opacity" in more:
        assert model.inputs["opacity"] == (model.inputs["diffuseColor"][0], "a")
    assert model.inputs.get("opacityThreshold", 0.5) == 0.5


def test_a_package_renders_like_the_glb(made: "Made", package: Path) -> None:
    """The two posters are equal but for the loss of JPEG."""
    asset = made("knot")
    package.write_bytes(usdz.write(asset, LABELS))
    model = read(package)
    uv = np.stack([model.st[:, 0], 1 - model.st[:, 1]], axis=1).astype(np.float32)
    mesh = replace(asset.mesh, positions=model.positions, normals=model.normals, uv=uv, faces=model.faces)
    opaque = np.full(model.colour.shape[:2], 255, np.uint8)
    texels = np.dstack([model.colour[..., :3], model.finish[..., 2], model.finish[..., 1], opaque])
    difference = np.abs(render_pixels(replace(asset, mesh=mesh, texels=texels)).astype(int) - render_pixels(asset))
    assert difference.mean() < 0.5


def test_equal_assets_give_equal_bytes_in_any_process_at_any_time(made: "Made") -> None:
    """Also in another time zone, with another hash seed."""
    program = (
        "import hashlib; from bench.geometry.surfaces import parts; "
        "from tests.unit.worker.extraction.conftest import LABELS;"
        "from tests.unit.worker.extraction.test_pipeline import extract_small;"
        "from worker.extraction.formats import usdz;"
        "print(hashlib.sha256(usdz.write(extract_small(parts(40, 10, 128)), LABELS)).hexdigest())"
    )
    environment = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "5"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    package = usdz.write(made("parts", decimation_target=1_000), LABELS)
    assert run.stdout.split()[-1] == hashlib.sha256(package).hexdigest()


def test_a_broken_package_is_rejected(tmp_path: Path) -> None:
    """By the validators that every package passes."""
    from pxr import Sdf, Usd

    layer, package = tmp_path / "asset.usdc", tmp_path / "asset.usdz"
    stage = Usd.Stage.CreateNew(str(layer))
    stage.DefinePrim("/Asset", "Xform")
    stage.GetRootLayer().Save()
    with Sdf.ZipFileWriter.CreateNew(str(package)) as archive:
        archive.AddFile(str(layer), layer.name)
    with pytest.raises(OutputInvalid, match=r"(?s)defaultPrim.*upAxis|upAxis.*defaultPrim"):
        usdz.read_validated(package)


def test_missing_openusd_is_format_unavailable(made: "Made", monkeypatch: pytest.MonkeyPatch) -> None:
    """With the code of the error."""
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(FormatUnavailable):
        usdz.write(made("knot"), LABELS)
