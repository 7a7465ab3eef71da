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
    mine, theirs = _meetings(corners, source)
    at_host = owner[theirs] == _hosts(speck[mine], owner[theirs])[speck[mine]]
    place = np.full((len(corners), 2), np.nan)
    place[mine[at_host]] = uv[theirs[at_host]]
    shared = np.flatnonzero(np.isfinite(place[:, 0]))
    starts = np.flatnonzero(np.diff(speck[shared], prepend=-1))
    counts = np.diff(np.r_[starts, len(shared)])
    between = np.add.reduceat(place[shared], starts) / counts[:, None]
    point = place[shared[starts]]
    place = np.where(np.isfinite(place), place, between[speck])
    return place.astype(np.float32), point[speck].astype(np.float32)


def _meetings(corners: Ints, source: Ints) -> tuple[Ints, Ints]:
    """Every pair of a speck's corner and a chart's corner at one vertex, by number, in the order of the specks."""
    by_vertex = np.argsort(source, kind="stable")
    first, past = (np.searchsorted(source[by_vertex], corners, side=side) for side in ("left", "right"))
    many = past - first
    mine = np.repeat(np.arange(len(corners)), many)
    return mine, by_vertex[np.arange(len(mine)) + np.repeat(past - np.cumsum(many), many)]


def _hosts(speck: Ints, chart: Ints) -> Ints:
    """The chart that each speck meets most often, of equals the first; [specks]."""
    charts = chart.max() + 1
    pair, meetings = np.unique(speck * charts + chart, return_counts=True)
    favoured = np.lexsort((pair, -meetings, pair // charts))
    first = np.flatnonzero(np.diff(pair[favoured] // charts, prepend=-1))
    hosts: Ints = pair[favoured[first]] % charts
    return hosts
