"""Charts: how faces are gathered, laid out and packed."""

from dataclasses import replace

import numpy as np
import pytest

from bench.geometry.mesh_quality import coverage
from bench.geometry.surfaces import grid_faces, knot, noisy
from worker.extraction.uv.overlap import covering_twice, nudged, overlapping
from worker.extraction.uv.packing import pack
from worker.extraction.uv.placement import place
from worker.extraction.uv.segmentation import ROUGHNESS_WEIGHT, Limits, Patches, absorb, cluster
from worker.extraction.uv.segmentation_gpu import merge
from worker.extraction.uv.unwrap import unwrap


def ramp(turns: float, steps: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A spiral ramp: every face looks up, but from above it lies over itself."""
    t = np.linspace(0, turns * 2 * np.pi, steps)
    ring = np.stack([np.cos(t), 0.05 * t, np.sin(t)], axis=1)
    return np.concatenate([ring * [0.5, 1, 0.5], ring]), np.concatenate(
        [[[i, steps + i + 1, steps + i], [i, i + 1, steps + i + 1]] for i in range(steps - 1)]
    ).astype(np.int32)


def squares(count: int, side: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal squares, each a chart: points, faces, chart of each face."""
    square = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * i for i in range(count)]).astype(np.int32)
    return np.tile(square, (count, 1)), faces, np.repeat(np.arange(count), 2)


def test_flat_grid_is_one_chart() -> None:
    """Nothing bends, nothing limits it."""
    x, y = np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij")
    patches = Patches.faces(np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3), grid_faces(9, 9, wrap=False))
    assert cluster(patches, Limits(0.5)).max() == 0
    assert (patches.areas.sum(), len(patches.pairs)) == (pytest.approx(64), 2 * 8 * 7 + 64)


@pytest.mark.parametrize("cone_rad", [0.3, 0.8])
def test_no_face_leans_farther_than_the_cone(cone_rad: float) -> None:
    """From its chart's mean normal; and no chart is larger than it may be."""
    surface = noisy(60, 20, 32)
    patches = Patches.faces(surface.vertices, surface.faces)
    max_area = patches.areas.sum() / 10
    chart = cluster(patches, Limits(cone_rad, max_area))
    whole = patches.joined(chart)
    axis = whole.normals / np.linalg.norm(whole.normals, axis=1, keepdims=True)
    normal = patches.normals / np.linalg.norm(patches.normals, axis=1, keepdims=True)
    assert np.einsum("fd,fd->f", normal, axis[chart]).min() >= np.cos(cone_rad) - 1e-6
    assert whole.areas.max() <= max_area


def test_charts_join_where_every_face_leans_little_enough() -> None:
    """Two halves of a bowl become one chart, where its rim may lean so far, and where areas allow it."""
    x, y = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-1, 1, 15), indexing="ij")
    vertices, faces = np.stack([x, y, (x**2 + y**2) / 2], axis=-1).reshape(-1, 3), grid_faces(15, 15, wrap=False)
    patches = Patches.faces(vertices, faces)
    halves = (vertices[faces].mean(axis=1)[:, 0] > 0).astype(np.int64)
    steepest = float(np.arccos((patches.normals[:, 2] / patches.areas).min()))
    enough = Limits(steepest + 0.02)
    assert set(absorb(patches, halves, enough)) == {0}
    assert set(absorb(patches, halves, Limits(steepest - 0.02))) == {0, 1}
    assert set(absorb(patches, halves, replace(enough, small_area=1.0))) == {0, 1}
    assert set(absorb(patches, halves, replace(enough, max_area=3.0))) == {0, 1}


def test_only_what_is_small_joins_within_wider_limits() -> None:
    """A narrow step between two plains: it joins the first, and the two stay apart."""
    across = np.array([0.0, 1.0, 1.0, 2.0])
    x, z = (np.repeat(each, 2) for each in (across, np.array([0.0, 0.0, 0.1, 0.1])))
    vertices = np.stack([x, np.tile([0.0, 1.0], 4), z], axis=1)
    patches = Patches.faces(vertices, grid_faces(4, 2, wrap=False))
    narrow, wide = Limits(0.5), Limits(1.5, small_area=0.3)
    assert [int(cluster(patches, *limits).max()) + 1 for limits in ((narrow,), (narrow, wide))] == [3, 2]


def test_bends_of_a_ripple_do_not_cut_it() -> None:
    """A tube with waves of 36 degrees: some 160 charts, where a cone of 58 degrees leaves 255."""
    surface = knot(240, 60, 32)
    assert unwrap(surface.vertices, surface.faces, 1024, "cpu", lambda _: None).charts < 200


def test_chart_that_lies_over_itself_is_noticed() -> None:
    """The ramp does after one turn; half a turn does not."""
    for turns, twice in ((0.5, False), (1.5, True)):
        vertices, faces = ramp(turns)
        flat = vertices[faces][..., [0, 2]].astype(np.float32)
        assert overlapping(flat, np.zeros(len(faces), np.int64), 512, "cpu").tolist() == [twice]


