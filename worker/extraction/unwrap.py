"""Lay a mesh out flat: charts by clustering, each projected along its mean normal, packed by xatlas."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xatlas
from numpy.typing import NDArray

from worker.extraction.charts import Facets, cluster
from worker.extraction.overlap import overlapping

CONE_RAD = np.radians(58)  # wider: fewer seams, more stretch
MAX_CHART_SHARE = 1 / 16  # of the whole area: larger charts pack badly
PACK_PX = 1024  # packing in coarser steps than texels is quicker and leaves a wider gap
GAP_PX = 2  # at PACK_PX
FILL = 0.68  # what packing is expected to reach; only the first guess of the scale hangs on it


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


def unwrap(vertices: NDArray[Any], faces: NDArray[np.int32], device: str) -> Layout:
    """Texture coordinates for every face: no two faces overlap, and texels are spread evenly over the area."""
    facets = Facets.of(vertices, faces)
    chart = cluster(facets, cone_rad=CONE_RAD, max_area=facets.areas.sum() * MAX_CHART_SHARE)
    flat = _project(vertices, faces, facets, chart)
    cone = CONE_RAD
    while (twice := overlapping(flat, chart, device)).any():
        cone /= 2
        chart = _split(facets, chart, twice, cone)
        flat = _project(vertices, faces, facets, chart)
    return _pack(flat, faces, chart)


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


def _pack(flat: NDArray[np.float32], faces: NDArray[np.int32], chart: NDArray[Any]) -> Layout:
    key, corner, index = np.unique(
        chart[:, None] * (int(faces.max()) + 1) + faces, return_index=True, return_inverse=True
    )
    area = np.abs(_areas(flat)).sum()
    atlas = xatlas.Atlas()
    atlas.add_uv_mesh(
        flat.reshape(-1, 2)[corner], index.reshape(-1, 3).astype(np.uint32), chart[:, None].astype(np.uint32)
    )
    options = xatlas.PackOptions()
    options.padding = GAP_PX
    options.texels_per_unit = PACK_PX * np.sqrt(FILL / area)
    options.create_image = False
    atlas.generate(pack_options=options)
    mapping, packed, uv = atlas.get_mesh(0)
    side = max(atlas.width, atlas.height)
    return Layout(
        source=(key % (int(faces.max()) + 1))[mapping],
        uv=(uv * [atlas.width / side, atlas.height / side]).astype(np.float32),
        faces=packed.astype(np.int32),
        charts=atlas.chart_count,
        utilisation=float(atlas.utilization * atlas.width * atlas.height / side**2),
    )
