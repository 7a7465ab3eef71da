"""Extraction of a GLB from a surface."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.geometry.glb_reader import read_glb
from shared.domain.parameters import ExportParameters
from shared.errors import EmptySurface, JobStopped, OutputInvalid
from tests.unit.worker.extraction.conftest import LABELS, UNUSABLE, triangle
from tests.validators.gltf.khronos import validate
from worker.engine import Surface
from worker.extraction import Asset, extract

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made

SMALL = ExportParameters(decimation_target=1_000, texture_size=512)


def extract_small(surface: Surface, **options: object) -> Asset:
    """Extract the surface with the smallest options, and the given ones."""
    return extract(surface, SMALL.model_copy(update=options), provenance=LABELS, progress=lambda _: None)


@pytest.mark.parametrize(
    ("options", "types"),
    [
        ({}, ["image/jpeg", "image/jpeg"]),
        ({"texture_format": "png"}, ["image/png", "image/png"]),
        ({"texture_format": "jpeg"}, ["image/jpeg", "image/jpeg"]),
        ({"texture_format": "webp"}, ["image/webp", "image/webp"]),
        ({"alpha": 0.5}, ["image/png", "image/jpeg"]),
        ({"alpha": 0.5, "texture_format": "jpeg"}, ["image/png", "image/jpeg"]),
        ({"alpha": 0.5, "texture_format": "webp"}, ["image/webp", "image/webp"]),
        ({"remesh": False}, ["image/jpeg", "image/jpeg"]),
    ],
)
def test_file_passes_the_khronos_validator(
    made: "Made", tmp_path: Path, options: dict[str, object], types: list[str]
) -> None:
    """No errors and no warnings in any texture format; a JPEG never has to hold alpha."""
    glb = made("sheet", **options).glb
    report = validate(glb, tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0), report["messages"]
    assert [image["mimeType"] for image in read_glb(glb).document["images"]] == types


@pytest.mark.parametrize(("alpha", "mode"), [(1.0, "OPAQUE"), (0.99, "OPAQUE"), (0.0, "MASK"), (0.5, "BLEND")])
def test_alpha_mode_follows_the_data(made: "Made", alpha: float, mode: str) -> None:
    """Nearly opaque is opaque; holes give a mask, glass gives a blend."""
    material = read_glb(made("sheet", alpha=alpha).glb).document["materials"][0]
    assert material.get("alphaMode", "OPAQUE") == made("sheet", alpha=alpha).alpha_mode == mode


def test_a_file_states_its_provenance(made: "Made") -> None:
    """Generator in the asset; SKU, seed, engine and generator in the XMP packet that the asset points to."""
    document = read_glb(made("knot").glb).document
    number = document["asset"]["extensions"]["KHR_xmp_json_ld"]["packet"]
    packet = document["extensions"]["KHR_xmp_json_ld"]["packets"][number]
    assert document["asset"]["generator"] == packet["xmp:CreatorTool"] == "trellis2-modal 0.1.0"
    assert (packet["dc:identifier"], packet["trellis2:seed"], packet["trellis2:engine"]) == ("SKU-1", 7, "relief")


def test_all_objects_bear_the_custom_id(made: "Made") -> None:
    """Several files imported into one scene do not collide: node, mesh, material and images are named by product."""
    document = read_glb(made("knot").glb).document
    names = {kind: [each.get("name") for each in document[kind]] for kind in ("nodes", "meshes", "materials", "images")}
    assert names == {
        "nodes": ["SKU-1"],
        "meshes": ["SKU-1"],
        "materials": ["SKU-1"],
        "images": ["SKU-1 base colour", "SKU-1 metallic-roughness"],
    }


def test_metallic_is_blue_and_roughness_green(surfaces: dict[str, Surface]) -> None:
    """The channels that glTF prescribes."""
    surface = surfaces["sheet"]
    attributes = np.tile(np.array([0.5, 0.5, 0.5, 1.0, 0.2, 1.0], np.float32), (len(surface.coords), 1))
    model = read_glb(extract_small(replace(surface, attributes=attributes)).glb)
    assert np.abs(model.surface.reshape(-1, 3) - np.array([255.0, 51.0, 255.0])).max() <= 3


def test_open_sheet_is_double_sided_only_without_remeshing(made: "Made") -> None:
    """Remeshing closes it with two sides."""
    materials = [read_glb(made("sheet", remesh=remesh).glb).document["materials"][0] for remesh in (True, False)]
    assert [material.get("doubleSided", False) for material in materials] == [False, True]


def test_walls_of_a_sealed_cavity_are_removed() -> None:
    """A closed surface inside another is never visible: the outer one gets all triangles."""
    (outer, outer_faces), (inner, inner_faces) = _ball(0.4), _ball(0.2)
    vertices = np.concatenate([outer, inner])
    faces = np.concatenate([outer_faces, inner_faces + len(outer)])
    asset = extract_small(replace(triangle(), vertices=vertices, faces=faces))
    radius = np.linalg.norm(asset.mesh.positions + asset.mesh.origin, axis=1)
    assert radius.min() > 0.35


def _ball(radius: float) -> tuple[np.ndarray, np.ndarray]:
    theta, phi = np.meshgrid(np.linspace(0.05, np.pi - 0.05, 24), np.linspace(0, 2 * np.pi, 48), indexing="ij")
    points = radius * np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), -np.sin(theta) * np.sin(phi)], axis=-1)
    i, j = np.meshgrid(np.arange(23), np.arange(47), indexing="ij")
    corners = np.stack([i * 48 + j, (i + 1) * 48 + j, (i + 1) * 48 + j + 1, i * 48 + j + 1], axis=-1).reshape(-1, 4)
    faces = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]]).astype(np.int32)
    return points.reshape(-1, 3).astype(np.float32), faces


def test_progress_rises_from_zero_to_one(surfaces: dict[str, Surface]) -> None:
    """It never falls, and is reported inside long phases too, where a cancel takes effect."""
    seen: list[float] = []
    extract(surfaces["parts"], SMALL, provenance=LABELS, progress=seen.append)
    assert (seen[0], seen[-1], seen) == (0.0, 1.0, sorted(seen))
    assert max(later - earlier for earlier, later in pairwise(seen)) < 0.25


@pytest.mark.parametrize("after", [0.0, 0.3, 0.6])
def test_cancel_passes_through(surfaces: dict[str, Surface], after: float) -> None:
    """What `progress` raises ends the extraction, and the next one works."""

    def stop(fraction: float) -> None:
        if fraction >= after:
            raise JobStopped

    with pytest.raises(JobStopped):
        extract(surfaces["parts"], SMALL, provenance=LABELS, progress=stop)
    assert extract_small(surfaces["parts"]).triangles > 0


def test_parallel_extractions_equal_serial_ones(surfaces: dict[str, Surface]) -> None:
    """Bytes of three surfaces extracted at once."""
    serial = [extract_small(surface).glb for surface in surfaces.values()]
    with ThreadPoolExecutor(len(surfaces)) as threads:
        assert [asset.glb for asset in threads.map(extract_small, surfaces.values())] == serial


def test_equal_surfaces_give_equal_bytes_in_any_process(surfaces: dict[str, Surface]) -> None:
    """Also with another number of threads and another hash seed."""
    program = (
        "import hashlib; from bench.geometry.surfaces import parts; "
        "from tests.unit.worker.extraction.test_pipeline import extract_small;"
        "print(hashlib.sha256(extract_small(parts(40, 10, 128)).glb).hexdigest())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "5"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.split()[-1] == hashlib.sha256(extract_small(surfaces["parts"]).glb).hexdigest()


def test_one_triangle_becomes_a_valid_file(tmp_path: Path) -> None:
    """A sheet of one face with two sides."""
    report = validate(extract_small(triangle()).glb, tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0)


def test_one_triangle_without_remeshing_stays_one() -> None:
    """It cannot be simplified."""
    parameters = ExportParameters(decimation_target=1_000, texture_size=512, remesh=False)
    assert extract(triangle(), parameters, provenance=LABELS, progress=lambda _: None).triangles == 1


@pytest.mark.parametrize("change", UNUSABLE.values(), ids=UNUSABLE)
def test_a_surface_without_usable_faces_or_voxels_is_empty(change: dict[str, np.ndarray]) -> None:
    """EmptySurface, not a crash."""
    with pytest.raises(EmptySurface):
        extract_small(replace(triangle(), **change))


def test_malformed_arrays_are_refused() -> None:
    """Attributes and cells must have the same length."""
    with pytest.raises(OutputInvalid):
        extract_small(replace(triangle(), attributes=np.ones((3, 6), np.float32)))


def test_broken_parts_of_a_surface_are_removed(surfaces: dict[str, Surface], tmp_path: Path) -> None:
    """Some vertices not finite, some far away, some faces flat: the rest becomes a valid file."""
    surface = surfaces["knot"]
    vertices, faces = surface.vertices.copy(), surface.faces.copy()
    vertices[10], vertices[500], vertices[900] = np.nan, np.inf, 1e20
    faces[::50, 1] = faces[::50, 0]
    report = validate(extract_small(replace(surface, vertices=vertices, faces=faces)).glb, tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0)


def test_a_point_without_voxels_has_the_colour_of_the_closest() -> None:
    """Two cells off the surface, a red one on the left and a blue one on the right, colour their sides."""
    coords = np.array([[6, 7, 10], [9, 7, 10]], np.int32)
    attributes = np.array([[1, 0, 0, 0, 0.5, 1], [0, 0, 1, 0, 0.5, 1]], np.float32)
    model = read_glb(extract_small(replace(triangle(), coords=coords, attributes=attributes), texture_format="png").glb)
    left = model.positions[:, 0] < -0.1
    right = model.positions[:, 0] > 0.1
    at = (model.uv * len(model.colour)).astype(int).clip(0, len(model.colour) - 1)
    colour = model.colour[at[:, 1], at[:, 0]].astype(int)
    near = np.abs(model.positions[:, 1] - 0.3) < 0.15
    assert (colour[left & near, 0] > 250).all()
    assert (colour[right & near, 2] > 250).all()
    assert (left & near).any()
    assert (right & near).any()


def test_a_surface_far_from_every_voxel_has_their_mean_colour() -> None:
    """A plausible colour is better than black."""
    far = replace(triangle(), coords=np.array([[0, 15, 0]], np.int32), attributes=triangle().attributes[:1])
    colour = read_glb(extract_small(far).glb).colour[..., :3].reshape(-1, 3)
    assert np.abs(colour.astype(int) - np.array([204, 102, 51])).max() <= 3


def test_texels_far_from_every_voxel_are_dilated() -> None:
    """One filled cell at a corner of the triangle colours all of it."""
    one = replace(triangle(), coords=np.array([[7, 3, 7]], np.int32), attributes=triangle().attributes[:1])
    colour = read_glb(extract_small(one).glb).colour[..., :3].reshape(-1, 3)
    assert np.abs(colour.astype(int) - np.array([204, 102, 51])).max() <= 3
