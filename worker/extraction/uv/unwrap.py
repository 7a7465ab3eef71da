"""Lay a mesh out flat: charts by clustering, each projected along its mean normal, packed into the unit square."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.extraction.mesh.adjacency import chart_of_vertex, unique_keys
from worker.extraction.mesh.face_geometry import signed_areas_2d
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.uv.boundary_smoothing import straightened
from worker.extraction.uv.overlap import covering_twice, nudged, overlapping
from worker.extraction.uv.packing import pack
from worker.extraction.uv.segmentation import Limits, Patches, absorb, cluster
from worker.extraction.uv.tiny_charts import hosted, specks

Ints = NDArray[np.int64]

CONE_RAD = np.radians(76)  # wider: fewer seams, more stretch
MAX_CHART_SHARE = 1 / 8  # of the whole area: larger charts pack badly
SMALL_TEXELS = 64  # a chart of at most so many may join one that it leans from farther, as its stretch hardly matters:
WIDE_CONE_RAD = np.radians(85)
ABSORBED_SHARE = 0.002  # of the whole area: a chart up to so large joins a neighbour if it can; larger ones pack worse
CUT_SHARES = (0.6, 0.3, 0.15)  # of a chart that overlaps, for the largest of its parts; the last for all later cuts
SPECK_TEXELS = 8  # a chart of at most so many needs no place of its own
MAX_STRETCH = 4.0  # how much a chart may grow to make up for what its projection foreshortens
PACK_CELLS = 1024  # a side, at most: a finer grid packs closer, but on one core not enough for its time
PACK_CELLS_ON_GPU = 2048
GAP_TEXELS = 2  # at least, between charts: bilinear filtering reads a texel on either side
WIDEST_GAP_TEXELS = 16  # where there is room: what four mip levels make one texel of
EXPECTED_USE = 0.65  # of the texture, to tell how large a texel will be


@dataclass(frozen=True, slots=True)
class UvLayout:
    """A mesh with texture coordinates; vertices on seams are doubled.

    source: int64 [corners], the mesh's vertex that each new vertex is. uv: float32 [corners, 2] in [0, 1], v down.
    faces: int32 [faces, 3] into the new vertices, in the mesh's order. charts: how many have a place of their own.
    utilisation: the part of the texture that they cover.
    """

    source: Ints
    uv: NDArray[np.float32]
    faces: NDArray[np.int32]
    charts: int
    utilisation: float


def unwrap(
    vertices: NDArray[Any], faces: NDArray[np.int32], texture_px: int, device: str, step: ProgressCallback
) -> UvLayout:
    """Texture coordinates for every face: no two faces overlap, and texels are spread evenly over the area.

    Specks show the texture of a chart beside them.
    """
    patches = Patches.faces(vertices, faces, device)
    chart = _charted(patches, texture_px, device, lambda: step(0.2))
    largest = SPECK_TEXELS * patches.areas.sum() / (EXPECTED_USE * texture_px**2)
    aside = specks(faces, chart, patches.areas, largest, len(vertices))
    if not aside.any():
        return _laid_out(vertices, faces, patches, chart, texture_px, device, step)[0]
    rest = np.ascontiguousarray(faces[~aside])
    patches, name = Patches.faces(vertices, rest, device), np.unique(chart[~aside], return_inverse=True)[1]
    layout, name = _laid_out(vertices, rest, patches, name, texture_px, device, step)
    return _with_specks(layout, name, faces, chart, aside, texture_px, device)


def _laid_out(
    vertices: NDArray[Any],
    faces: NDArray[np.int32],
    patches: Patches,
    chart: Ints,
    texture_px: int,
    device: str,
    step: ProgressCallback,
) -> tuple[UvLayout, Ints]:
    """These charts, or as many more as it takes, side by side; and each face's."""
    step(0.5)
    cut_shares, known = chain(CUT_SHARES, repeat(CUT_SHARES[-1])), 0
    while True:
        flat = _flattened(vertices, faces, patches, chart, device)
        twice = overlapping(flat.uv[flat.faces], chart, texture_px, device, known=known)
        if not twice.any():
            uv = _packed(flat, chart, texture_px, device, lambda fraction: step(0.6 + 0.4 * fraction))
            uv, twice = nudged(uv, flat.faces, chart, texture_px, device)
        if not twice.any():
            return replace(flat, uv=uv, utilisation=float(np.abs(signed_areas_2d(uv[flat.faces])).sum())), chart
        step(0.5)
        chart, known = _cut(patches, chart, twice, next(cut_shares), device), int((~twice).sum())


