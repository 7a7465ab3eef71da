"""Detect overlaps of laid-out charts by rasterization: two faces that cover the same texel's centre.

A chart may overlap itself after its projection. Packed charts may still share a texel by a sliver, since packing works
on a coarser grid; these are moved by a fraction of a texel.
"""

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32
from worker.extraction.kernels.texels import covers_texel, first_centre, last_centre
from worker.extraction.mesh.topology import chart_of_vertex

TEXELS = 2**21  # fewest texels for all charts' bitmaps together
MAX_TEXELS = 2**24  # four times as many as the texture has, up to this
# Offsets in texels that are tried for a chart that shares a texel: less than half of the gutter between two charts.
OFFSETS = ((0.3, 0.1), (0.1, 0.3), (-0.3, 0.2), (0.2, -0.3), (0.4, 0.4), (-0.4, -0.2), (-0.1, 0.4), (0.4, -0.1))


def find_self_overlaps(
    corners: NDArray[np.float32],
    chart: NDArray[np.int64],
    texture_px: int,
    device: str,
    *,
    checked: int = 0,
) -> NDArray[np.bool_]:
    """Return which charts overlap themselves, bool [charts].

    Each chart is rasterized into a bitmap of its own, up to twice as fine as the texture.

    Args:
        corners: float32 [faces, 3, 2], in any unit.
        chart: int64 [faces].
        checked: the first so many charts are known not to overlap and are skipped.
    """
    count = int(chart.max()) + 1
    flat, owner = wp.array(corners, dtype=wp.vec2, device=device), to_int32(chart, device)
    low = wp.full((count, 2), 1e30, dtype=wp.float32, device=device)
    high = wp.full((count, 2), -1e30, dtype=wp.float32, device=device)
    wp.launch(_measure_boxes, dim=len(chart), inputs=[flat, owner, low, high], device=device)
    extent = high.numpy().astype(np.float64) - low.numpy()
    texel = np.sqrt(extent.prod(axis=1).sum() / max(TEXELS, texture_px**2, min(4 * texture_px**2, MAX_TEXELS))) or 1.0
    size = np.ceil(extent / texel).astype(np.int64) + 1
    size[:checked] = 0
    ends = np.cumsum(size.prod(axis=1))
    start = np.r_[0, ends[:-1]]
    covered = wp.zeros(int(ends[-1]), dtype=wp.int32, device=device)
    inputs = [flat, owner, checked, low, texel, to_int32(start, device), to_int32(size[:, 0], device), covered]
    wp.launch(_cover_bitmaps, dim=len(chart), inputs=inputs, device=device)
    overlaps = np.zeros(count, dtype=np.bool_)
    overlaps[checked:] = np.maximum.reduceat(covered.numpy(), start[checked:]) > 1
    return overlaps


def find_shared_texels(
    corners: NDArray[np.float32], chart: NDArray[np.int64], texture_px: int, device: str
) -> NDArray[np.bool_]:
    """Return which packed charts share a texel of the texture, with themselves or with another chart; bool [charts].

    Args:
        corners: float32 [faces, 3, 2] in [0, 1].
        chart: int64 [faces].
    """
    flat = wp.array(corners * np.float32(texture_px), dtype=wp.vec2, device=device)
    covered = wp.zeros((texture_px, texture_px), dtype=wp.int32, device=device)
    shares = wp.zeros(int(chart.max()) + 1, dtype=wp.bool, device=device)
    owner = to_int32(chart, device)
    for kernel, more in ((_count_faces, []), (_mark_charts, [owner, shares])):
        wp.launch(kernel, dim=len(chart), inputs=[flat, covered, *more], device=device)
    flags: NDArray[np.bool_] = shares.numpy()
    return flags


