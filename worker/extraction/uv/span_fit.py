"""Whether a chart's spans are free at a place of the square."""

import warp as wp


@wp.func
def blocked(
    spans: wp.array2d[wp.int32], first: wp.int32, past: wp.int32, free: wp.array2d[wp.int16], x: wp.int32, y: wp.int32
) -> wp.int32:
    """0 where the shape fits at (x, y), else how far right the next place to ask for is: past the obstacle.

    free: for each cell of the square how many free cells follow it in its row, itself included; where it is taken, the
    negative of how many others follow, or of fewer.
    """
    for span in range(first, past):
        row = y + spans[span, 0]
        begin = x + spans[span, 1]
        follows = int(free[row, begin])
        if follows < 0:
            return -follows
        if follows < spans[span, 2]:
            return follows - int(free[row, begin + follows])
    return 0
