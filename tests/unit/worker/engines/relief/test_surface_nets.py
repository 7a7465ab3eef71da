"""Surface nets of columns, and the voxels around their surface."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tests.unit.worker.engines.relief.mesh_assertions import assert_closed_manifold
from worker.engines.relief.material import surface_voxels
from worker.engines.relief.surface_nets import EMPTY, build_columns, expand_runs, find_surface_cells, mesh_columns

# Half thicknesses squared, most of them outside: full of saddles, pinholes, needles and single columns.
ROUGH = arrays(np.float32, (7, 7), elements=st.sampled_from([-9.0, -0.5, 1e-6, 0.3, 1.0, 5.0, 30.0]), fill=st.nothing())


def padded(squared: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.pad(squared, 2, constant_values=-4.0)


def ball(radius_cells: float, side: int) -> NDArray[np.float32]:
    x, y = np.meshgrid(*2 * [np.arange(side, dtype=np.float32) - (side - 1) / 2])
    return radius_cells**2 - x**2 - y**2


@given(front=ROUGH, back=ROUGH)
@settings(max_examples=150)
def test_any_columns_give_a_closed_manifold(front: NDArray[np.float32], back: NDArray[np.float32]) -> None:
    """However rough the body, its surface is closed, manifold, wound outward and without degenerate faces."""
    front[3, 3] = max(front[3, 3], 1.0)
    back = np.where(front > 0, np.maximum(np.abs(back), 1e-6), -np.abs(back))
    columns = build_columns(padded(front), padded(back))
    assert_closed_manifold(*mesh_columns(columns, find_surface_cells(columns)))


@given(front=ROUGH, back=ROUGH)
def test_every_cell_of_the_surface_has_its_eight_voxels_once(
    front: NDArray[np.float32], back: NDArray[np.float32]
) -> None:
    """The corners of every cell that holds a vertex are listed, none twice; so trilinear interpolation works."""
    front[3, 3] = max(front[3, 3], 1.0)
    back = np.where(front > 0, np.maximum(np.abs(back), 1e-6), -np.abs(back))
    columns = build_columns(padded(front), padded(back))
    cells = find_surface_cells(columns)
    vertices, _ = mesh_columns(columns, cells)
    column, level = surface_voxels(cells)
    voxels = list(zip(*np.divmod(column, 11), level, strict=True))
    corners = {
        tuple(corner)
        for cell in np.floor(vertices).astype(int)
        for corner in cell + np.stack(np.meshgrid(*3 * [[0, 1]]), axis=-1).reshape(-1, 3)
    }
    assert (len(voxels), set()) == (len(set(voxels)), corners - set(voxels))


def test_ball_is_a_ball() -> None:
    """Every vertex of a ball of 20 cells is within a tenth of a cell of its surface, at the sides too."""
    squared = ball(20, 48)
    columns = build_columns(squared, squared)
    vertices, faces = mesh_columns(columns, find_surface_cells(columns))
    distance = np.linalg.norm(vertices - [23.5, 23.5, 0], axis=1)
    np.testing.assert_allclose(distance, 20, atol=0.1)
    corners = vertices[faces].astype(np.float64)
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.01)


def test_saddle_is_filled_in_front_and_behind() -> None:
    """Two columns that touch at a corner are joined by a third, on both sides of the plane."""
    squared = np.full((6, 6), -1, np.float32)
    squared[2, 2], squared[3, 3] = 9.5, 4.5
    columns = build_columns(squared, squared / 4)
    assert (3, 1) == (int((columns.top != EMPTY).sum()), int(columns.bottom[3, 3]))
    np.testing.assert_array_equal(columns.top == EMPTY, columns.bottom == EMPTY)


def test_runs_list_every_level_of_every_column() -> None:
    """From first to last, both included; nothing where last comes before first."""
    column, level = expand_runs(np.array([2, 5, 0], np.int32), np.array([4, 4, 0], np.int32))
    assert ([0, 0, 0, 2], [2, 3, 4, 0]) == (column.tolist(), level.tolist())
