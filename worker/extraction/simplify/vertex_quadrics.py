"""The quadrics of a linked mesh's vertices: of its faces as they are now, and of what the original must not lose.

Quadrics of the present faces alone (Lindstrom and Turk, Fast and Memory Efficient Polygonal Simplification, 1998) give
three quarters of the error of sums over all faces that were there before. But they forget: a thin sheet loses its rim
step by step. So a fifth of the original faces' quadrics is kept, with planes that hold creases and boundaries.
"""

import warp as wp

from worker.extraction.simplify import linked_mesh as lm
from worker.extraction.simplify.euler_operators import collapse_edge
from worker.extraction.simplify.linked_mesh import NONE, LinkedMesh
from worker.extraction.simplify.quadrics import Quadric, plane_quadric

ORIGINAL_WEIGHT = wp.constant(wp.float64(0.2))  # of the original faces
BOUNDARY_WEIGHT = wp.constant(wp.float64(10.0))  # of planes at boundary edges; both are multiplied by the edge's
CREASE_WEIGHT = wp.constant(wp.float64(0.1))  # squared length, so that a rim counts however narrow its faces are
CREASE_COS = wp.constant(wp.float64(0.3))  # an edge that bends by more than 72 degrees is a crease


@wp.struct
class VertexQuadric:
    """present: of the faces as they are now. original: of what was there, summed at a collapse."""

    present: Quadric
    original: Quadric


@wp.struct
class VertexQuadrics:
    """The quadrics by vertex; a struct, so that functions change the array of their caller."""

    rows: wp.array[VertexQuadric]


def sum_quadrics(mesh: LinkedMesh) -> VertexQuadrics:
    """Compute the quadrics of a mesh's vertices, on the CPU."""
    quadrics = VertexQuadrics()
    quadrics.rows = wp.zeros(len(mesh.vertices), dtype=VertexQuadric, device="cpu")
    wp.launch(_sum_quadrics, dim=len(mesh.vertices), inputs=[mesh, quadrics], device="cpu")
    return quadrics


@wp.func
def _face_normal(mesh: LinkedMesh, corner: wp.int32) -> wp.vec3d:
    """Return a face's normal, with its double area as length."""
    here = mesh.vertices[mesh.half_edges[corner].vertex].position
    ahead = mesh.vertices[mesh.half_edges[lm.next_corner(corner)].vertex].position - here
    back = mesh.vertices[mesh.half_edges[lm.previous_corner(corner)].vertex].position - here
    return wp.cross(ahead, back)


@wp.func
def _outline_quadric(mesh: LinkedMesh, half_edge: wp.int32) -> Quadric:
    """Return the quadric that holds one edge: the upright plane of a boundary, both faces' planes of a crease."""
    result = Quadric()
    here = mesh.vertices[mesh.half_edges[half_edge].vertex].position
    along = mesh.vertices[mesh.half_edges[lm.next_corner(half_edge)].vertex].position - here
    n = wp.normalize(_face_normal(mesh, half_edge))
    twin = mesh.half_edges[half_edge].twin
    if twin < 0:
        upright = wp.normalize(wp.cross(n, along))
        result = plane_quadric(upright, here, BOUNDARY_WEIGHT * wp.length_sq(along))
    else:
        m = wp.normalize(_face_normal(mesh, twin))
        if wp.dot(n, m) < CREASE_COS:
            weight = CREASE_WEIGHT * wp.length_sq(along)
            result = plane_quadric(n, here, weight) + plane_quadric(m, here, weight)
    return result


@wp.kernel
def _sum_quadrics(mesh: LinkedMesh, quadrics: VertexQuadrics) -> None:
    """Sum the quadrics of one vertex."""
    v = wp.tid()
    faces = Quadric()
    outline = Quadric()
    if mesh.vertices[v].corner >= 0:
        first = lm.first_corner(mesh, v)
        c = int(first)
        while c >= 0:
            # 1. The face's plane, weighted by its double area.
            n = _face_normal(mesh, c)
            double_area = wp.length(n)
            if double_area > wp.float64(0.0):
                faces += plane_quadric(n / double_area, mesh.vertices[v].position, double_area)
            # 2. The edge that leaves the vertex, and on a boundary the one that reaches it.
            outline += _outline_quadric(mesh, c)
            if mesh.half_edges[lm.previous_corner(c)].twin < 0:
                outline += _outline_quadric(mesh, lm.previous_corner(c))
            c = lm.following_corner(mesh, c, first)
    quadrics.rows[v].present = faces
    quadrics.rows[v].original = faces * ORIGINAL_WEIGHT + outline


@wp.func
def edge_quadric(mesh: LinkedMesh, quadrics: VertexQuadrics, half_edge: wp.int32) -> Quadric:
    """Return the sum of the quadrics at both ends of an edge."""
    u = mesh.half_edges[half_edge].vertex
    v = mesh.half_edges[lm.next_corner(half_edge)].vertex
    return quadrics.rows[u].present + quadrics.rows[v].present + quadrics.rows[u].original + quadrics.rows[v].original


@wp.func
def _add_faces_around(
    mesh: LinkedMesh, quadrics: VertexQuadrics, v: wp.int32, without: wp.int32, sign: wp.float64
) -> None:
    """Add the planes of the faces at v, but not of those at `without`, to their three vertices."""
    first = lm.first_corner(mesh, v)
    c = int(first)
    while c >= 0:
        a = mesh.half_edges[lm.next_corner(c)].vertex
        b = mesh.half_edges[lm.previous_corner(c)].vertex
        n = _face_normal(mesh, c)
        double_area = wp.length(n)
        if a != without and b != without and double_area > wp.float64(0.0):
            plane = plane_quadric(n / double_area, mesh.vertices[v].position, sign * double_area)
            quadrics.rows[v].present = quadrics.rows[v].present + plane
            quadrics.rows[a].present = quadrics.rows[a].present + plane
            quadrics.rows[b].present = quadrics.rows[b].present + plane
        c = lm.following_corner(mesh, c, first)


@wp.func
def collapse_with_quadrics(mesh: LinkedMesh, quadrics: VertexQuadrics, half_edge: wp.int32, position: wp.vec3d) -> None:
    """Collapse an edge, and bring the quadrics around it up to date."""
    u = mesh.half_edges[half_edge].vertex
    v = mesh.half_edges[lm.next_corner(half_edge)].vertex
    # 1. Take the planes of all faces that will change out of their vertices.
    _add_faces_around(mesh, quadrics, u, NONE, wp.float64(-1.0))
    _add_faces_around(mesh, quadrics, v, u, wp.float64(-1.0))
    collapse_edge(mesh, half_edge, position)
    # 2. What was at both ends of the original is at the vertex that remains.
    quadrics.rows[u].original = quadrics.rows[u].original + quadrics.rows[v].original
    # 3. Add the planes of the faces as they are now. The vertex itself has only those.
    quadrics.rows[u].present = Quadric()
    if mesh.vertices[u].corner >= 0:
        _add_faces_around(mesh, quadrics, u, NONE, wp.float64(1.0))


@wp.func
def copy_quadrics(quadrics: VertexQuadrics, source: wp.int32, copy: wp.int32) -> None:
    """Give the copy of a vertex the same quadrics."""
    quadrics.rows[copy].present = quadrics.rows[source].present
    quadrics.rows[copy].original = quadrics.rows[source].original
