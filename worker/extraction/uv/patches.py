"""Patches of a surface and their adjacency graph: the data that chart segmentation works on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.extraction.mesh.geometry import face_normals
from worker.extraction.mesh.topology import sort_keys

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChartLimits:
    """Which two patches may merge.

    cone_rad: largest angle between a face's normal and the mean normal of both. max_area: of both together, m².
    small_area: at least one of the two is no larger, m².
    """

    cone_rad: float
    max_area: float = np.inf
    small_area: float = np.inf


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches of a surface, at first its faces, and the pairs of them that share an edge.

    areas: [patches], m². normals: [patches, 3], sums of the faces' normals, each as long as the face's area.
    outlines: [patches], length of the boundary, metres. pairs: [pairs, 2], each pair once. borders: [pairs], length of
    the shared boundary, metres.
    """

    areas: Floats
    normals: Floats
    outlines: Floats
    pairs: Ints
    borders: Floats

    @classmethod
    def from_faces(cls, vertices: NDArray[Any], faces: NDArray[Any], device: str = "cpu") -> "Patches":
        """Make each face a patch. Faces are adjacent at an edge that only these two have, with the same winding."""
        normals, sides = face_normals(vertices, faces, device)
        pairs, borders = _find_adjacent_faces(faces.astype(np.int64), len(vertices), sides, device)
        return cls(np.sqrt(np.einsum("fd,fd->f", normals, normals)), normals, sides.sum(axis=1), pairs, borders)

    def merge(self, label: Ints) -> "Patches":
        """Merge patches with equal labels, numbered from 0; label: [patches]."""
        count = int(label.max()) + 1
        ends = label[self.pairs]
        differ = ends[:, 0] != ends[:, 1]
        low, high = ends[differ].min(axis=1), ends[differ].max(axis=1)
        key, inverse = np.unique(low * count + high, return_inverse=True)
        inner = _sum_by(ends[~differ, 0], self.borders[~differ], count)
        return Patches(
            areas=_sum_by(label, self.areas, count),
            normals=np.stack([_sum_by(label, self.normals[:, axis], count) for axis in range(3)], axis=1),
            outlines=_sum_by(label, self.outlines, count) - 2 * inner,
            pairs=np.stack([key // count, key % count], axis=1),
            borders=_sum_by(inverse, self.borders[differ], len(key)),
        )


def normalize(rows: Floats) -> Floats:
    """Scale vectors to length 1; a zero vector stays zero."""
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-30)
    return unit


def _find_adjacent_faces(faces: Ints, vertex_count: int, sides: Floats, device: str) -> tuple[Ints, Floats]:
    """Return the pairs of adjacent faces, [pairs, 2], and the lengths of their edges in metres, [pairs]."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    # Sort the half-edges by their vertices; the ones of an edge are then next to each other.
    key, order = sort_keys(np.minimum(start, end) * vertex_count + np.maximum(start, end), device)
    first = np.flatnonzero(np.r_[True, np.diff(key) != 0])
    # Keep edges with exactly two half-edges, which run in opposite directions.
    first = first[np.diff(np.r_[first, len(key)]) == 2]
    left, right = order[first], order[first + 1]
    same_winding = start[left] == end[right]
    return np.stack([left, right], axis=1)[same_winding] // 3, sides.ravel()[left][same_winding]


def _sum_by(group: Ints, weights: Floats, count: int) -> Floats:
    return np.bincount(group, weights, count).astype(np.float64)
