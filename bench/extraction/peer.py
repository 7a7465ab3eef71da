"""Extraction as one would write it in an afternoon from good libraries: the peer to measure against.

Quadric simplification, xatlas for texture coordinates, the nearest voxel of each texel from a k-d tree, the nearest
filled texel for the gaps. No remeshing: the simplified surface is taken as it is.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import fast_simplification
import numpy as np
import xatlas
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from worker.engine import Surface
from worker.extraction import Provenance
from worker.extraction.formats import glb
from worker.extraction.mesh.geometry import vertex_normals
from worker.extraction.model.asset import Mesh
from worker.extraction.texture import encoding


class Peer:
    """One run. timings: seconds by phase. body: the GLB."""

    def __init__(self, surface: Surface, triangles: int, texture_px: int) -> None:
        self.timings: dict[str, float] = {}
        with self._phase("simplify"):
            vertices, faces = fast_simplification.simplify(surface.vertices, surface.faces, target_count=triangles)
        with self._phase("unwrap"):
            source, corners, uv = xatlas.parametrize(vertices.astype(np.float32), faces.astype(np.uint32))
        place = vertices[source]
        corners = corners.astype(np.int32)
        with self._phase("bake"):
            texels, known = _bake(surface, place, corners, uv, texture_px)
            rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
            texels = texels[rows, columns]
        with self._phase("textures"):
            colour = encoding.encode_base_colour(texels, "OPAQUE", "auto")
            finish = encoding.encode_metallic_roughness(texels, "auto")
        with self._phase("write"):
            normal = vertex_normals(vertices, faces, corners)
            mesh = Mesh(place.astype(np.float32), normal, uv, corners, np.zeros(3), False, 0.0, 0)
            self.body = glb.write(mesh, colour, finish, "OPAQUE", Provenance(0, "peer", None, "peer"))

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.timings[name] = time.perf_counter() - begun


def _bake(
    surface: Surface, place: NDArray[np.float64], faces: NDArray[np.int32], uv: NDArray[np.float32], side: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Fill the texels under each face, one face after the other, then colour them all from the nearest voxel."""
    point = np.zeros((side, side, 3))
    known = np.zeros((side, side), dtype=bool)
    for (a, b, c), corner in zip(uv[faces].astype(np.float64) * side, place[faces], strict=True):
        low, high = np.floor(np.minimum(np.minimum(a, b), c)), np.ceil(np.maximum(np.maximum(a, b), c))
        x = np.arange(low[0], high[0]) + 0.5
        y = np.arange(low[1], high[1])[:, None] + 0.5
        double = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if double == 0:
            continue
        v = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / double
        w = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / double
        row, column = np.nonzero((v >= 0) & (w >= 0) & (v + w <= 1))
        weight = np.stack([1 - v[row, column] - w[row, column], v[row, column], w[row, column]], axis=1)
        row, column = row + int(low[1]), column + int(low[0])
        point[row, column] = weight @ corner
        known[row, column] = True
    cells = cKDTree((surface.coords + 0.5) / surface.resolution - 0.5)
    _, nearest = cells.query(point[known])
    texels = np.zeros((side, side, 6), dtype=np.uint8)
    texels[known] = np.round(surface.attributes[nearest] * 255)
    return texels, known