def test_charts_that_share_a_texel_are_named() -> None:
    """Whose triangles cover the same texel's centre, and no other."""
    low = np.array([[0.0, 0.0], [0.4, 0.0], [0.0, 0.4]], np.float32)
    corners = np.stack([low, low + 0.1, low + 0.5])
    assert covering_twice(corners, np.array([0, 1, 2]), 64, "cpu").tolist() == [True, True, False]


def test_ramp_is_cut_until_nothing_overlaps() -> None:
    """All normals fit one cone, so that only the overlap itself can tell."""
    vertices, faces = ramp(2.5)
    layout = unwrap(vertices, faces, 512, "cpu", lambda _: None)
    assert layout.charts > 1
    assert coverage(layout.uv, layout.faces.astype(np.int64), 512)[1] == 0


def test_charts_that_overlap_are_cut_in_few() -> None:
    """Twenty ramps, each small enough for one chart but for its overlap, become two charts each."""
    vertices, faces = ramp(1.5, 60)
    many = np.concatenate([vertices + np.array([3.0 * i, 0, 0]) for i in range(20)])
    all_faces = np.concatenate([faces + len(vertices) * i for i in range(20)])
    layout = unwrap(many, all_faces, 512, "cpu", lambda _: None)
    assert layout.charts == 40
    assert coverage(layout.uv, layout.faces.astype(np.int64), 512)[1] == 0


def test_corners_of_a_layout_are_those_of_the_mesh() -> None:
    """Same faces, same order; a vertex is doubled only where charts meet."""
    surface = knot(60, 20, 32)
    layout = unwrap(surface.vertices, surface.faces, 512, "cpu", lambda _: None)
    assert (layout.source[layout.faces] == surface.faces).all()
    assert len(set(zip(layout.source, map(tuple, layout.uv), strict=True))) == len(layout.source)


def test_texels_are_spread_evenly() -> None:
    """Charts have the same area in the texture as in space, to scale."""
    surface = knot(60, 20, 32)
    layout = unwrap(surface.vertices, surface.faces, 512, "cpu", lambda _: None)
    a, b, c = layout.uv[layout.faces].astype(np.float64).transpose(1, 0, 2)
    flat = np.abs(np.cross(np.pad(b - a, ((0, 0), (0, 1))), np.pad(c - a, ((0, 0), (0, 1))))[:, 2])
    a, b, c = surface.vertices[surface.faces].astype(np.float64).transpose(1, 0, 2)
    density = flat / np.linalg.norm(np.cross(b - a, c - a), axis=1)
    assert np.quantile(density, 0.05) > 0.5 * np.median(density)


def test_squares_fill_the_square() -> None:
    """Sixteen squares with room for their gaps."""
    points, faces, chart = squares(16, 0.25)
    packed = pack(points, faces, chart, cells=256, gap_cells=2, device="cpu", step=lambda _: None)
    corners = packed.reshape(16, 4, 2)
    side = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    assert side == pytest.approx(np.full(16, side[0]), rel=1e-4)
    assert 0.75 < 16 * side[0] ** 2 <= 1
    assert (packed.min() >= 0, packed.max() <= 1) == (True, True)


def test_charts_keep_their_distance() -> None:
    """At least the gap, between any two."""
    points, faces, chart = squares(30, 1.0)
    corners = pack(points, faces, chart, cells=128, gap_cells=3, device="cpu", step=lambda _: None).reshape(30, 4, 2)
    low, high = corners.min(axis=1), corners.max(axis=1)
    between = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).max(axis=2)
    assert between[~np.eye(30, dtype=bool)].min() * 128 >= 3 - 1e-3


def test_room_becomes_distance() -> None:
    """Of a square that would be fuller than it need be; charts that leave no room stay as close as they may."""
    points, faces, chart = squares(16, 1.0)
    sides, gaps = [], []
    for widest in (2, 12):
        packed = pack(
            points, faces, chart, cells=256, gap_cells=2, widest_gap_cells=widest, device="cpu", step=lambda _: None
        )
        corners = packed.reshape(16, 4, 2)
        low, high = corners.min(axis=1), corners.max(axis=1)
        between = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).max(axis=2)
        gaps.append(between[~np.eye(16, dtype=bool)].min() * 256)
        sides.append(16 * np.linalg.norm(corners[0, 1] - corners[0, 0]) ** 2)
    assert sides[0] > 0.75 > sides[1] > 0.6
    assert gaps[1] > 3 * gaps[0]


def test_layout_keeps_charts_as_far_apart_as_there_is_room() -> None:
    """Sixteen plates: more than the two texels that bilinear filtering needs."""
    points, faces, _ = squares(16, 1.0)
    plates = np.concatenate([points, np.repeat(np.arange(16.0), 4)[:, None]], axis=1)
    corners = unwrap(plates, faces, 256, "cpu", lambda _: None).uv.reshape(16, 4, 2)
    low, high = corners.min(axis=1), corners.max(axis=1)
    between = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).max(axis=2)
    assert between[~np.eye(16, dtype=bool)].min() * 256 > 6


