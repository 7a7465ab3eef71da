"""Lay a mesh out flat: charts by clustering, each projected along its mean normal, packed into the unit square."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.extraction.around import distinct
from worker.extraction.asset import Step
from worker.extraction.charts import Patches, cluster
from worker.extraction.overlap import covering_twice, overlapping
from worker.extraction.pack import pack

Ints = NDArray[np.int64]

CONE_RAD = np.radians(58)  # wider: fewer seams, more stretch
NARROWEST_RAD = np.radians(5)  # a patch that overlaps even so is taken apart into its faces
MAX_CHART_SHARE = 1 / 32  # of the whole area: larger charts pack badly
MAX_STRETCH = 4.0  # how much a chart may grow to make up for what its projection foreshortens
PACK_CELLS = 1024  # a side, at most: a finer grid packs closer, but on one core not enough for its time
PACK_CELLS_ON_GPU = 2048
GAP_TEXELS = 2  # at least, between charts: bilinear filtering reads a texel on either side


@dataclass(frozen=True, slots=True)
class Layout:
    """A mesh with texture coordinates; vertices on seams are doubled.

    source: int64 [corners], the mesh's vertex that each new vertex is. uv: float32 [corners, 2] in [0, 1], v down.
    faces: int32 [faces, 3] into the new vertices, in the mesh's order. charts: how many. utilisation: the part of the
    texture that they cover.
    """

    source: Ints
    uv: NDArray[np.float32]
    faces: NDArray[np.int32]
    charts: int
    utilisation: float


def unwrap(vertices: NDArray[Any], faces: NDArray[np.int32], texture_px: int, device: str, step: Step) -> Layout:
    """Texture coordinates for every face: no two faces overlap, and texels are spread evenly over the area."""
    patches = Patches.faces(vertices, faces, device)
    max_area = patches.areas.sum() * MAX_CHART_SHARE
    cone_rad = CONE_RAD
    chart = cluster(patches, cone_rad=cone_rad, max_area=max_area, device=device, alive=lambda: step(0.2))
    step(0.5)
    while True:
        flat = _flattened(vertices, faces, patches, chart, device)
        twice = overlapping(flat.uv[flat.faces], chart, texture_px, device)
        if not twice.any():
            uv = _packed(flat, chart, texture_px, device, lambda fraction: step(0.6 + 0.4 * fraction))
            twice = covering_twice(uv[flat.faces], chart, texture_px, device)
        if not twice.any():
            return replace(flat, uv=uv, utilisation=float(np.abs(_areas(uv[flat.faces])).sum()))
        step(0.5)
        cone_rad /= 2
        chart = _narrowed(patches, chart, twice, cone_rad, max_area, device)


def _packed(flat: Layout, chart: Ints, texture_px: int, device: str, step: Step) -> NDArray[np.float32]:
    cells = min(texture_px, PACK_CELLS if device == "cpu" else PACK_CELLS_ON_GPU)
    gap_cells = -(-GAP_TEXELS * cells // texture_px)
    return pack(flat.uv, flat.faces, chart, cells=cells, gap_cells=gap_cells, device=device, step=step)


def _flattened(vertices: NDArray[Any], faces: NDArray[np.int32], patches: Patches, chart: Ints, device: str) -> Layout:
    """Each chart in its own plane, scaled to the area that it has in space; coordinates in metres."""
    vertex_count, count = len(vertices), int(chart.max()) + 1
    key, index = distinct((chart[:, None] * vertex_count + faces).ravel(), device)
    owner, source = np.divmod(key, vertex_count)
    corners = index.reshape(-1, 3)
    whole = patches.joined(chart)
    frame = _frames(whole.normals)
    flat = np.einsum("nd,nad->na", vertices[source].astype(np.float64), frame[owner])
    shadow = np.bincount(chart, np.abs(_areas(flat[corners])), count)
    scale = np.minimum(np.sqrt(whole.areas / np.maximum(shadow, 1e-30)), MAX_STRETCH)
    return Layout(source, (flat * scale[owner][:, None]).astype(np.float32), corners, count, 0.0)


def _frames(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two unit vectors across each normal, right-handed with it; float64 [charts, 2, 3]."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    axis = np.where(length > 0, normals / np.maximum(length, 1e-30), [0.0, 1.0, 0.0])
    right = np.cross(np.eye(3)[np.abs(axis).argmin(axis=1)], axis)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(axis, right)], axis=1)


def _areas(corners: NDArray[Any]) -> NDArray[np.float64]:
    one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas: NDArray[np.float64] = (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).astype(np.float64) / 2
    return areas


def _narrowed(
    patches: Patches, chart: Ints, twice: NDArray[np.bool_], cone_rad: float, max_area: float, device: str
) -> Ints:
    """Cluster the faces of overlapping charts again within a narrower cone; down to single faces in the end."""
    again = twice[chart]
    finer = np.arange(len(chart))
    if cone_rad > NARROWEST_RAD:
        apart = np.where(again, chart, -1 - finer)
        finer = cluster(patches, cone_rad=cone_rad, max_area=max_area, device=device, apart=apart)
    name = np.where(again, len(twice) + finer, chart)
    return np.unique(name, return_inverse=True)[1].astype(np.int64)