def _with_specks(
    layout: UvLayout,
    chart: Ints,
    faces: NDArray[np.int32],
    named: Ints,
    aside: NDArray[np.bool_],
    texture_px: int,
    device: str,
) -> UvLayout:
    """The layout of all faces. chart: of those laid out; named: what all were gathered to before; aside: specks."""
    speck_of = np.unique(named[aside], return_inverse=True)[1]
    speck, source, own = _parted(faces[aside], speck_of, device)
    shared, point = hosted(
        source, speck, layout.source, chart_of_vertex(layout.faces, chart, len(layout.uv)), layout.uv
    )
    corners = np.empty_like(faces)
    corners[~aside], corners[aside] = layout.faces, len(layout.uv) + own
    whose = np.empty(len(faces), dtype=np.int64)
    whose[~aside], whose[aside] = chart, layout.charts + speck_of
    uv = np.concatenate([layout.uv, shared])
    crowds = covering_twice(uv[corners], whose, texture_px, device)[layout.charts :][speck]
    uv[len(layout.uv) :][crowds] = point[crowds]
    return replace(layout, source=np.concatenate([layout.source, source]), uv=uv, faces=corners)


def _charted(patches: Patches, texture_px: int, device: str, alive: Callable[[], object]) -> Ints:
    area = patches.areas.sum()
    texel = area / (EXPECTED_USE * texture_px**2)
    limits = [
        Limits(CONE_RAD, max_area=MAX_CHART_SHARE * area),
        Limits(WIDE_CONE_RAD, small_area=SMALL_TEXELS * texel),
    ]
    chart = cluster(patches, *limits, device=device, alive=alive)
    chart = absorb(patches, chart, Limits(CONE_RAD, MAX_CHART_SHARE * area, small_area=ABSORBED_SHARE * area), alive)
    return straightened(patches, chart, CONE_RAD, device)


def _packed(flat: UvLayout, chart: Ints, texture_px: int, device: str, step: ProgressCallback) -> NDArray[np.float32]:
    cells = min(texture_px, PACK_CELLS if device == "cpu" else PACK_CELLS_ON_GPU)
    return pack(
        flat.uv,
        flat.faces,
        chart,
        cells=cells,
        gap_cells=-(-GAP_TEXELS * cells // texture_px),
        widest_gap_cells=WIDEST_GAP_TEXELS * cells // texture_px,
        device=device,
        step=step,
    )


def _flattened(
    vertices: NDArray[Any], faces: NDArray[np.int32], patches: Patches, chart: Ints, device: str
) -> UvLayout:
    """Each chart in its own plane, scaled to the area that it has in space; coordinates in metres."""
    count, whole = int(chart.max()) + 1, patches.joined(chart)
    owner, source, corners = _parted(faces, chart, device)
    frame = _frames(whole.normals)
    flat = np.einsum("nd,nad->na", vertices[source].astype(np.float64), frame[owner])
    shadow = np.bincount(chart, np.abs(signed_areas_2d(flat[corners])), count)
    scale = np.minimum(np.sqrt(whole.areas / np.maximum(shadow, 1e-30)), MAX_STRETCH)
    return UvLayout(source, (flat * scale[owner][:, None]).astype(np.float32), corners, count, 0.0)


def _parted(faces: NDArray[np.int32], chart: Ints, device: str) -> tuple[Ints, Ints, NDArray[np.int32]]:
    """Vertices doubled where charts meet: the chart of each new one, its vertex before, and the faces on them."""
    vertex_count = int(faces.max()) + 1
    key, index = unique_keys((chart[:, None] * vertex_count + faces).ravel(), device)
    owner, source = np.divmod(key, vertex_count)
    return owner, source, index.reshape(-1, 3)


def _frames(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two unit vectors across each normal, right-handed with it; float64 [charts, 2, 3]."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    axis = np.where(length > 0, normals / np.maximum(length, 1e-30), [0.0, 1.0, 0.0])
    right = np.cross(np.eye(3)[np.abs(axis).argmin(axis=1)], axis)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(axis, right)], axis=1)


def _cut(patches: Patches, chart: Ints, twice: NDArray[np.bool_], share: float, device: str) -> Ints:
    """Cut charts that overlap into parts of at most a share of their area; down to single faces in the end.

    The charts that are left as they are come first.
    """
    again = twice[chart]
    one, other = patches.pairs.T
    inner = again[one] & (chart[one] == chart[other])
    area = np.maximum(np.bincount(chart, patches.areas), 1e-30)[chart]
    length = np.sqrt(area)
    alike = Patches(  # as if all of these charts had an area of 1
        areas=patches.areas / area,
        normals=patches.normals / area[:, None],
        outlines=patches.outlines / length,
        pairs=patches.pairs[inner],
        borders=patches.borders[inner] / length[one[inner]],
    )
    finer = cluster(alike, Limits(CONE_RAD, max_area=share), device=device)
    name = np.where(again, len(twice) + finer, chart)
    return np.unique(name, return_inverse=True)[1].astype(np.int64)
