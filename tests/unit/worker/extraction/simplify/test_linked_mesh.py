"""Links between the faces of a mesh, and the steps that change them."""

import numpy as np
import warp as wp

from bench.geometry.surfaces import knot
from worker.extraction.simplify import linked_mesh as lm
from worker.extraction.simplify.euler_operators import can_cut, collapse_edge, cut_cycle
from worker.extraction.simplify.linked_mesh import LinkedMesh

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


@wp.kernel
def _collapse(mesh: LinkedMesh, half_edge: wp.int32) -> None:
    collapse_edge(mesh, half_edge, mesh.vertices[mesh.half_edges[half_edge].vertex].position)


@wp.kernel
def _cut(mesh: LinkedMesh, u: wp.int32, v: wp.int32, w: wp.int32, added: wp.array[wp.vec3i]) -> None:
    a = lm.find_half_edge(mesh, u, v)
    b = lm.find_half_edge(mesh, v, w)
    c = lm.find_half_edge(mesh, w, u)
    if can_cut(mesh, a, b, c):
        added[0] = cut_cycle(mesh, a, b, c)


@wp.kernel
def _count(mesh: LinkedMesh, counts: wp.array[wp.int32]) -> None:
    v = wp.tid()
    counts[v] = 0
    if mesh.vertices[v].corner >= 0:
        counts[v] = lm.count_corners(mesh, v)


def check(mesh: LinkedMesh) -> None:
    """Assert that twins are mutual and run opposite ways, and that every vertex reaches all its corners."""
    vertex, twin = mesh.half_edges.numpy()["vertex"], mesh.half_edges.numpy()["twin"]
    end = np.roll(vertex.reshape(-1, 3), -1, axis=1).ravel()
    linked = np.flatnonzero(twin >= 0)
    assert (twin[twin[linked]] == linked).all()
    assert (vertex[linked] == end[twin[linked]]).all()
    counts = wp.zeros(len(mesh.vertices), dtype=wp.int32, device="cpu")
    wp.launch(_count, dim=len(counts), inputs=[mesh, counts], device="cpu")
    assert (counts.numpy() == np.bincount(vertex[vertex >= 0], minlength=len(counts))).all()


def tube() -> LinkedMesh:
    """A closed tube, linked."""
    surface = knot(40, 8, 32)
    return lm.link_mesh(surface.vertices, surface.faces)


def test_every_half_edge_of_a_closed_mesh_has_a_twin() -> None:
    """Twins, and one corner for each vertex."""
    mesh = tube()
    assert (mesh.half_edges.numpy()["twin"] >= 0).all()
    check(mesh)


def test_vertex_between_two_solids_is_separated() -> None:
    """Two tetrahedra that share a vertex: each gets its own, at the same position."""
    second = np.where(TETRAHEDRON == 0, 0, TETRAHEDRON + 3)
    positions = np.random.default_rng(1).uniform(size=(7, 3))
    mesh = lm.link_mesh(positions, np.concatenate([TETRAHEDRON, second]).astype(np.int32))
    check(mesh)
    assert len(mesh.vertices) == 8
    assert (mesh.vertices.numpy()["position"][7] == positions[0]).all()


def test_faces_at_an_edge_of_three_faces_are_not_linked() -> None:
    """None of them is the neighbour of another."""
    faces = np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]], np.int32)
    assert (lm.link_mesh(np.eye(5, 3), faces).half_edges.numpy()["twin"] == -1).all()


def test_solids_that_touch_at_an_edge_stay_closed() -> None:
    """Two tetrahedra with a common edge: its four faces are linked in pairs."""
    second = np.array([0, 1, 4, 5])[TETRAHEDRON]
    mesh = lm.link_mesh(np.random.default_rng(2).uniform(size=(6, 3)), np.concatenate([TETRAHEDRON, second]))
    assert (mesh.half_edges.numpy()["twin"] >= 0).all()
    check(mesh)


def test_collapse_removes_two_faces_and_a_vertex() -> None:
    """The links stay mutual."""
    mesh = tube()
    wp.launch(_collapse, dim=1, inputs=[mesh, 0], device="cpu")
    check(mesh)
    assert len(lm.list_faces(mesh)) == 2 * 40 * 8 - 2
    assert mesh.count.numpy().tolist() == [2 * 40 * 8 - 2, 2, 1]


def test_cut_closes_both_sides() -> None:
    """A prism of three sides, cut across its middle: two solids, each with a cap of its own."""
    faces = [[0, 2, 1], [6, 7, 8]]
    for row in (0, 3):
        for i in range(3):
            a, b = row + i, row + (i + 1) % 3
            faces += [[a, b, b + 3], [a, b + 3, a + 3]]
    positions = np.array([[np.cos(a), np.sin(a), z] for z in range(3) for a in 2 * np.pi / 3 * np.arange(3)])
    mesh = lm.link_mesh(positions, np.array(faces, np.int32))
    # Rows that earlier collapses would have freed.
    mesh.half_edges = wp.array(
        np.append(mesh.half_edges.numpy(), np.full(6, -1, lm.HalfEdge.numpy_dtype())), dtype=lm.HalfEdge
    )
    mesh.vertices = wp.array(
        np.append(mesh.vertices.numpy(), np.full(3, -1, lm.LinkedVertex.numpy_dtype())), dtype=lm.LinkedVertex
    )
    mesh.free_faces = wp.array([14, 15], dtype=wp.int32, device="cpu")
    mesh.free_vertices = wp.array([9, 10, 11], dtype=wp.int32, device="cpu")
    mesh.count = wp.array([14, 2, 3], dtype=wp.int32, device="cpu")
    new = wp.zeros(1, dtype=wp.vec3i, device="cpu")
    wp.launch(_cut, dim=1, inputs=[mesh, 3, 4, 5, new], device="cpu")
    check(mesh)
    assert sorted(new.numpy()[0].tolist()) == [9, 10, 11]
    assert (mesh.half_edges.numpy()["twin"] >= 0).all()
    upper = {
        vertex for face in lm.list_faces(mesh).tolist() if 9 in face or 10 in face or 11 in face for vertex in face
    }
    assert upper in ({6, 7, 8, 9, 10, 11}, {0, 1, 2, 9, 10, 11})
    assert (mesh.vertices.numpy()["position"][new.numpy()[0]] == positions[3:6]).all()
