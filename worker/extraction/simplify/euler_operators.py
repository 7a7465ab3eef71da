"""Operators that change a linked mesh and keep it manifold: collapse an edge, cut a neck, remove a component.

They are known as Euler operators (Mäntylä, An Introduction to Solid Modeling, 1988).
"""

import warp as wp

from worker.extraction.simplify.linked_mesh import (
    NONE,
    LinkedMesh,
    count_edges,
    first_corner,
    following_corner,
    is_boundary_vertex,
    next_corner,
    previous_corner,
)

NEW_VERTICES = 3  # of a cut: the copies of the cycle's vertices
NEW_FACES = 2  # its caps


@wp.func
def _remove_face(mesh: LinkedMesh, half_edge: wp.int32) -> wp.int32:
    """Remove the face of a half-edge u -> v whose ends are one vertex already, and link what is across its other sides.

    Return a corner at u that is left, or -1.
    """
    ahead = mesh.half_edges[next_corner(half_edge)].twin
    back = mesh.half_edges[previous_corner(half_edge)].twin
    apex = mesh.half_edges[previous_corner(half_edge)].vertex
    # 1. Link the two faces across the other sides; -1 passes through.
    at_u = int(NONE)
    at_apex = int(NONE)
    if ahead >= 0:
        mesh.half_edges[ahead].twin = back
        at_apex = ahead
        at_u = next_corner(ahead)
    if back >= 0:
        mesh.half_edges[back].twin = ahead
        at_apex = next_corner(back)
        at_u = back
    mesh.vertices[apex].corner = at_apex
    if at_apex < 0:
        _free_vertex(mesh, apex)
    # 2. Free the row.
    _free_face(mesh, half_edge / 3)
    return at_u


@wp.func
def _free_vertex(mesh: LinkedMesh, v: wp.int32) -> None:
    mesh.vertices[v].corner = NONE
    mesh.free_vertices[mesh.count[2]] = v
    mesh.count[2] = mesh.count[2] + 1


@wp.func
def _free_face(mesh: LinkedMesh, face: wp.int32) -> None:
    for column in range(3):
        mesh.half_edges[3 * face + column].vertex = NONE
        mesh.half_edges[3 * face + column].twin = NONE
    mesh.free_faces[mesh.count[1]] = face
    mesh.count[1] = mesh.count[1] + 1
    mesh.count[0] = mesh.count[0] - 1


@wp.func
def collapse_edge(mesh: LinkedMesh, half_edge: wp.int32, position: wp.vec3d) -> None:
    """Collapse an edge into its start, which moves to `position`. The edge must satisfy the link condition."""
    u = mesh.half_edges[half_edge].vertex
    v = mesh.half_edges[next_corner(half_edge)].vertex
    twin = mesh.half_edges[half_edge].twin
    # 1. All corners at v become corners at u.
    first = first_corner(mesh, v)
    c = int(first)
    while c >= 0:
        following = following_corner(mesh, c, first)
        mesh.half_edges[c].vertex = u
        c = following
    # 2. The faces at the edge go.
    at_u = _remove_face(mesh, half_edge)
    if twin >= 0:
        other = _remove_face(mesh, twin)
        # The corner that the first call returned may have been in the second face.
        if at_u < 0 or mesh.half_edges[wp.max(at_u, 0)].vertex < 0:
            at_u = other
    mesh.vertices[u].corner = at_u
    mesh.vertices[u].position = position
    _free_vertex(mesh, v)
    if at_u < 0:
        _free_vertex(mesh, u)


@wp.func
def remove_component(mesh: LinkedMesh, half_edge: wp.int32) -> None:
    """Remove a lone face, two faces that have all edges in common, or the four faces of a tetrahedron."""
    face = half_edge / 3
    twin = mesh.half_edges[half_edge].twin
    # 1. The face's vertices, and the tetrahedron's fourth.
    for column in range(3):
        _free_vertex(mesh, mesh.half_edges[3 * face + column].vertex)
    if twin >= 0:
        apex = mesh.half_edges[previous_corner(twin)].vertex
        if mesh.vertices[apex].corner >= 0:
            _free_vertex(mesh, apex)
    # 2. The faces across its sides, each once, and the face itself.
    for column in range(3):
        across = mesh.half_edges[3 * face + column].twin
        if across >= 0 and mesh.half_edges[wp.max(across, 0)].vertex >= 0:
            _free_face(mesh, across / 3)
    _free_face(mesh, face)


