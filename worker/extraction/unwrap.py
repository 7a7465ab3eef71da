"""Lay a mesh out flat: charts by clustering, each projected along its mean normal, packed into the unit square."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.extraction.charts import Facets, cluster
from worker.extraction.overlap import overlapping
from worker.extraction.pack import pack

CONE_RAD = np.radians(58)  # wider: fewer seams, more stretch
MAX_CHART_SHARE = 1 / 32  # of the whole area: larger charts pack badly
PACK_CELLS = 1024  # a side, at most: a finer grid packs no closer worth its time
GAP_TEXELS = 2  # at least, between charts: bilinear filtering reads a texel on either side


@dataclass(frozen=True, slots=True)
class Layout:
    """A mesh with texture coordinates; vertices on seams are doubled.

    source: int64 [corners], the mesh's vertex that each new vertex is. uv: float32 [corners, 2] in [0, 1], v down.
    faces: int32 [faces, 3] into the new vertices, in the mesh's order. charts: how many. utilisation: the part of the
    texture that they cover.
    """

    source: NDArray[np.int64]
    uv: NDArray[np.float32]
    faces: NDArray[np.int32]
    charts: int
    utilisation: float


def unwrap(vertices: NDArray[Any], faces: NDArray[np.int32], texture_px: int, device: str) -> Layout:
    """Texture coordinates for every face: no two faces overlap, and texels are spread evenly over the area."""
    facets = Facets.of(vertices, faces)
    chart = cluster(facets, cone_rad=CONE_RAD, max_area=facets.areas.sum() * MAX_CHART_SHARE)
    flat = _project(vertices, faces, facets, chart)
    cone = CONE_RAD
    while (twice := overlapping(flat, chart, device)).any():
        cone /= 2
        chart = _split(facets, chart, twice, cone)
        flat = _project(vertices, faces, facets, chart)
    cells = min(texture_px, PACK_CELLS)
    gap_cells = -(-GAP_TEXELS * cells // texture_px)
    return _laid_out(pack(flat, chart, cells=cells, gap_cells=gap_cells), faces, chart)


def _project(vertices: NDArray[Any], faces: NDArray[Any], facets: Facets, chart: NDArray[Any]) -> NDArray[np.float32]:
    """Each face's corners in its chart's plane, scaled to the area it has in space; float32 [faces, 3, 2]."""
    axis = np.stack([np.bincount(chart, facets.normals[:, d] * facets.areas) for d in range(3)], axis=1)
    length = np.linalg.norm(axis, axis=1, keepdims=True)
    axis = np.where(length > 0, axis / np.maximum(length, 1e-30), [0.0, 1.0, 0.0])
    least = np.eye(3)[np.abs(axis).argmin(axis=1)]
    right = np.cross(least, axis)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    frame = np.stack([right, np.cross(axis, right)], axis=1)
    corners = vertices[faces].astype(np.float64)
    flat = np.einsum("fcd,fad->fca", corners, frame[chart])
    shadow = np.bincount(chart, np.abs(_areas(flat)))
    scale = np.sqrt(np.bincount(chart, facets.areas) / np.maximum(shadow, 1e-30))
    scaled: NDArray[Any] = flat * np.minimum(scale, 4)[chart][:, None, None]
    return scaled.astype(np.float32)


def _areas(flat: NDArray[Any]) -> NDArray[np.float64]:
    one, other = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    areas: NDArray[np.float64] = (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).astype(np.float64) / 2
    return areas


def _split(facets: Facets, chart: NDArray[Any], twice: NDArray[np.bool_], cone_rad: float) -> NDArray[np.int64]:
    """Cluster the faces of overlapping charts again within a narrower cone; down to single faces in the end."""
    again = twice[chart]
    alone = np.where(again, len(twice) + np.arange(len(chart)), chart)
    start = np.unique(alone, return_inverse=True)[1]
    if cone_rad < np.radians(5):
        return start
    inside = np.bincount(start, again) > 0
    return cluster(facets, cone_rad=cone_rad, max_area=facets.areas.sum() * MAX_CHART_SHARE, start=start, free=inside)


def _laid_out(flat: NDArray[np.float32], faces: NDArray[np.int32], chart: NDArray[Any]) -> Layout:
    """Corners of one vertex in one chart become one vertex."""
    vertex_count = int(faces.max()) + 1
    key, corner, index = np.unique(chart[:, None] * vertex_count + faces, return_index=True, return_inverse=True)
    return Layout(
        source=(key % vertex_count).astype(np.int64),
        uv=np.clip(flat.reshape(-1, 2)[corner], 0, 1),
        faces=index.reshape(-1, 3).astype(np.int32),
        charts=int(chart.max()) + 1,
        utilisation=float(np.abs(_areas(flat)).sum()),
    )