def resolve_shared_texels(
    uv: NDArray[np.float32], faces: NDArray[np.int32], chart: NDArray[np.int64], texture_px: int, device: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Move charts that share a texel by fractions of a texel until they do not.

    Args:
        uv: float32 [vertices, 2] in [0, 1]; each vertex belongs to one chart.

    Returns:
        The moved `uv`, and which charts still share a texel; bool [charts].
    """
    owner = chart_of_vertex(faces, chart, len(uv))
    placed, shares = uv, find_shared_texels(uv[faces], chart, texture_px, device)
    for offset in OFFSETS:
        if not shares.any():
            break
        moved = np.clip(uv + np.array(offset, np.float32) / texture_px, 0, 1)
        placed = np.where(shares[owner][:, None], moved, placed)
        shares = find_shared_texels(placed[faces], chart, texture_px, device)
    return placed, shares


@wp.kernel
def _count_faces(corners: wp.array2d[wp.vec2], covered: wp.array2d[wp.int32]) -> None:
    """Count the faces that cover each texel."""
    face = wp.tid()
    a = corners[face, 0]
    b = corners[face, 1]
    c = corners[face, 2]
    for y in range(first_centre(a[1], b[1], c[1]), wp.min(last_centre(a[1], b[1], c[1]) + 1, covered.shape[0])):
        for x in range(first_centre(a[0], b[0], c[0]), wp.min(last_centre(a[0], b[0], c[0]) + 1, covered.shape[1])):
            if covers_texel(a, b, c, x, y):
                wp.atomic_add(covered, y, x, 1)


@wp.kernel
def _mark_charts(
    corners: wp.array2d[wp.vec2], covered: wp.array2d[wp.int32], chart: wp.array[wp.int32], shares: wp.array[wp.bool]
) -> None:
    """Mark the charts of faces that cover a texel with a count above one."""
    face = wp.tid()
    a = corners[face, 0]
    b = corners[face, 1]
    c = corners[face, 2]
    for y in range(first_centre(a[1], b[1], c[1]), wp.min(last_centre(a[1], b[1], c[1]) + 1, covered.shape[0])):
        for x in range(first_centre(a[0], b[0], c[0]), wp.min(last_centre(a[0], b[0], c[0]) + 1, covered.shape[1])):
            if covered[y, x] > 1 and covers_texel(a, b, c, x, y):
                shares[chart[face]] = True


@wp.kernel
def _measure_boxes(
    corners: wp.array2d[wp.vec2],
    chart: wp.array[wp.int32],
    low: wp.array2d[wp.float32],
    high: wp.array2d[wp.float32],
) -> None:
    """Compute each chart's bounding box."""
    face = wp.tid()
    for corner in range(3):
        for axis in range(2):
            wp.atomic_min(low, chart[face], axis, corners[face, corner][axis])
            wp.atomic_max(high, chart[face], axis, corners[face, corner][axis])


@wp.kernel
def _cover_bitmaps(
    corners: wp.array2d[wp.vec2],
    chart: wp.array[wp.int32],
    checked: wp.int32,
    low: wp.array2d[wp.float32],
    texel: wp.float64,
    start: wp.array[wp.int32],
    width: wp.array[wp.int32],
    covered: wp.array[wp.int32],
) -> None:
    """Count the faces that cover each texel of their chart's bitmap."""
    face = wp.tid()
    if chart[face] < checked:
        return
    # Convert the corners to texels from the chart's lowest corner.
    origin = wp.vec2d(wp.float64(low[chart[face], 0]), wp.float64(low[chart[face], 1]))
    a = wp.vec2((wp.vec2d(corners[face, 0]) - origin) / texel)
    b = wp.vec2((wp.vec2d(corners[face, 1]) - origin) / texel)
    c = wp.vec2((wp.vec2d(corners[face, 2]) - origin) / texel)
    # Rasterize.
    for y in range(first_centre(a[1], b[1], c[1]), last_centre(a[1], b[1], c[1]) + 1):
        for x in range(first_centre(a[0], b[0], c[0]), last_centre(a[0], b[0], c[0]) + 1):
            if covers_texel(a, b, c, x, y):
                wp.atomic_add(covered, start[chart[face]] + y * width[chart[face]] + x, 1)
