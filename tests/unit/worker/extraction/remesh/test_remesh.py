"""The offset mesh of a surface, and which of its shells are kept."""

import numpy as np
import pytest

from bench.geometry.mesh_quality import count_edge_faces, volume
from bench.geometry.surfaces import noisy
from tests.unit.worker.extraction.conftest import triangle
from worker.engine import Surface
from worker.extraction.kernels import runtime
from worker.extraction.remesh.cavity_removal import exterior_faces
from worker.extraction.remesh.offset_surface import build_offset_mesh, sheet_table
from worker.extraction.remesh.remesh import remesh


def box(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """A cube between two corners, wound outward."""
    corners = np.array([[x, y, z] for x in (low, high) for y in (low, high) for z in (low, high)], np.float32)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return corners, np.array([half for a, b, c, d in sides for half in ((a, b, c), (a, c, d))], np.int32)


def joined(*meshes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Several meshes as one."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    faces = [faces + start for (_, faces), start in zip(meshes, starts, strict=False)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(faces).astype(np.int32)


def inward(mesh: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The same mesh wound the other way."""
    return mesh[0], mesh[1][:, ::-1]


def test_each_crossed_edge_of_a_cell_has_a_sheet() -> None:
    """No other edge has one. One inside corner gives one sheet, two opposite ones give two."""
    table = sheet_table()
    for case in range(256):
        inside = [case >> corner & 1 for corner in range(8)]
        crossings = sum(inside[corner] != inside[corner ^ 1 << axis] for axis in range(3) for corner in range(8))
        assert 2 * np.count_nonzero(table[case, :12] >= 0) == crossings
    assert [table[case, 12] for case in (0, 0b1, 0b10000001, 255)] == [0, 1, 2, 0]


def test_offset_mesh_of_a_sheet_keeps_its_distance() -> None:
    """On both sides, closed, and with every edge between two faces."""
    surface = runtime.build_bvh(triangle().vertices, triangle().faces, "cpu")
    vertices, quads = (each.numpy() for each in build_offset_mesh(surface, 0.01, 0.009, lambda _: None))
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    _, distance = runtime.find_closest_points(surface, vertices)
    assert np.abs(distance - 0.009).max() < 0.006
    assert set(count_edge_faces(faces)) == {2}
    assert volume(vertices, faces) == pytest.approx(0.18 * 0.018, rel=0.2)


@pytest.mark.parametrize(
    ("meshes", "kept"),
    [
        ([box(-1, 1)], [True]),
        ([box(-2, 2), inward(box(-1, 1))], [True, False]),
        ([box(-3, 3), inward(box(-2, 2)), box(-1, 1)], [True, False, False]),
        ([box(-3, 3), inward(box(-2, 2)), box(-1.5, -1), box(0, 0.5)], [True, False, False, False]),
        ([box(-1, 1), box(2, 3), box(4, 5)], [True, True, True]),
    ],
    ids=["block", "cavity", "block in a cavity", "two blocks in a cavity", "side by side"],
)
def test_exterior_faces_exclude_sealed_cavities(meshes: list[tuple[np.ndarray, np.ndarray]], kept: list[bool]) -> None:
    """The shell of a cavity is not exterior, nor is anything inside the cavity."""
    vertices, faces = joined(*meshes)
    flags = exterior_faces(runtime.to_vec3(vertices, "cpu"), runtime.to_int32(faces, "cpu"))
    assert flags.numpy().tolist() == np.repeat(kept, 12).tolist()


def remeshed(
    vertices: np.ndarray, faces: np.ndarray, *, project: float = 0.0, keep_hidden: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Remesh a surface in cells of 1/64 m."""
    new, triangles = remesh(
        runtime.build_bvh(vertices, faces, "cpu"),
        target_faces=1_000,
        finest_cell_m=1 / 64,
        band=1.0,
        project=project,
        keep_hidden=keep_hidden,
        step=lambda _: None,
    )
    return new.numpy(), triangles.numpy()


def test_closed_surface_keeps_its_outer_side() -> None:
    """The inner half of the offset mesh is dropped, and the outer one moves back onto the surface."""
    vertices, faces = box(-0.3, 0.3)
    new, triangles = remeshed(vertices, faces)
    _, distance = runtime.find_closest_points(runtime.build_bvh(vertices, faces, "cpu"), new)
    assert distance.max() < 1e-5
    assert volume(new, triangles) == pytest.approx(0.6**3, rel=0.01)


def test_hidden_shells_are_kept_on_request() -> None:
    """As in TRELLIS.2: both sides of a closed surface, half a cell apart, and twice the faces."""
    vertices, faces = box(-0.3, 0.3)
    new, triangles = remeshed(vertices, faces, keep_hidden=True)
    _, distance = runtime.find_closest_points(runtime.build_bvh(vertices, faces, "cpu"), new)
    assert len(triangles) == pytest.approx(2 * len(remeshed(vertices, faces)[1]), rel=0.1)
    assert distance.max() < 0.5 / 64
    assert set(count_edge_faces(triangles)) == {2}
    assert volume(new, triangles) == pytest.approx(6 * 0.6**2 * 0.5 / 64, rel=0.1)


def test_rough_surface_is_remeshed_in_finer_cells() -> None:
    """Where the offset mesh bridges the detail, finer cells bring it nearer to the surface than coarse ones could."""
    rough = noisy(400, 100, 128)
    new, triangles = remesh(
        runtime.build_bvh(rough.vertices, rough.faces, "cpu"),
        target_faces=20_000,
        finest_cell_m=1 / 512,
        band=1.0,
        project=0.0,
        keep_hidden=False,
        step=lambda _: None,
    )
    middles = new.numpy()[triangles.numpy()].mean(axis=1)
    _, distance = runtime.find_closest_points(runtime.build_bvh(rough.vertices, rough.faces, "cpu"), middles)
    assert distance.mean() < 0.4e-3  # 0.7e-3 in coarse cells


@pytest.mark.parametrize(("project", "thickness"), [(0.0, 0.25 / 64), (0.5, 0.125 / 64), (1.0, 0.0)])
def test_open_sheet_keeps_two_sides(project: float, thickness: float) -> None:
    """A quarter of a cell off on each side, unless `project` makes them coincide."""
    sheet: Surface = triangle()
    new, triangles = remeshed(sheet.vertices, sheet.faces, project=project)
    middle = np.abs(new[:, :2]).max(axis=1) < 0.1
    assert np.abs(new[middle, 2]) == pytest.approx(thickness, abs=1e-5)
    assert set(count_edge_faces(triangles)) == {2}
