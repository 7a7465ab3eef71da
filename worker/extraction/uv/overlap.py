"""Find charts that lie over themselves once they are laid out flat; part those that hardly do."""

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32
from worker.extraction.kernels.texels import barycentric_weights, first_centre, last_centre
from worker.extraction.mesh.adjacency import chart_of_vertex

TEXELS = 2**21  # shared by all charts, at least
MOST_TEXELS = 2**24  # and four times as many as the texture's, up to here
# Texels by which a packed chart is moved that covers one twice by a sliver: less than half of what parts two charts.
NUDGES = ((0.3, 0.1), (0.1, 0.3), (-0.3, 0.2), (0.2, -0.3), (0.4, 0.4), (-0.4, -0.2), (-0.1, 0.4), (0.4, -0.1))


def overlapping(
    corners: NDArray[np.float32],
    chart: NDArray[np.int64],
    texture_px: int,
    device: str,
    *,
    known: int = 0,
) -> NDArray[np.bool_]:
    """Which charts cover a texel twice, each in a bitmap of its own, up to twice as fine as the texture; bool [charts].

    corners: float32 [faces, 3, 2], in any unit. chart: [faces]. known: so many charts, the first, are known not to.
    """
    count = int(chart.max()) + 1
    flat, owner = wp.array(corners, dtype=wp.vec2, device=device), to_int32(chart, device)
    low = wp.full((count, 2), 1e30, dtype=wp.float32, device=device)
    high = wp.full((count, 2), -1e30, dtype=wp.float32, device=device)
    wp.launch(_measure, dim=len(chart), inputs=[flat, owner, low, high], device=device)
    extent = high.numpy().astype(np.float64) - low.numpy()
    texel = np.sqrt(extent.prod(axis=1).sum() / max(TEXELS, texture_px**2, min(4 * texture_px**2, MOST_TEXELS))) or 1.0
    size = np.ceil(extent / texel).astype(np.int64) + 1
    size[:known] = 0
    ends = np.cumsum(size.prod(axis=1))
    start = np.r_[0, ends[:-1]]
    covered = wp.zeros(int(ends[-1]), dtype=wp.int32, device=device)
    inputs = [flat, owner, known, low, texel, to_int32(start, device), to_int32(size[:, 0], device), covered]
    wp.launch(_cover, dim=len(chart), inputs=inputs, device=device)
    twice = np.zeros(count, dtype=np.bool_)
    twice[known:] = np.maximum.reduceat(covered.numpy(), start[known:]) > 1
    return twice


def covering_twice(
    corners: NDArray[np.float32], chart: NDArray[np.int64], texture_px: int, device: str
) -> NDArray[np.bool_]:
    """Which charts share a texel of the texture, with themselves or another, where they have been packed.

    corners: float32 [faces, 3, 2] in [0, 1]. chart: [faces].
    """
    flat = wp.array(corners * np.float32(texture_px), dtype=wp.vec2, device=device)
    covered = wp.zeros((texture_px, texture_px), dtype=wp.int32, device=device)
    twice = wp.zeros(int(chart.max()) + 1, dtype=wp.bool, device=device)
    owner = to_int32(chart, device)
    for kernel, more in ((_count, []), (_blame, [owner, twice])):
        wp.launch(kernel, dim=len(chart), inputs=[flat, covered, *more], device=device)
    flags: NDArray[np.bool_] = twice.numpy()
    return flags


def nudged(
    uv: NDArray[np.float32], faces: NDArray[np.int32], chart: NDArray[np.int64], texture_px: int, device: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Move charts that cover a texel's centre twice a little, until they do not; and which do all the same, [charts].

    uv: float32 [points, 2] in [0, 1], each of one chart.
    """
    owner = chart_of_vertex(faces, chart, len(uv))
    placed, twice = uv, covering_twice(uv[faces], chart, texture_px, device)
    for nudge in NUDGES:
        if not twice.any():
            break
        moved = np.clip(uv + np.array(nudge, np.float32) / texture_px, 0, 1)
        placed = np.where(twice[owner][:, None], moved, placed)
        twice = covering_twice(placed[faces], chart, texture_px, device)
    return placed, twice


@wp.kernel
def _count(corners: wp.array2d[wp.vec2], covered: wp.array2d[wp.int32]) -> None:
    face = wp.tid()
    a = corners[face, 0]
    b = corners[face, 1]
    c = corners[face, 2]
    for y in range(first_centre(a[1], b[1], c[1]), wp.min(last_centre(a[1], b[1], c[1]) + 1, covered.shape[0])):
        for x in range(first_centre(a[0], b[0], c[0]), wp.min(last_centre(a[0], b[0], c[0]) + 1, covered.shape[1])):
            if barycentric_weights(a, b, c, wp.vec2(float(x) + 0.5, float(y) + 0.5))[0] >= 0.0:
                wp.atomic_add(covered, y, x, 1)


@wp.kernel
def _blame(
    corners: wp.array2d[wp.vec2], covered: wp.array2d[wp.int32], chart: wp.array[wp.int32], twice: wp.array[wp.bool]
) -> None:
    face = wp.tid()
    a = corners[face, 0]
    b = corners[face, 1]
    c = corners[face, 2]
    for y in range(first_centre(a[1], b[1], c[1]), wp.min(last_centre(a[1], b[1], c[1]) + 1, covered.shape[0])):
        for x in range(first_centre(a[0], b[0], c[0]), wp.min(last_centre(a[0], b[0], c[0]) + 1, covered.shape[1])):
            if covered[y, x] > 1 and barycentric_weights(a, b, c, wp.vec2(float(x) + 0.5, float(y) + 0.5))[0] >= 0.0:
                twice[chart[face]] = True


@wp.kernel
def _measure(
    corners: wp.array2d[wp.vec2],
    chart: wp.array[wp.int32],
    low: wp.array2d[wp.float32],
    high: wp.array2d[wp.float32],
) -> None:
    face = wp.tid()
    for corner in range(3):
        for axis in range(2):
            wp.atomic_min(low, chart[face], axis, corners[face, corner][axis])
            wp.atomic_max(high, chart[face], axis, corners[face, corner][axis])


@wp.kernel
def _cover(
    corners: wp.array2d[wp.vec2],
    chart: wp.array[wp.int32],
    known: wp.int32,
    low: wp.array2d[wp.float32],
    texel: wp.float64,
    start: wp.array[wp.int32],
    width: wp.array[wp.int32],
    covered: wp.array[wp.int32],
) -> None:
    face = wp.tid()
    if chart[face] < known:
        return
    origin = wp.vec2d(wp.float64(low[chart[face], 0]), wp.float64(low[chart[face], 1]))
    a = wp.vec2((wp.vec2d(corners[face, 0]) - origin) / texel)
    b = wp.vec2((wp.vec2d(corners[face, 1]) - origin) / texel)
    c = wp.vec2((wp.vec2d(corners[face, 2]) - origin) / texel)
    for y in range(first_centre(a[1], b[1], c[1]), last_centre(a[1], b[1], c[1]) + 1):
        for x in range(first_centre(a[0], b[0], c[0]), last_centre(a[0], b[0], c[0]) + 1):
            if barycentric_weights(a, b, c, wp.vec2(float(x) + 0.5, float(y) + 0.5))[0] >= 0.0:
                at = start[chart[face]] + y * width[chart[face]] + x
                wp.atomic_add(covered, at, 1)
