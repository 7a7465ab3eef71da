"""Closes the pinholes that decoding leaves, so that they do not let the outside in."""

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

MAX_PERIMETER = 0.03  # of the grid's side: what TRELLIS.2 closes too


def fill_holes(vertices: Tensor, faces: Tensor, max_perimeter: float = MAX_PERIMETER) -> tuple[Tensor, Tensor]:
    """Put a fan into each hole whose rim is a simple loop shorter than `max_perimeter`.

    vertices: float32 [vertices, 3]. faces: int32 [faces, 3]. The new vertices and faces come last; each new face is
    wound like the face that it adjoins.
    """
    rim = _rim(faces.long(), len(vertices))
    if len(rim) == 0:
        return vertices, faces
    corners, ends = rim.unique(return_inverse=True)
    loops = _loops(ends.cpu().numpy(), len(corners))
    labels = torch.from_numpy(loops).to(rim.device)  # per corner; -1 where the rim is no simple loop
    of_edge = labels[ends[:, 0]]
    count = int(labels.max()) + 1
    lengths = (vertices[rim[:, 0]] - vertices[rim[:, 1]]).norm(dim=1)
    perimeters = torch.zeros(count + 1, device=rim.device).index_add_(0, of_edge + 1, lengths)[1:]
    small = torch.nonzero(perimeters < max_perimeter).flatten()
    number = torch.full((count + 1,), -1, dtype=torch.long, device=rim.device)
    number[small + 1] = torch.arange(len(small), device=rim.device)
    edge_hole, corner_hole = number[of_edge + 1], number[labels + 1]
    centres = torch.zeros(len(small), 3, device=rim.device)
    inside = corner_hole >= 0
    centres.index_add_(0, corner_hole[inside], vertices[corners[inside]])
    centres /= torch.bincount(corner_hole[inside], minlength=len(small))[:, None]
    filled = edge_hole >= 0
    fan = torch.stack((rim[filled, 1], rim[filled, 0], len(vertices) + edge_hole[filled]), dim=1)
    return torch.cat((vertices, centres)), torch.cat((faces, fan.to(faces.dtype)))


def _rim(faces: Tensor, vertices: int) -> Tensor:
    """The edges that one face alone has, in that face's direction: int64 [edges, 2]."""
    edges = torch.cat((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))
    keys = edges.amin(dim=1) * vertices + edges.amax(dim=1)
    _, which, counts = keys.unique(return_inverse=True, return_counts=True)
    return edges[counts[which] == 1]


def _loops(ends: np.ndarray, corners: int) -> np.ndarray:
    """The loop of each corner, int64 [corners], or -1 where its rim branches. ends: [edges, 2]."""
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(corners, corners))
    _, labels = connected_components(graph, directed=False)
    branches = np.bincount(ends.ravel(), minlength=corners) != 2
    simple = ~np.isin(labels, np.unique(labels[branches]))
    named = np.full(corners, -1, np.int64)
    named[simple] = np.unique(labels[simple], return_inverse=True)[1]
    return named