@pytest.mark.parametrize("degrees", [2.0, 30.5, 88.0])
def test_charts_lie_level(degrees: float) -> None:
    """To a degree, whichever way they came."""
    points, faces, chart = squares(1, 1.0)
    turn = np.exp(1j * np.radians(degrees))
    turned = (points[:, 0] * 8 + 1j * points[:, 1]) * turn
    flat = np.stack([turned.real, turned.imag], axis=1).astype(np.float32)
    corners = pack(flat, faces, chart, cells=256, gap_cells=2, device="cpu", step=lambda _: None)
    along = np.abs(corners[1] - corners[0])
    assert np.degrees(np.arctan2(along.min(), along.max())) < 1


def test_finer_grid_packs_closer() -> None:
    """Twice as fine as the texture, as on a GPU, at the same distance between charts."""
    rng = np.random.default_rng(2)
    points, faces, chart = squares(60, 1.0)
    points = points * np.repeat(rng.uniform(0.3, 1, (60, 1)), 4, axis=0).astype(np.float32)
    coarse, fine = (
        pack(points, faces, chart, cells=cells, gap_cells=gap, device="cpu", step=lambda _: None)
        for cells, gap in ((256, 2), (1280, 10))
    )
    assert _area(fine) > _area(coarse)


def _area(corners: np.ndarray) -> float:
    side = corners.reshape(60, 4, 2)
    return float(
        (np.linalg.norm(side[:, 1] - side[:, 0], axis=1) * np.linalg.norm(side[:, 2] - side[:, 1], axis=1)).sum()
    )


def test_charts_merge_alike_on_the_gpu() -> None:
    """Its kernels and numpy make the same charts, but for ties."""
    surface = knot(100, 50, 32)
    patches = Patches.faces(surface.vertices, surface.faces)
    area = patches.areas.sum()
    limits = Limits(0.5, area / 32), Limits(1.2, small_area=area / 500)
    expected = cluster(patches, *limits)
    actual = merge(patches, limits, roughness_weight=ROUGHNESS_WEIGHT, device="cpu", alive=lambda: None)
    assert (expected == actual).mean() > 0.95
    assert expected.max() < cluster(patches, limits[0]).max()


def test_sliver_is_moved_off_the_texels_centre() -> None:
    """Two squares of a chart share a tenth of a texel; two that share four texels are no sliver."""
    points, faces, _ = squares(4, 20.0)
    points[:, 0] += np.repeat([0.0, 19.45, 0.0, 16.0], 4).astype(np.float32)
    points[:, 1] += np.repeat([0.0, 0.0, 32.0, 32.0], 4).astype(np.float32)
    chart = np.repeat([0, 1], 4)
    uv = points / np.float32(64)
    moved, twice = nudged(uv, faces, chart, 64, "cpu")
    assert covering_twice(uv[faces], chart, 64, "cpu").tolist() == [True, True]
    assert twice.tolist() == [False, True]
    assert np.abs(moved - uv).max() * 64 <= 0.4 + 1e-5
    assert np.ptp((moved - uv)[:8], axis=0).max() < 1e-6


def test_charts_known_to_be_flat_are_not_looked_at() -> None:
    """The first so many, however they lie."""
    vertices, faces = ramp(1.5)
    corners = np.concatenate([vertices[:, ::2][faces]] * 2).astype(np.float32)
    chart = np.repeat([0, 1], len(faces))
    assert overlapping(corners, chart, 64, "cpu").tolist() == [True, True]
    assert overlapping(corners, chart, 64, "cpu", known=1).tolist() == [False, True]


@pytest.mark.parametrize("count", [60, 700])
def test_gpu_finds_the_same_places(count: int) -> None:
    """One place after the other, or all rows at once; also of rings, and of more than look everywhere."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(3, 30, (count, 2))
    sizes[520:] = [1, 9]  # these fit between the others, near the bottom
    sizes = np.stack([sizes, sizes[:, ::-1], sizes, sizes[:, ::-1]])
    spans = [np.array([span for w, h in turn for span in _ring(w, h)], np.int32) for turn in sizes]
    ends = [np.cumsum([len(_ring(w, h)) for w, h in turn]) for turn in sizes]
    order = np.arange(count)
    one, other = (place(sizes, spans, ends, order, 256, "cpu", together=together) for together in (False, True))
    assert one.tolist() == other.tolist()
    taken = np.zeros((2048, 256), dtype=np.int64)
    for chart, (x, y, turn) in enumerate(one):
        for row, begin, length, _ in _ring(*sizes[turn, chart]):
            taken[y + row, x + begin : x + begin + length] += 1
    assert taken.max() == 1
    assert one.min() == 0


def _ring(w: int, h: int) -> list[tuple[int, int, int, int]]:
    """The spans of a rectangle with a hole, the longest first."""
    if min(w, h) < 7:
        return [(row, 0, w, -1) for row in range(h)]
    middle = [span for row in range(2, h - 2) for span in ((row, 0, 2, -1), (row, w - 2, 2, 2))]
    return [(row, 0, w, -1) for row in (0, 1, h - 2, h - 1)] + middle
