"""Simplification by serial edge collapse."""

from collections.abc import Callable

import numpy as np
import pytest

from bench.geometry.mesh_quality import count_edge_faces, volume
from bench.geometry.surfaces import knot, parts, sheet
from shared.errors import JobStopped
from worker.extraction.kernels import runtime
from worker.extraction.remesh.remesh import remesh
from worker.extraction.simplify.cpu import simplify

Mesh = tuple[np.ndarray, np.ndarray]


def run(mesh: Mesh, target: int) -> Mesh:
    """Simplify without a report."""
    return simplify(*mesh, target, lambda _: None)


def distances(mesh: Mesh, reference: Mesh) -> np.ndarray:
    """Distance of each vertex of the reference from the mesh."""
    return runtime.find_closest_points(runtime.build_bvh(*mesh, "cpu"), reference[0])[1]


def cylinder(radius: float, length: float, rows: int, around: int) -> Mesh:
    """A closed cylinder along x, centred at the origin; its ends are fans."""
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    circle = radius * np.stack([np.zeros(around), np.cos(angle), np.sin(angle)], axis=1)
    ends = np.array([[-length / 2, 0, 0], [length / 2, 0, 0]])
    steps = np.linspace(-length / 2, length / 2, rows)
    points = np.concatenate([*(circle + np.array([x, 0, 0]) for x in steps), ends])
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(around), indexing="ij")
    a, b = row * around + column, row * around + (column + 1) % around
    sides = np.concatenate([np.stack([a, b, a + around], -1), np.stack([b, b + around, a + around], -1)]).reshape(-1, 3)
    rim = np.arange(around)
    last = (rows - 1) * around
    left = np.stack([np.full(around, rows * around), (rim + 1) % around, rim], axis=1)
    right = np.stack([np.full(around, rows * around + 1), last + rim, last + (rim + 1) % around], axis=1)
    return points, np.concatenate([sides, left, right]).astype(np.int32)


def join(*meshes: Mesh) -> Mesh:
    """One mesh of several."""
    ends = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    faces = [faces + start for (_, faces), start in zip(meshes, ends, strict=False)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(faces).astype(np.int32)


def tetrahedron(size: float, centre: np.ndarray) -> Mesh:
    """Four vertices around a centre."""
    corners = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) * size
    return corners + centre, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


def wrap(mesh: Mesh) -> Mesh:
    """The remeshed surface, as jobs simplify it."""
    original = runtime.build_bvh(*mesh, "cpu")
    vertices, faces = remesh(
        original,
        target_faces=2_000,
        finest_cell_m=1 / 128,
        band=1.0,
        project=0.9,
        keep_hidden=False,
        step=lambda _: None,
    )
    return vertices.numpy(), faces.numpy()


def knot_mesh() -> Mesh:
    """A closed tube."""
    surface = knot(160, 80, 32)
    return surface.vertices, surface.faces


def parts_mesh() -> Mesh:
    """Forty solids that intersect."""
    surface = parts(40, 10, 128)
    return surface.vertices, surface.faces


def test_mesh_within_its_target_stays_as_it_is() -> None:
    """Nothing collapses."""
    vertices, faces = knot_mesh()
    simplified, kept = run((vertices, faces), len(faces))
    assert (kept == faces).all()
    assert (simplified == vertices).all()


@pytest.mark.parametrize("make", [knot_mesh, lambda: wrap(parts_mesh())], ids=["knot", "parts"])
@pytest.mark.parametrize("target", [500, 2_000])
def test_closed_mesh_stays_closed_and_meets_its_target(make: Callable[[], Mesh], target: int) -> None:
    """Every edge has two faces, and the target is met within two."""
    _, faces = run(make(), target)
    assert target - 1 <= len(faces) <= target
    assert {2} == set(count_edge_faces(faces).tolist())


def test_shape_is_kept() -> None:
    """The error falls with the square of the edges' length, so as 1 / target."""
    mesh = knot_mesh()
    for target in (1_000, 4_000):
        simplified = run(mesh, target)
        assert distances(simplified, mesh).mean() < 3 / target
        assert volume(*simplified) == pytest.approx(volume(*mesh), rel=0.02)


def test_flat_areas_lose_their_triangles_first() -> None:
    """Of a fine box, twelve triangles are enough."""
    cells = np.linspace(-0.4, 0.4, 12)
    u, v = (axis.ravel() for axis in np.meshgrid(cells, cells, indexing="ij"))
    i, j = (axis.ravel() for axis in np.meshgrid(np.arange(11), np.arange(11), indexing="ij"))
    a = 12 * i + j
    square = np.concatenate([np.stack([a, a + 12, a + 13], -1), np.stack([a, a + 13, a + 1], -1)])
    high = np.full_like(u, 0.4)
    sides = [(u, v, high), (v, u, -high), (high, u, v), (-high, v, u), (v, high, u), (u, -high, v)]
    points = np.round(np.concatenate([np.stack(side, -1) for side in sides]), 9)
    unique, index = np.unique(points, axis=0, return_inverse=True)
    faces = index.reshape(-1)[np.concatenate([square + 144 * side for side in range(6)])].astype(np.int32)
    assert {2} == set(count_edge_faces(faces).tolist())
    simplified = run((unique, faces), 12)
    assert len(simplified[1]) == 12
    assert distances(simplified, (unique, faces)).max() < 1e-4


