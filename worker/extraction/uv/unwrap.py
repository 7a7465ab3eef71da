"""Unwrap a mesh: segment it into charts, project each along its mean normal, and pack them into the unit square.

Charts that overlap after the projection are cut until none does. Tiny charts get no space of their own: they show the
texture of a neighbour (`_attach_tiny_charts`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.extraction.mesh.geometry import signed_areas_2d
from worker.extraction.mesh.topology import chart_of_vertex, unique_keys
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.uv.overlap import find_self_overlaps, find_shared_texels, resolve_shared_texels
from worker.extraction.uv.packing import pack
from worker.extraction.uv.patches import ChartLimits, Patches
from worker.extraction.uv.refinement import merge_small, smooth_boundaries
from worker.extraction.uv.segmentation import cluster

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONE_RAD = np.radians(76)  # wider: fewer seams, more stretch
MAX_CHART_SHARE = 1 / 8  # of the whole area: larger charts pack badly
SMALL_TEXELS = 64  # a chart of at most so many texels may use WIDE_CONE_RAD, as its stretch hardly matters
WIDE_CONE_RAD = np.radians(85)
MERGED_SHARE = 0.002  # of the whole area: a chart of at most this joins a neighbour if it can; larger ones pack worse
CUT_SHARES = (0.6, 0.3, 0.15)  # of an overlapping chart's area, for the largest part of it; the last for later cuts
TINY_TEXELS = 8  # a chart of at most so many texels gets no space of its own
MAX_SCALE = 4.0  # most that a chart is enlarged to compensate for the foreshortening of its projection
PACK_CELLS = 1024  # most cells along the packing grid's side on the CPU: a finer grid takes too long there
PACK_CELLS_ON_GPU = 2048
GAP_TEXELS = 2  # least distance between charts: bilinear filtering reads one texel on either side
WIDEST_GAP_TEXELS = 16  # four mip levels down these are one texel
EXPECTED_USE = 0.65  # of the texture, to estimate the size of a texel


@dataclass(frozen=True, slots=True)
class UvLayout:
    """A mesh with texture coordinates; vertices on seams are duplicated.

    source: int64 [vertices], the mesh's vertex that each new vertex is a copy of. uv: float32 [vertices, 2] in [0, 1],
    v down. faces: int32 [faces, 3], indices of new vertices, in the mesh's order. charts: those with space of their
    own. utilisation: the part of the texture that they cover, 0-1.
    """

    source: Ints
    uv: NDArray[np.float32]
    faces: NDArray[np.int32]
    charts: int
    utilisation: float


def unwrap(
    vertices: NDArray[Any], faces: NDArray[np.int32], texture_px: int, device: str, progress: ProgressCallback
) -> UvLayout:
    """Compute texture coordinates for every face. No two faces overlap, and the density of texels is even.

    Tiny charts share texels with a neighbouring chart.
    """
    patches = Patches.from_faces(vertices, faces, device)
    chart = _segment(patches, texture_px, device, lambda: progress(0.2))
    max_area = TINY_TEXELS * patches.areas.sum() / (EXPECTED_USE * texture_px**2)
    tiny = find_tiny_charts(faces, chart, patches.areas, max_area, len(vertices))
    if not tiny.any():
        return _lay_out(vertices, faces, patches, chart, texture_px, device, progress)[0]
    large = np.ascontiguousarray(faces[~tiny])
    patches, large_chart = Patches.from_faces(vertices, large, device), np.unique(chart[~tiny], return_inverse=True)[1]
    layout, large_chart = _lay_out(vertices, large, patches, large_chart, texture_px, device, progress)
    return _attach_tiny_charts(layout, large_chart, faces, chart, tiny, texture_px, device)


def _segment(patches: Patches, texture_px: int, device: str, check_canceled: Callable[[], object]) -> Ints:
    """Return each face's chart."""
    area = patches.areas.sum()
    texel_area = area / (EXPECTED_USE * texture_px**2)
    limits = [
        ChartLimits(CONE_RAD, max_area=MAX_CHART_SHARE * area),
        ChartLimits(WIDE_CONE_RAD, small_area=SMALL_TEXELS * texel_area),
    ]
    chart = cluster(patches, *limits, device=device, check_canceled=check_canceled)
    limit = ChartLimits(CONE_RAD, MAX_CHART_SHARE * area, small_area=MERGED_SHARE * area)
    chart = merge_small(patches, chart, limit, check_canceled)
    return smooth_boundaries(patches, chart, CONE_RAD, device)


