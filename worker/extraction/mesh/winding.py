"""Turns faces so that they agree with their neighbours, and show their front to the outside."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree


def orient_faces(vertices: NDArray[Any], faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """The same faces, int32 [faces, 3], some of them turned over; for a surface that remeshing did not close.

    Faces agree across edges that two of them share. Where they cannot all agree (a Moebius strip), it is across sharp
    edges that they do not: agreement spreads along the flattest ones first (Hoppe et al. 1992, section 3.3). Each
    piece that hangs together is then turned to enclose a positive volume as seen from the middle of all vertices.
    """
    cross = _crosses(vertices, faces)
    first, second, alike = _flattest_ways(faces, cross)
    count = len(faces)
    # Each face as it is, and turned over: what agrees hangs together, and a piece hangs together twice.
    left = np.concatenate((first, first + count))
    right = np.concatenate((np.where(alike, second, second + count), np.where(alike, second + count, second)))
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(2 * count, 2 * count))
    _, labels = connected_components(graph, directed=False)
    turned = labels[:count] > labels[count:]
    piece = np.minimum(labels[:count], labels[count:])
    middle = vertices[faces].mean(axis=(0, 1), dtype=np.float64)
    volumes = np.einsum("ij,ij->i", vertices[faces[:, 0]] - middle, cross) * np.where(turned, -1, 1)
    inside_out = np.bincount(piece, volumes)[piece] < 0
    turn = turned != inside_out
    return np.where(turn[:, None], faces[:, [0, 2, 1]], faces)


def _crosses(vertices: NDArray[Any], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """The faces' normals, as long as twice their areas; float64 [faces, 3]."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return np.cross(b - a, c - a)


def _flattest_ways(
    faces: NDArray[np.int32], cross: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """A spanning forest of the faces over the edges that two of them share: pairs of faces, and whether they agree."""
    first, second, alike = _neighbours(faces)
    normals = cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-300)
    flatness = np.abs(np.einsum("ij,ij->i", normals[first], normals[second]))
    order = np.argsort(-flatness, kind="stable")
    first, second, alike = first[order], second[order], alike[order]
    ranks = np.arange(1, len(first) + 1, dtype=np.float64)
    forest = minimum_spanning_tree(coo_array((ranks, (first, second)), shape=(len(faces), len(faces))).tocsr())
    kept = forest.data.astype(np.int64) - 1
    return first[kept], second[kept], alike[kept]


def _neighbours(
    faces: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Pairs of faces with an edge that is theirs alone, each pair once, and whether they go along it opposite ways."""
    start, end = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel().astype(np.int64)
    keys = np.minimum(start, end) * (int(faces.max()) + 1) + np.maximum(start, end)
    order = np.argsort(keys, kind="stable")
    begins = np.flatnonzero(np.diff(keys[order], prepend=-1))
    pair = begins[np.diff(begins, append=len(order)) == 2]
    one, other = order[pair], order[pair + 1]
    alike = (start[one] < end[one]) != (start[other] < end[other])
    first, second = one // 3, other // 3
    _, once = np.unique(first * len(faces) + second, return_index=True)
    return first[once], second[once], alike[once]
