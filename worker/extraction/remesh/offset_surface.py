"""Wrap a surface: the closed skin at a set distance around it, from its distance field on a sparse grid."""

from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.sparse_grid import SIDE, VOLUME, SparseGrid, cell_at, value_index
from worker.extraction.model.asset import ProgressCallback

AT_ONCE = 2_000_000  # distances between two steps: half a second on the CPU


def build_offset_mesh(
    surface: wp.Mesh, cell_m: float, distance_m: float, step: ProgressCallback
) -> tuple[wp.array, wp.array]:
    """The skin at `distance_m` from the surface, on both sides of every sheet.

    One vertex per sheet and cell (dual marching cubes, Nielson 2004), so that sheets that meet in a cell stay apart;
    the skin has no boundary. Skins of sheets nearer than twice the distance merge.

    Returns:
        on the device, vertices: vec3 [vertices]; quads: int32 [quads, 4], counter-clockwise seen from away of the
        surface.
    """
    device = surface.points.device
    points = surface.points.numpy()
    margin = distance_m + 2 * cell_m
    low, high = (np.array([end(axis) for axis in points.T]) for end in (np.min, np.max))
    origin = wp.vec3(*(low - margin).tolist())
    cells = np.ceil((high - low + 2 * margin) / cell_m).astype(int) + 1
    flags = wp.zeros(tuple((cells // SIDE + 1).tolist()), dtype=wp.int32, device=device)
    wp.launch(_flag_near, dim=flags.shape, inputs=[surface.id, origin, cell_m, distance_m, flags], device=device)
    bricks = SparseGrid.from_flags(flags)
    return _contour(bricks, _distances(surface, bricks, origin, cell_m, distance_m, step), origin, cell_m)


def _distances(
    surface: wp.Mesh, bricks: SparseGrid, origin: wp.vec3, cell_m: float, distance_m: float, step: ProgressCallback
) -> wp.array:
    values = wp.empty(bricks.count * VOLUME, dtype=wp.float32, device=bricks.index.device)
    for first in range(0, values.size, AT_ONCE):
        dim = min(AT_ONCE, values.size - first)
        inputs = [surface.id, bricks.brick_coords, origin, cell_m, distance_m, first, values]
        wp.launch(_measure, dim=dim, inputs=inputs, device=values.device)
        step((first + dim) / values.size)
    return values


def _contour(bricks: SparseGrid, values: wp.array, origin: wp.vec3, cell_m: float) -> tuple[wp.array, wp.array]:
    device = values.device
    sheets = wp.array(sheet_table(), dtype=wp.int32, device=device)
    kind, vertex_end, quad_end = (wp.empty(values.size, dtype=wp.int32, device=device) for _ in range(3))

    def launch(kernel: Any, *inputs: Any) -> None:
        wp.launch(kernel, dim=values.size, inputs=[bricks.index, bricks.brick_coords, *inputs], device=device)

    launch(_count, values, sheets, kind, vertex_end, quad_end)
    for ends in (vertex_end, quad_end):
        wp.utils.array_scan(ends, ends, inclusive=True)
    vertices = wp.empty(int(vertex_end[-1:].numpy()[0]), dtype=wp.vec3, device=device)
    quads = wp.empty((int(quad_end[-1:].numpy()[0]), 4), dtype=wp.int32, device=device)
    launch(_place, values, sheets, kind, vertex_end, origin, cell_m, vertices)
    launch(_connect, sheets, kind, vertex_end, quad_end, quads)
    return vertices, quads


@cache
def sheet_table() -> NDArray[np.int32]:
    """Which sheet of the skin crosses each edge of a cell; int32 [256, 13].

    Row: the case, bit `x + 2y + 4z` set where that corner lies inside. Column `4a + u + 2v`: the edge along axis `a`
    at offsets u, v on the next two axes; its sheet, or -1 where it is not crossed. Column 12: how many sheets.
    """
    return np.array([_sheets(case) for case in range(256)], dtype=np.int32)


def _sheets(case: int) -> list[int]:
    """Join the crossed edges along each face of the cell; on an ambiguous face the inside corners stay apart."""
    inside = [bool(case >> corner & 1) for corner in range(8)]
    crossed = {edge: ends for edge, ends in enumerate(_edges()) if inside[ends[0]] != inside[ends[1]]}
    sheet = {edge: edge for edge in crossed}
    for face in _faces():
        here = [edge for edge, ends in crossed.items() if set(ends) <= face]
        for one, other in combinations(here, 2):
            if len(here) == 2 or any(inside[corner] for corner in {*crossed[one]} & {*crossed[other]}):
                old, new = sheet[one], sheet[other]
                sheet = {edge: new if at == old else at for edge, at in sheet.items()}
    names = sorted(set(sheet.values()))
    return [names.index(sheet[edge]) if edge in sheet else -1 for edge in range(12)] + [len(names)]


def _edges() -> list[tuple[int, int]]:
    edges = []
    for axis, v, u in product(range(3), range(2), range(2)):
        first = u << (axis + 1) % 3 | v << (axis + 2) % 3
        edges.append((first, first | 1 << axis))
    return edges


def _faces() -> list[set[Any]]:
    return [{corner for corner in range(8) if corner >> axis & 1 == side} for axis in range(3) for side in range(2)]


@wp.kernel
def _flag_near(
    surface: wp.uint64,
    origin: wp.vec3,
    cell_m: wp.float32,
    distance_m: wp.float32,
    flags: wp.array3d[wp.int32],
) -> None:
    """A brick is used if one of its points may lie within the distance and one cell's diagonal more."""
    i, j, k = wp.tid()
    centre = origin + wp.vec3(float(i) * 8.0 + 3.5, float(j) * 8.0 + 3.5, float(k) * 8.0 + 3.5) * cell_m
    query = wp.mesh_query_point_no_sign(surface, centre, distance_m + 7.8 * cell_m)
    if query.result:
        flags[i, j, k] = 1


@wp.kernel
def _measure(
    surface: wp.uint64,
    places: wp.array[wp.vec3i],
    origin: wp.vec3,
    cell_m: wp.float32,
    distance_m: wp.float32,
    first: wp.int32,
    values: wp.array[wp.float32],
) -> None:
    """Distance to the surface less `distance_m`; one cell where it is more than that."""
    i = first + wp.tid()
    at = cell_at(places, i)
    point = origin + wp.vec3(float(at[0]), float(at[1]), float(at[2])) * cell_m
    query = wp.mesh_query_point_no_sign(surface, point, distance_m + cell_m)
    values[i] = cell_m
    if query.result:
        place = wp.mesh_eval_position(surface, query.face, query.u, query.v)
        values[i] = wp.length(place - point) - distance_m


@wp.func
def _value(
    index: wp.array3d[wp.int32], values: wp.array[wp.float32], x: wp.int32, y: wp.int32, z: wp.int32
) -> wp.float32:
    at = value_index(index, x, y, z)
    if at < 0:
        return 1.0
    return values[at]


@wp.kernel
def _count(
    index: wp.array3d[wp.int32],
    places: wp.array[wp.vec3i],
    values: wp.array[wp.float32],
    sheets: wp.array2d[wp.int32],
    kind: wp.array[wp.int32],
    vertex_count: wp.array[wp.int32],
    quad_count: wp.array[wp.int32],
) -> None:
    """The case of each cell, its vertices, and the quads around the three edges at its lowest corner."""
    i = wp.tid()
    at = cell_at(places, i)
    bits = int(0)
    for corner in range(8):
        value = _value(index, values, at[0] + (corner & 1), at[1] + ((corner >> 1) & 1), at[2] + (corner >> 2))
        if value < 0.0:
            bits = bits | (1 << corner)
    kind[i] = bits
    vertex_count[i] = sheets[bits, 12]
    quad_count[i] = (
        wp.where(sheets[bits, 0] >= 0, 1, 0)
        + wp.where(sheets[bits, 4] >= 0, 1, 0)
        + wp.where(sheets[bits, 8] >= 0, 1, 0)
    )


@wp.kernel
def _place(
    index: wp.array3d[wp.int32],
    places: wp.array[wp.vec3i],
    values: wp.array[wp.float32],
    sheets: wp.array2d[wp.int32],
    kind: wp.array[wp.int32],
    vertex_end: wp.array[wp.int32],
    origin: wp.vec3,
    cell_m: wp.float32,
    vertices: wp.array[wp.vec3],
) -> None:
    """Each sheet's vertex: the mean of the points where the sheet crosses the cell's edges."""
    i = wp.tid()
    bits = kind[i]
    count = sheets[bits, 12]
    at = cell_at(places, i)
    for sheet in range(count):
        total = wp.vec3(0.0, 0.0, 0.0)
        crossings = float(0.0)
        for edge in range(12):
            if sheets[bits, edge] == sheet:
                axis = edge >> 2
                b = (axis + 1) % 3
                c = (axis + 2) % 3
                low = wp.vec3i(0, 0, 0)
                low[b] = edge & 1
                low[c] = (edge >> 1) & 1
                high = wp.vec3i(low[0], low[1], low[2])
                high[axis] = 1
                first = _value(index, values, at[0] + low[0], at[1] + low[1], at[2] + low[2])
                second = _value(index, values, at[0] + high[0], at[1] + high[1], at[2] + high[2])
                point = wp.vec3(float(low[0]), float(low[1]), float(low[2]))
                point[axis] = first / (first - second)
                total += point
                crossings += 1.0
        local = total / crossings + wp.vec3(float(at[0]), float(at[1]), float(at[2]))
        vertices[vertex_end[i] - count + sheet] = origin + local * cell_m


@wp.kernel
def _connect(
    index: wp.array3d[wp.int32],
    places: wp.array[wp.vec3i],
    sheets: wp.array2d[wp.int32],
    kind: wp.array[wp.int32],
    vertex_end: wp.array[wp.int32],
    quad_end: wp.array[wp.int32],
    quads: wp.array2d[wp.int32],
) -> None:
    """One quad around each crossed edge, through the four cells that share it."""
    i = wp.tid()
    bits = kind[i]
    at = cell_at(places, i)
    quad = int(quad_end[i])
    for axis in range(3):
        if sheets[bits, axis * 4] >= 0:
            quad -= 1
            for turn in range(4):
                u = wp.where(turn == 1 or turn == 2, 1, 0)
                v = wp.where(turn >= 2, 1, 0)
                near = wp.vec3i(at[0], at[1], at[2])
                near[(axis + 1) % 3] = near[(axis + 1) % 3] - u
                near[(axis + 2) % 3] = near[(axis + 2) % 3] - v
                other = value_index(index, near[0], near[1], near[2])
                row = kind[other]
                vertex = vertex_end[other] - sheets[row, 12] + sheets[row, axis * 4 + u + 2 * v]
                column = turn
                if (bits & 1) == 0:
                    column = 3 - turn
                quads[quad, column] = vertex
