"""Of a closed skin, the walls that something outside can reach; walls of sealed hollows are nobody's to see."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from worker.extraction import kernels


def reachable(vertices: NDArray[np.float32], faces: NDArray[np.int32], device: str) -> NDArray[np.bool_]:
    """Which faces of a closed, consistently wound skin border the open space around it; bool [faces].

    Each connected wall borders one region of space. A wall wound inward (its volume is negative) encloses its region.
    A wall wound outward shares its region with the first wall that a ray from its highest point meets going up; where
    the ray meets nothing, the region is the outside.
    """
    wall_count, wall = components(faces, len(vertices))
    face_wall = wall[faces[:, 0]]
    volume = np.bincount(face_wall, weights=signed_volumes(vertices, faces), minlength=wall_count)
    order = np.argsort(-vertices[:, 1], kind="stable")
    tops = order[np.unique(wall[order], return_index=True)[1]]
    above = np.full(wall_count, -1)
    asking = np.flatnonzero((volume > 0) & (tops != order[0]))  # nothing lies above the highest
    if len(asking):
        start = vertices[tops[asking]] + np.array([0, 1e-6, 0], dtype=np.float32)
        up = np.broadcast_to(np.array([0, 1, 0], dtype=np.float32), start.shape)
        hit, _ = kernels.first_hits(kernels.mesh(vertices, faces, device), start, up, reach=1e9)
        above[asking] = np.where(hit < 0, -1, face_wall[hit])
    return _open_walls(volume, above, vertices[tops, 1])[face_wall]


def components(faces: NDArray[Any], vertex_count: int) -> tuple[int, NDArray[np.int32]]:
    """How many connected pieces there are, and the piece of each vertex."""
    one, other = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(vertex_count, vertex_count))
    count, piece = connected_components(graph, directed=False)
    return int(count), piece


def signed_volumes(vertices: NDArray[Any], faces: NDArray[Any]) -> NDArray[np.float64]:
    """Each face's share of the enclosed volume, positive where the faces wind outward; float64 [faces]."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    volumes: NDArray[np.float64] = np.einsum("fd,fd->f", a, np.cross(b, c)) / 6
    return volumes


def _open_walls(volume: NDArray[Any], above: NDArray[Any], top: NDArray[Any]) -> NDArray[np.bool_]:
    """Decide from the highest wall down: what a wall sees above itself is higher, so already decided."""
    is_open = np.zeros(len(volume), dtype=bool)
    for wall in np.argsort(-top, kind="stable"):
        if volume[wall] > 0:
            is_open[wall] = above[wall] < 0 or above[wall] == wall or is_open[above[wall]]
    return is_open