def _lay_out(
    vertices: NDArray[Any],
    faces: NDArray[np.int32],
    patches: Patches,
    chart: Ints,
    texture_px: int,
    device: str,
    progress: ProgressCallback,
) -> tuple[UvLayout, Ints]:
    """Project and pack the charts, cutting those that overlap; return also each face's chart after the cuts."""
    progress(0.5)
    cut_shares, checked = chain(CUT_SHARES, repeat(CUT_SHARES[-1])), 0
    while True:
        flat = _project(vertices, faces, patches, chart, device)
        overlaps = find_self_overlaps(flat.uv[flat.faces], chart, texture_px, device, checked=checked)
        if not overlaps.any():
            uv = _pack(flat, chart, texture_px, device, lambda fraction: progress(0.6 + 0.4 * fraction))
            uv, overlaps = resolve_shared_texels(uv, flat.faces, chart, texture_px, device)
        if not overlaps.any():
            return replace(flat, uv=uv, utilisation=float(np.abs(signed_areas_2d(uv[flat.faces])).sum())), chart
        progress(0.5)
        chart, checked = _cut(patches, chart, overlaps, next(cut_shares), device), int((~overlaps).sum())


def _project(vertices: NDArray[Any], faces: NDArray[np.int32], patches: Patches, chart: Ints, device: str) -> UvLayout:
    """Project each chart onto the plane across its mean normal, and scale it to its area in space; uv in metres."""
    count, charts = int(chart.max()) + 1, patches.merge(chart)
    owner, source, corners = _split_at_seams(faces, chart, device)
    frame = _make_frames(charts.normals)
    flat = np.einsum("nd,nad->na", vertices[source].astype(np.float64), frame[owner])
    projected = np.bincount(chart, np.abs(signed_areas_2d(flat[corners])), count)
    scale = np.minimum(np.sqrt(charts.areas / np.maximum(projected, 1e-30)), MAX_SCALE)
    return UvLayout(source, (flat * scale[owner][:, None]).astype(np.float32), corners, count, 0.0)


def _split_at_seams(faces: NDArray[np.int32], chart: Ints, device: str) -> tuple[Ints, Ints, NDArray[np.int32]]:
    """Duplicate vertices where charts meet; return each new vertex's chart and source, and the new faces."""
    vertex_count = int(faces.max()) + 1
    key, index = unique_keys((chart[:, None] * vertex_count + faces).ravel(), device)
    owner, source = np.divmod(key, vertex_count)
    return owner, source, index.reshape(-1, 3)


