"""Assertions on closed, manifold, outward-wound surfaces."""

import numpy as np
from numpy.typing import NDArray


def assert_closed_manifold(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> None:
    """Every edge has two faces, every vertex one fan of faces, every face an area; the volume is positive."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    there, back = edges @ [len(vertices), 1], edges[:, ::-1] @ [len(vertices), 1]
    assert len(there) == len(np.unique(there)), "an edge is used twice in one direction"
    np.testing.assert_array_equal(np.sort(there), np.sort(back), "an edge has a face on one side only")
    np.testing.assert_array_equal(np.arange(len(vertices)), np.unique(faces), "a vertex is not used")
    assert len(vertices) == _fans(faces), "a vertex has several fans"
    corners = vertices[faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.linalg.norm(normals, axis=1).min() > 0, "a face has no area"
    assert (corners[:, 0] * normals).sum() > 0, "the surface is inside out"


def _fans(faces: NDArray[np.int32]) -> int:
    """Count the fans of faces: corners joined where their faces share an edge at their vertex."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # A corner of a face, going round its vertex: from the edge that leaves it to the edge that enters it.
    vertex = faces.ravel().astype(np.int64)
    leaves = np.roll(faces, -1, axis=1).ravel()
    enters = np.roll(faces, 1, axis=1).ravel()
    size = int(faces.max()) + 1
    order = np.argsort(vertex * size + leaves)
    successor = order[np.searchsorted((vertex * size + leaves)[order], vertex * size + enters)]
    links = coo_array((np.ones(vertex.size), (np.arange(vertex.size), successor)), shape=(vertex.size, vertex.size))
    return int(connected_components(links, directed=False)[0])