def test_thin_tube_between_solids_is_cut() -> None:
    """Few triangles go to the solids; the neck that the collapse would pinch is cut, and both sides are closed."""
    points, faces = cylinder(0.01, 1.0, 200, 12)
    swollen = points * np.where(np.abs(points[:, :1]) > 0.2, [1, 25, 25], [1, 1, 1])
    simplified = run((swollen, faces), 120)
    assert {2} == set(count_edge_faces(simplified[1]).tolist())
    assert distances(simplified, (swollen[np.abs(swollen[:, 0]) > 0.21], faces)).max() < 0.05


def test_tiny_parts_go_before_the_large_one_suffers() -> None:
    """A thousand crumbs far from the tube get no triangles at its cost."""
    crumbs = [tetrahedron(5e-4, centre) for centre in np.random.default_rng(3).uniform(0.6, 0.9, (1_000, 3))]
    tube = cylinder(0.2, 1.0, 60, 40)
    simplified = run(join(tube, *crumbs), 400)
    assert len(simplified[1]) <= 400
    assert distances(simplified, tube).mean() < 0.004


def test_border_of_an_open_surface_keeps_its_outline() -> None:
    """The corners and the area of a flat sheet."""
    x, y = np.meshgrid(np.linspace(-0.4, 0.4, 30), np.linspace(-0.3, 0.3, 30), indexing="ij")
    i, j = (axis.ravel() for axis in np.meshgrid(np.arange(29), np.arange(29), indexing="ij"))
    a = 30 * i + j
    faces = np.concatenate([np.stack([a, a + 30, a + 31], -1), np.stack([a, a + 31, a + 1], -1)]).astype(np.int32)
    mesh = np.stack([x.ravel(), y.ravel(), np.zeros(900)], -1), faces
    simplified = run(mesh, 8)
    assert len(simplified[1]) <= 8
    assert distances(simplified, mesh).max() < 2e-5


def test_edge_with_three_faces_does_no_harm() -> None:
    """Its faces are borders; the target is met."""
    first, second = sheet(30, 32), sheet(30, 32)
    turned = second.vertices[:, [0, 2, 1]]
    vertices = np.concatenate([first.vertices, turned])
    faces = np.concatenate([first.faces, second.faces + len(first.vertices)])
    _, index = np.unique(np.round(vertices, 5), axis=0, return_inverse=True)
    merged = index.reshape(-1)[faces].astype(np.int32)
    unique = np.unique(np.round(vertices, 5), axis=0)
    assert len(run((unique, merged), 300)[1]) <= 300


def random_blocks(seed: int) -> Mesh:
    """The closed surface of random cells of a grid: solids that touch at edges and corners."""
    rng = np.random.default_rng(seed)
    cells = np.pad(rng.random((8, 8, 8)) < rng.uniform(0.1, 0.6), 1)
    quads = []
    for axis in range(3):
        u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
        for step in (1, -1):
            low = np.argwhere(np.diff(cells.astype(int), axis=axis) == step) + np.eye(3, dtype=int)[axis]
            quads.append(np.stack([low, low + u, low + u + v, low + v][::-step], axis=1))
    corners, index = np.unique(np.concatenate(quads).reshape(-1, 3), axis=0, return_inverse=True)
    a, b, c, d = index.reshape(-1, 4).T
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    return corners / 8 - 0.5, faces.astype(np.int32)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("target", [100, 20])
def test_solids_that_touch_stay_closed(seed: int, target: int) -> None:
    """Also where two edges have the same ends, or two faces all edges in common, on the way to few faces."""
    mesh = random_blocks(seed)
    simplified = run(mesh, target)
    assert 0 < len(simplified[1]) <= target
    assert np.count_nonzero(count_edge_faces(simplified[1]) % 2) == 0
    assert np.ptp(simplified[0], axis=0).max() <= np.ptp(mesh[0], axis=0).max() + 0.1


def test_loose_triangles_are_clustered() -> None:
    """A cloud of triangles without common edges: the largest cells that reach the target."""
    rng = np.random.default_rng(5)
    corners = rng.uniform(-0.4, 0.4, (3_000, 1, 3)) + rng.normal(0, 0.02, (3_000, 3, 3))
    faces = np.arange(9_000, dtype=np.int32).reshape(-1, 3)
    _, kept = run((corners.reshape(-1, 3), faces), 1_000)
    assert 0 < len(kept) <= 1_000


def test_cancel_passes_through() -> None:
    """What the report raises ends the work."""

    def stop(_: float) -> None:
        raise JobStopped

    with pytest.raises(JobStopped):
        simplify(*knot_mesh(), 1_000, stop)


def test_result_is_deterministic() -> None:
    """Equal meshes give equal bits."""
    first, second = run(knot_mesh(), 1_000), run(knot_mesh(), 1_000)
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
