"""Straighten the outlines of charts: a face that a neighbour surrounds more than its own chart does changes sides.

A shorter outline bleeds less at coarse mip levels, leaves less of the texture between charts, and doubles fewer
vertices.
"""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32
from worker.extraction.uv.segmentation import Patches, unit

Ints = NDArray[np.int64]

ROUNDS = 16  # nearly nothing changes sides after so many


def straightened(patches: Patches, chart: Ints, cone_rad: float, device: str) -> Ints:
    """Charts of the same faces with shorter outlines; int64 [faces], numbered from 0, those that vanish left out.

    patches: of the faces themselves. cone_rad: how far a face may lean from the mean normal of the chart it changes to.
    """
    if len(patches.pairs) == 0:
        return chart
    count = len(chart)
    beside = wp.full((count, 3), -1, dtype=wp.int32, device=device)
    border = wp.zeros((count, 3), dtype=wp.float32, device=device)
    taken = wp.zeros(count, dtype=wp.int32, device=device)
    lengths = wp.array(patches.borders, dtype=wp.float32, device=device)
    inputs: list[Any] = [to_int32(patches.pairs, device), lengths, taken, beside, border]
    wp.launch(_list, dim=len(patches.pairs), inputs=inputs, device=device)
    directions = unit(patches.normals), unit(patches.joined(chart).normals)
    normals, axes = (wp.array(rows, dtype=wp.vec3, device=device) for rows in directions)
    now, then = to_int32(chart, device), wp.empty(count, dtype=wp.int32, device=device)
    for number in range(ROUNDS):
        inputs = [beside, border, normals, axes, float(np.cos(cone_rad)), number % 2, now, then]
        wp.launch(_change, dim=count, inputs=inputs, device=device)
        now, then = then, now
    changed: Ints = np.unique(now.numpy(), return_inverse=True)[1].astype(np.int64)
    return changed


@wp.kernel
def _list(
    pairs: wp.array2d[wp.int32],
    lengths: wp.array[wp.float32],
    taken: wp.array[wp.int32],
    beside: wp.array2d[wp.int32],
    border: wp.array2d[wp.float32],
) -> None:
    """Each face's neighbours, in any order."""
    pair = wp.tid()
    for side in range(2):
        face = pairs[pair, side]
        column = wp.atomic_add(taken, face, 1)
        beside[face, column] = pairs[pair, 1 - side]
        border[face, column] = lengths[pair]


@wp.kernel
def _change(
    beside: wp.array2d[wp.int32],
    border: wp.array2d[wp.float32],
    normals: wp.array[wp.vec3],
    axes: wp.array[wp.vec3],
    least_cosine: wp.float32,
    upward: wp.int32,
    now: wp.array[wp.int32],
    then: wp.array[wp.int32],
) -> None:
    """Each face's next chart; in a round to lower numbers only or to higher ones, so that neighbours do not swap."""
    face = wp.tid()
    own = now[face]
    chosen = own
    most = float(0.0)
    for column in range(3):
        if beside[face, column] >= 0 and now[beside[face, column]] == own:
            most += border[face, column]
    for column in range(3):
        if beside[face, column] >= 0:
            other = now[beside[face, column]]
            if other != own and (other > own) == (upward == 1) and wp.dot(normals[face], axes[other]) >= least_cosine:
                length = float(0.0)
                for again in range(3):
                    if beside[face, again] >= 0 and now[beside[face, again]] == other:
                        length += border[face, again]
                if length > most or (length == most and chosen != own and other < chosen):
                    most = length
                    chosen = other
    then[face] = chosen