@wp.func
def can_cut(mesh: LinkedMesh, a: wp.int32, b: wp.int32, c: wp.int32) -> wp.bool:
    """Return whether the mesh can be cut along three half-edges: none is a boundary, and rows are left."""
    if a < 0 or b < 0 or c < 0:
        return False
    u = mesh.half_edges[a].vertex
    w = mesh.half_edges[c].vertex
    if count_edges(mesh, mesh.half_edges[b].vertex, w) > 1 or count_edges(mesh, w, u) > 1:
        return False
    if mesh.half_edges[a].twin < 0 or mesh.half_edges[b].twin < 0 or mesh.half_edges[c].twin < 0:
        return False
    if (
        is_boundary_vertex(mesh, u)
        or is_boundary_vertex(mesh, w)
        or is_boundary_vertex(mesh, mesh.half_edges[b].vertex)
    ):
        return False
    return mesh.count[1] >= wp.static(NEW_FACES) and mesh.count[2] >= wp.static(NEW_VERTICES)


@wp.func
def _split_vertex(mesh: LinkedMesh, leaving: wp.int32, arriving: wp.int32) -> wp.int32:
    """Move the corners left of the path arriving -> leaving at a vertex to a new vertex, and return it."""
    v = mesh.half_edges[leaving].vertex
    mesh.count[2] = mesh.count[2] - 1
    new = mesh.free_vertices[mesh.count[2]]
    mesh.vertices[new].position = mesh.vertices[v].position
    mesh.vertices[new].corner = leaving
    # The other side begins behind the edge.
    mesh.vertices[v].corner = next_corner(mesh.half_edges[leaving].twin)
    c = int(leaving)
    while c >= 0:
        mesh.half_edges[c].vertex = new
        c = wp.where(previous_corner(c) == arriving, NONE, mesh.half_edges[previous_corner(c)].twin)
    return new


@wp.func
def _add_cap(mesh: LinkedMesh, a: wp.int32, b: wp.int32, c: wp.int32) -> None:
    """Add the face that runs along three half-edges in the opposite direction."""
    mesh.count[1] = mesh.count[1] - 1
    mesh.count[0] = mesh.count[0] + 1
    corner = 3 * mesh.free_faces[mesh.count[1]]
    # Its half-edges end where theirs start: twin of a, then of c, then of b.
    _link(mesh, corner, a)
    _link(mesh, corner + 1, c)
    _link(mesh, corner + 2, b)


@wp.func
def _link(mesh: LinkedMesh, corner: wp.int32, twin: wp.int32) -> None:
    mesh.half_edges[corner].vertex = mesh.half_edges[next_corner(twin)].vertex
    mesh.half_edges[corner].twin = twin
    mesh.half_edges[twin].twin = corner


@wp.func
def cut_cycle(mesh: LinkedMesh, a: wp.int32, b: wp.int32, c: wp.int32) -> wp.vec3i:
    """Cut the mesh along the cycle of half-edges a, b, c, which no face fills, and close both sides with a triangle.

    Return the three new vertices, at the starts of a, b and c; they are on the left side of the cycle.
    """
    right_a = mesh.half_edges[a].twin
    right_b = mesh.half_edges[b].twin
    right_c = mesh.half_edges[c].twin
    # 1. The left side gets vertices of its own.
    new_a = _split_vertex(mesh, a, c)
    new_b = _split_vertex(mesh, b, a)
    new_c = _split_vertex(mesh, c, b)
    # 2. Both sides get a cap. On the right, the cycle runs the other way.
    _add_cap(mesh, a, b, c)
    _add_cap(mesh, right_a, right_c, right_b)
    return wp.vec3i(new_a, new_b, new_c)