def _make_frames(normals: Floats) -> Floats:
    """Return two unit vectors perpendicular to each normal, right-handed with it; float64 [charts, 2, 3]."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    axis = np.where(length > 0, normals / np.maximum(length, 1e-30), [0.0, 1.0, 0.0])
    right = np.cross(np.eye(3)[np.abs(axis).argmin(axis=1)], axis)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(axis, right)], axis=1)


def _pack(flat: UvLayout, chart: Ints, texture_px: int, device: str, progress: ProgressCallback) -> NDArray[np.float32]:
    cells = min(texture_px, PACK_CELLS if device == "cpu" else PACK_CELLS_ON_GPU)
    return pack(
        flat.uv,
        flat.faces,
        chart,
        cells=cells,
        gap_cells=-(-GAP_TEXELS * cells // texture_px),
        widest_gap_cells=WIDEST_GAP_TEXELS * cells // texture_px,
        device=device,
        progress=progress,
    )


def _cut(patches: Patches, chart: Ints, overlaps: NDArray[np.bool_], share: float, device: str) -> Ints:
    """Cut the charts that overlap into parts of at most a share of their area, in the end into single faces.

    The charts that stay come first.
    """
    cut = overlaps[chart]
    i, j = patches.pairs.T
    inner = cut[i] & (chart[i] == chart[j])
    area = np.maximum(np.bincount(chart, patches.areas), 1e-30)[chart]
    length = np.sqrt(area)
    scaled = Patches(  # as if each of these charts had an area of 1
        areas=patches.areas / area,
        normals=patches.normals / area[:, None],
        outlines=patches.outlines / length,
        pairs=patches.pairs[inner],
        borders=patches.borders[inner] / length[i[inner]],
    )
    parts = cluster(scaled, ChartLimits(CONE_RAD, max_area=share), device=device)
    label = np.where(cut, len(overlaps) + parts, chart)
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def find_tiny_charts(
    faces: NDArray[np.int32], chart: Ints, areas: Floats, max_area: float, vertex_count: int
) -> NDArray[np.bool_]:
    """Return which faces belong to a tiny chart that touches a larger one; bool [faces].

    A crumpled surface has thousands of them. With space and a gutter for each, they would use a tenth of the texture.

    Args:
        areas: float64 [faces].
        max_area: of a tiny chart, in the unit of `areas`.
    """
    small = np.bincount(chart, areas) <= max_area
    on_large = np.zeros(vertex_count, dtype=np.bool_)
    on_large[faces[~small[chart]]] = True
    touches = np.zeros(len(small), dtype=np.bool_)
    touches[chart[on_large[faces].any(axis=1)]] = True
    return (small & touches)[chart]


def _attach_tiny_charts(
    layout: UvLayout,
    large_chart: Ints,
    faces: NDArray[np.int32],
    chart: Ints,
    tiny: NDArray[np.bool_],
    texture_px: int,
    device: str,
) -> UvLayout:
    """Add the tiny charts' faces to the layout of the others.

    large_chart: each chart of the faces in `layout`. chart: of all faces, before any cut. tiny: bool, of all faces.
    """
    tiny_chart = np.unique(chart[tiny], return_inverse=True)[1]
    owner, source, corners = _split_at_seams(faces[tiny], tiny_chart, device)
    large_owner = chart_of_vertex(layout.faces, large_chart, len(layout.uv))
    shared, point = find_host_uv(source, owner, layout.source, large_owner, layout.uv)
    all_faces = np.empty_like(faces)
    all_faces[~tiny], all_faces[tiny] = layout.faces, len(layout.uv) + corners
    all_charts = np.empty(len(faces), dtype=np.int64)
    all_charts[~tiny], all_charts[tiny] = large_chart, layout.charts + tiny_chart
    uv = np.concatenate([layout.uv, shared])
    # A tiny chart that covers occupied texels shrinks to a point.
    covers = find_shared_texels(uv[all_faces], all_charts, texture_px, device)[layout.charts :][owner]
    uv[len(layout.uv) :][covers] = point[covers]
    return replace(layout, source=np.concatenate([layout.source, source]), uv=uv, faces=all_faces)


def find_host_uv(
    vertices: Ints, tiny_chart: Ints, source: Ints, owner: Ints, uv: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return texture coordinates of tiny charts in the chart with which each shares most vertices.

    Args:
        vertices, tiny_chart: int64 [n], the mesh's vertex and the tiny chart, numbered from 0 and sorted, of each of
            the tiny charts' vertices. Every tiny chart shares a vertex with a larger one.
        source, owner, uv: of the vertices of the larger charts, the mesh's vertex, the chart and the coordinates.

    Returns:
        float32 [n, 2], twice: those of the shared vertices, and for the others their mean; and, for all vertices of a
        tiny chart alike, those of its first shared vertex.
    """
    mine, theirs = _find_shared_vertices(vertices, source)
    at_host = owner[theirs] == _choose_hosts(tiny_chart[mine], owner[theirs])[tiny_chart[mine]]
    host_uv = np.full((len(vertices), 2), np.nan)
    host_uv[mine[at_host]] = uv[theirs[at_host]]
    shared = np.flatnonzero(np.isfinite(host_uv[:, 0]))
    starts = np.flatnonzero(np.diff(tiny_chart[shared], prepend=-1))
    counts = np.diff(np.r_[starts, len(shared)])
    mean = np.add.reduceat(host_uv[shared], starts) / counts[:, None]
    point = host_uv[shared[starts]]
    host_uv = np.where(np.isfinite(host_uv), host_uv, mean[tiny_chart])
    return host_uv.astype(np.float32), point[tiny_chart].astype(np.float32)


def _find_shared_vertices(vertices: Ints, source: Ints) -> tuple[Ints, Ints]:
    """Return all index pairs into `vertices` and `source` with the same mesh vertex, in the order of `vertices`."""
    by_vertex = np.argsort(source, kind="stable")
    first, past = (np.searchsorted(source[by_vertex], vertices, side=side) for side in ("left", "right"))
    counts = past - first
    mine = np.repeat(np.arange(len(vertices)), counts)
    return mine, by_vertex[np.arange(len(mine)) + np.repeat(past - np.cumsum(counts), counts)]


def _choose_hosts(tiny_chart: Ints, chart: Ints) -> Ints:
    """Return the chart with which each tiny chart shares most vertices, the first of equals; int64 [tiny charts]."""
    charts = chart.max() + 1
    pair, shared = np.unique(tiny_chart * charts + chart, return_counts=True)
    by_count = np.lexsort((pair, -shared, pair // charts))
    first = np.flatnonzero(np.diff(pair[by_count] // charts, prepend=-1))
    hosts: Ints = pair[by_count[first]] % charts
    return hosts
