"""Fill the texels between charts by push and pull, so that no mip level mixes in a foreign colour.

Push: each coarser level averages what is known of four texels. Pull: each finer level takes what it lacks from the
coarser one. After Gortler et al., The Lumigraph, 1996.
"""

from itertools import pairwise

import warp as wp


def dilate(texels: wp.array) -> wp.array:
    """The texels with every gap filled; uint8 [rows, columns, channels + 1], sides a power of two, filled in place.

    The last channel is 255 where a texel is known. It stays as it was.
    """
    levels = [texels]
    while levels[-1].shape[0] > 1:
        rows, columns, channels = levels[-1].shape
        coarser = wp.zeros((rows // 2, columns // 2, channels), dtype=wp.uint8, device=texels.device)
        wp.launch(_push, dim=coarser.shape[:2], inputs=[levels[-1], coarser], device=texels.device)
        levels.append(coarser)
    for finer, coarser in reversed(list(pairwise(levels))):
        wp.launch(_pull, dim=finer.shape[:2], inputs=[coarser, finer], device=texels.device)
    return texels


@wp.kernel
def _push(finer: wp.array3d[wp.uint8], coarser: wp.array3d[wp.uint8]) -> None:
    y, x = wp.tid()
    known = finer.shape[2] - 1
    count = int(0)
    for child in range(4):
        if finer[2 * y + (child >> 1), 2 * x + (child & 1), known] > wp.uint8(0):
            count += 1
    if count == 0:
        return
    coarser[y, x, known] = wp.uint8(255)
    for channel in range(known):
        total = int(0)
        for child in range(4):
            if finer[2 * y + (child >> 1), 2 * x + (child & 1), known] > wp.uint8(0):
                total += int(finer[2 * y + (child >> 1), 2 * x + (child & 1), channel])
        coarser[y, x, channel] = wp.uint8((total + count / 2) / count)


@wp.kernel
def _pull(coarser: wp.array3d[wp.uint8], finer: wp.array3d[wp.uint8]) -> None:
    """Bilinear: a texel lies a quarter of a coarse texel from its parent's centre, on each axis."""
    y, x = wp.tid()
    known = finer.shape[2] - 1
    if finer[y, x, known] > wp.uint8(0):
        return
    row = y / 2
    column = x / 2
    next_row = wp.clamp(row + 2 * (y & 1) - 1, 0, coarser.shape[0] - 1)
    next_column = wp.clamp(column + 2 * (x & 1) - 1, 0, coarser.shape[1] - 1)
    for channel in range(known):
        value = (
            9 * int(coarser[row, column, channel])
            + 3 * int(coarser[row, next_column, channel])
            + 3 * int(coarser[next_row, column, channel])
            + int(coarser[next_row, next_column, channel])
        )
        finer[y, x, channel] = wp.uint8((value + 8) / 16)
