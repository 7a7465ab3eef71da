"""Packing of charts into the square, and the search for positions."""

import numpy as np
import pytest
import warp as wp

from tests.unit.worker.extraction.uv.conftest import squares
from worker.extraction.uv.chart_cells import Spans
from worker.extraction.uv.packing import pack
from worker.extraction.uv.placement import place_charts


def test_squares_fill_the_square() -> None:
    """Sixteen squares, with space for their gutters."""
    points, faces, chart = squares(16, 0.25)
    packed = pack(points, faces, chart, cells=256, gap_cells=2, device="cpu", progress=lambda _: None)
    corners = packed.reshape(16, 4, 2)
    side = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    assert side == pytest.approx(np.full(16, side[0]), rel=1e-4)
    assert 0.75 < 16 * side[0] ** 2 <= 1
    assert (packed.min() >= 0, packed.max() <= 1) == (True, True)


def test_charts_keep_the_gap() -> None:
    """Between any two of them."""
    points, faces, chart = squares(30, 1.0)
    corners = pack(points, faces, chart, cells=128, gap_cells=3, device="cpu", progress=lambda _: None).reshape(
        30, 4, 2
    )
    low, high = corners.min(axis=1), corners.max(axis=1)
    between = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).max(axis=2)
    assert between[~np.eye(30, dtype=bool)].min() * 128 >= 3 - 1e-3


def test_free_space_widens_the_gutters() -> None:
    """If the square would be fuller than needed; otherwise charts stay at the least distance."""
    points, faces, chart = squares(16, 1.0)
    sides, gaps = [], []
    for widest in (2, 12):
        packed = pack(
            points, faces, chart, cells=256, gap_cells=2, widest_gap_cells=widest, device="cpu", progress=lambda _: None
        )
        corners = packed.reshape(16, 4, 2)
        low, high = corners.min(axis=1), corners.max(axis=1)
        between = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).max(axis=2)
        gaps.append(between[~np.eye(16, dtype=bool)].min() * 256)
        sides.append(16 * np.linalg.norm(corners[0, 1] - corners[0, 0]) ** 2)
    assert sides[0] > 0.75 > sides[1] > 0.6
    assert gaps[1] > 3 * gaps[0]


@pytest.mark.parametrize(
    ("count", "width", "least_side"), [(1, 1.0, 0.9), (2, 1.0, 0.4), (9, 1.0, 0.28), (1, 3.0, 0.9)]
)
def test_thin_frames_fit_although_their_boxes_are_far_larger_than_they_are(
    count: int, width: float, least_side: float
) -> None:
    """Inside the square, of equal size, and not compressed in one direction."""
    frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.02, 0.02], [0.98, 0.02], [0.98, 0.98], [0.02, 0.98]])
    ring = [[i, (i + 1) % 4, 4 + (i + 1) % 4] for i in range(4)] + [[i, 4 + (i + 1) % 4, 4 + i] for i in range(4)]
    points = np.tile(frame * [width, 1], (count, 1)).astype(np.float32)
    faces = np.concatenate([np.array(ring) + 8 * number for number in range(count)]).astype(np.int32)
    chart = np.repeat(np.arange(count), 8)
    packed = pack(points, faces, chart, cells=128, gap_cells=2, device="cpu", progress=lambda _: None)
    corners = packed.reshape(count, 8, 2)[:, :4]
    sides = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2) / [width, 1, width, 1]
    assert sides == pytest.approx(np.full((count, 4), sides[0, 0]), rel=0.03)
    assert sides[0, 0] * width > least_side


@pytest.mark.parametrize("degrees", [2.0, 30.5, 88.0])
def test_charts_are_rotated_to_their_smallest_box(degrees: float) -> None:
    """To a degree, from any rotation."""
    points, faces, chart = squares(1, 1.0)
    turn = np.exp(1j * np.radians(degrees))
    turned = (points[:, 0] * 8 + 1j * points[:, 1]) * turn
    flat = np.stack([turned.real, turned.imag], axis=1).astype(np.float32)
    corners = pack(flat, faces, chart, cells=256, gap_cells=2, device="cpu", progress=lambda _: None)
    along = np.abs(corners[1] - corners[0])
    assert np.degrees(np.arctan2(along.min(), along.max())) < 1


def test_finer_grid_packs_closer() -> None:
    """Five times as fine, at the same distance between charts."""
    rng = np.random.default_rng(2)
    points, faces, chart = squares(60, 1.0)
    points = points * np.repeat(rng.uniform(0.3, 1, (60, 1)), 4, axis=0).astype(np.float32)
    coarse, fine = (
        pack(points, faces, chart, cells=cells, gap_cells=gap, device="cpu", progress=lambda _: None)
        for cells, gap in ((256, 2), (1280, 10))
    )
    assert _area(fine) > _area(coarse)


def _area(corners: np.ndarray) -> float:
    side = corners.reshape(60, 4, 2)
    return float(
        (np.linalg.norm(side[:, 1] - side[:, 0], axis=1) * np.linalg.norm(side[:, 2] - side[:, 1], axis=1)).sum()
    )


@pytest.mark.parametrize("count", [60, 700])
def test_parallel_search_finds_the_positions_of_the_serial_search(count: int) -> None:
    """Also for frames with a hole, and for more charts than search everywhere."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(3, 30, (count, 2))
    sizes[520:] = [1, 9]  # these fit between the others, near the bottom
    sizes = np.stack([sizes, sizes[:, ::-1], sizes, sizes[:, ::-1]])
    spans = [np.array([span for w, h in rotation for span in _frame_spans(w, h)], np.int32) for rotation in sizes]
    ends = [len(_frame_spans(w, h)) for rotation in sizes for w, h in rotation]
    order = np.arange(count)
    shapes = Spans(
        sizes, wp.array(np.concatenate(spans), dtype=wp.int32, device="cpu"), np.cumsum(ends).reshape(4, -1), 0
    )
    serial, parallel = (place_charts(shapes, order, 256, parallel=flag) for flag in (False, True))
    assert serial.tolist() == parallel.tolist()
    occupied = np.zeros((2048, 256), dtype=np.int64)
    for chart, (x, y, rotation) in enumerate(serial):
        for row, begin, length, _ in _frame_spans(*sizes[rotation, chart]):
            occupied[y + row, x + begin : x + begin + length] += 1
    assert occupied.max() == 1
    assert serial.min() == 0


@pytest.mark.parametrize("parallel", [False, True])
def test_chart_larger_than_the_grid_stays_at_zero_and_leaves_the_others_their_space(*, parallel: bool) -> None:
    """It has a position all the same; nothing is written outside of the grid."""
    sizes = np.array([[[40, 40], [5, 4], [5, 4]]] * 4)
    spans = [(row, 0, w, -1) for rotation in sizes for w, h in rotation for row in range(h)]
    shapes = Spans(sizes, wp.array(spans, dtype=wp.int32, device="cpu"), np.cumsum(sizes[..., 1]).reshape(4, 3), 0)
    positions = place_charts(shapes, np.arange(3), 32, parallel=parallel)
    assert positions.tolist() == [[0, 0, 0], [0, 0, 0], [5, 0, 0]]


def _frame_spans(w: int, h: int) -> list[tuple[int, int, int, int]]:
    """Return the spans of a rectangle with a hole, the longest first."""
    if min(w, h) < 7:
        return [(row, 0, w, -1) for row in range(h)]
    middle = [span for row in range(2, h - 2) for span in ((row, 0, 2, -1), (row, w - 2, 2, 2))]
    return [(row, 0, w, -1) for row in (0, 1, h - 2, h - 1)] + middle
