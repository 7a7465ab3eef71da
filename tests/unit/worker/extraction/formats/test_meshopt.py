"""Compressed GLBs, read back with meshoptimizer's own decoder."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.spatial import cKDTree

from bench.geometry import glb_reader
from shared.errors import FormatUnavailable, OutputInvalid
from tests.validators.gltf.khronos import validate
from tests.validators.gltf.packing import unpacked, with_gltfpack
from worker.extraction.formats import meshopt
from worker.extraction.formats.glb_validation import read_chunks, read_view

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made


KNOWN = {"'KHR_xmp_json_ld'."}  # the validator cannot judge it, packed or not


@pytest.fixture
def _tool(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gltfpack(monkeypatch)


def pack(made: "Made", folder: Path, **options: object) -> tuple[bytes, Path]:
    """A surface's packed GLB, and the path of the file."""
    packed = meshopt.pack(made("knot", **options).glb)
    path = folder / "packed.glb"
    path.write_bytes(packed)
    return packed, path


@pytest.mark.usefixtures("_tool")
@pytest.mark.parametrize(
    "options", [{}, {"texture_format": "png"}, {"texture_format": "webp"}, {"alpha": 0.5}, {"remesh": False}]
)
def test_packed_file_passes_the_khronos_validator(made: "Made", tmp_path: Path, options: dict[str, object]) -> None:
    """No errors and no warnings; the validator only reports that it cannot validate the compression."""
    packed, _ = pack(made, tmp_path, **options)
    report = validate(packed, tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0), report["messages"]
    assert {message["message"].rpartition(": ")[2] for message in report["messages"]} - KNOWN == {
        "'EXT_meshopt_compression'."
    }


@pytest.mark.usefixtures("_tool")
def test_the_unpacked_model_has_the_precision_of_its_bits(made: "Made", tmp_path: Path) -> None:
    """All triangles, corner by corner: positions in 16 bits of the longest side, uv in 14, normals in 10."""
    whole = glb_reader.read_glb(made("knot").glb)
    packed, path = pack(made, tmp_path)
    actual = unpacked(path)
    assert len(packed) < 0.8 * len(made("knot").glb)
    expected = {"positions": whole.positions, "normals": whole.normals, "uv": whole.uv}
    # The order of triangles and each one's first corner are not specified, but no two have the same corners.
    turns = np.concatenate([np.roll(whole.faces, turn, axis=1) for turn in range(3)])
    _, nearest = cKDTree(whole.positions[turns].reshape(-1, 9)).query(
        actual["positions"][actual["faces"]].reshape(-1, 9)
    )
    assert sorted(nearest % len(whole.faces)) == list(range(len(whole.faces)))
    off = {name: np.abs(actual[name][actual["faces"]] - expected[name][turns[nearest]]).max() for name in expected}
    assert off["positions"] < np.ptp(whole.positions, axis=0).max() / 2**16
    assert off["normals"] < 2 / 2**9
    assert off["uv"] < 1 / 2**14


@pytest.mark.usefixtures("_tool")
def test_textures_material_and_provenance_do_not_change(made: "Made", tmp_path: Path) -> None:
    """The bytes of both images, the alpha mode, the name, and the XMP packet."""
    whole, binary = read_chunks(made("knot", alpha=0.5).glb)
    document, packed_binary = read_chunks(pack(made, tmp_path, alpha=0.5)[0])
    for image, packed_image in zip(whole["images"], document["images"], strict=True):
        assert read_view(packed_image["bufferView"], document, packed_binary) == read_view(
            image["bufferView"], whole, binary
        )
    assert document["materials"][0]["alphaMode"] == "BLEND"
    assert document["asset"] == whole["asset"]
    assert document["extensions"]["KHR_xmp_json_ld"] == whole["extensions"]["KHR_xmp_json_ld"]
    assert "SKU-1" in [node.get("name") for node in document["nodes"]]


@pytest.mark.usefixtures("_tool")
def test_equal_files_are_packed_to_equal_bytes(made: "Made") -> None:
    """In every run."""
    assert meshopt.pack(made("parts").glb) == meshopt.pack(made("parts").glb)


@pytest.mark.parametrize(
    "script", ["exit 3", "true", 'cp "$2" "$4"; truncate -s 100 "$4"'], ids=["fails", "writes nothing", "breaks off"]
)
def test_a_failed_gltfpack_is_an_error(
    made: "Made", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """With any output that it leaves."""
    tool = tmp_path / "gltfpack"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(OutputInvalid):
        meshopt.pack(made("knot").glb)


def test_missing_gltfpack_is_format_unavailable(made: "Made", monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the code of the error."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FormatUnavailable):
        meshopt.pack(made("knot").glb)
