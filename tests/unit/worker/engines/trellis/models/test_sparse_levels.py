"""Neighbours and children on sparse voxels."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worker.engines.trellis.models.sparse_levels import Level, Split, base_level, child_level

Cells = st.sets(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=40)


def _plain_neighbours(coords: Tensor) -> Tensor:
    """Every pair compared."""
    places = {tuple(cell): number for number, cell in enumerate(coords.tolist())}
    offsets = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
    return torch.tensor(
        [[places.get((i + x, j + y, k + z), len(places)) for x, y, z in offsets] for i, j, k in coords.tolist()],
        dtype=torch.int32,
    )


def _level(cells: set[tuple[int, int, int]]) -> Level:
    return base_level(torch.tensor(list(cells), dtype=torch.int32))


@given(Cells)
@settings(max_examples=40)
def test_tokens_know_their_neighbours(cells: set[tuple[int, int, int]]) -> None:
    """At all 27 offsets; where there is none, the number of cells stands."""
    level = _level(cells)
    assert torch.equal(_plain_neighbours(level.coords), level.neighbours)


@given(Cells, st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_children_know_their_neighbours(cells: set[tuple[int, int, int]], seed: int) -> None:
    """Also across the borders of their parents."""
    level = _level(cells)
    filled = torch.rand(len(cells), 8, generator=torch.Generator().manual_seed(seed)) < 0.5
    filled[0, 0] = True
    finer = child_level(level, Split.where(filled))
    assert torch.equal(_plain_neighbours(finer.coords), finer.neighbours)


def test_children_come_parent_by_parent_and_octant_by_octant() -> None:
    """Octant x + 2 y + 4 z; the decoder's features are dealt in this order."""
    level = base_level(torch.tensor([[3, 0, 1], [0, 2, 2]], dtype=torch.int32))
    filled = torch.tensor([[0, 1, 0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0, 1]], dtype=torch.bool)
    expected = [[7, 0, 2], [6, 1, 3], [0, 4, 4], [1, 5, 5]]
    assert expected == Split.where(filled).coords(level).tolist()
