"""Charts of a few texels: they show a neighbour's texture at the edge that they share, and need no place of their own.

A crumpled surface has thousands of slivers that lean from every chart beside them. With a place and a distance each,
they would take more of the texture than all that can be seen of them.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def specks(
    faces: NDArray[np.int32], chart: Ints, areas: Floats, largest: float, vertex_count: int
) -> NDArray[np.bool_]:
    """Which faces lie in charts of at most that area that touch a larger one; bool [faces].

    areas: of the faces. largest: of a speck, in the same unit.
    """
    small = np.bincount(chart, areas) <= largest
    beside = np.zeros(vertex_count, dtype=np.bool_)
    beside[faces[~small[chart]]] = True
    touches = np.zeros(len(small), dtype=np.bool_)
    touches[chart[beside[faces].any(axis=1)]] = True
    return (small & touches)[chart]


def hosted(
    corners: Ints, speck: Ints, source: Ints, owner: Ints, uv: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where the corners of specks lie in the texture; float32 [corners, 2], twice.

    First in the chart that each speck shares most vertices with: shared ones where they are there, others between them.
    Then all in one point of it, for a speck that would cover what is there.

    corners, speck: [corners], the vertex and the speck (numbered from 0, sorted) of each; every speck touches a chart.
    source, owner, uv: of the corners in charts, the vertex, the chart and the place.
    """
    by_vertex = np.argsort(source, kind="stable")
    first, past = (np.searchsorted(source[by_vertex], corners, side=side) for side in ("left", "right"))
    mine = np.repeat(np.arange(len(corners)), past - first)
    theirs = by_vertex[np.arange(len(mine)) - np.repeat(np.cumsum(past - first) - past, past - first)]
    mine_of, theirs_of = speck[mine], owner[theirs]
    pair, vote, votes = np.unique(mine_of * (owner.max() + 1) + theirs_of, return_inverse=True, return_counts=True)
    ranked = np.lexsort((pair, -votes, pair // (owner.max() + 1)))
    best = ranked[np.flatnonzero(np.diff(pair[ranked] // (owner.max() + 1), prepend=-1))]
    chosen = np.isin(vote, best)
    place = np.full((len(corners), 2), np.nan)
    place[mine[chosen]] = uv[theirs[chosen]]
    shared = np.isfinite(place[:, 0])
    count = np.maximum(np.bincount(speck[shared], minlength=speck.max() + 1), 1)
    middle = np.stack([np.bincount(speck[shared], place[shared, axis], len(count)) for axis in (0, 1)], axis=1)
    between = (middle / count[:, None])[speck]
    point = np.empty((len(count), 2))
    point[speck[shared][::-1]] = place[shared][::-1]
    return np.where(shared[:, None], place, between).astype(np.float32), point[speck].astype(np.float32)
