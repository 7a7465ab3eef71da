"""Offset surface: the closed iso-surface of a surface's unsigned distance field at a set distance.

The distance is sampled at the corners of cubic cells, in the bricks of a sparse grid near the surface. Dual marching
cubes (Nielson 2004) meshes its level set: one vertex per cell and sheet of the surface in it, and one quad around each
grid edge that the surface crosses. Sheets that meet in a cell stay apart, so the result is manifold and has no
boundary.
"""

from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.sparse_grid import SIDE, VOLUME, SparseGrid, cell_at, value_index
from worker.extraction.model.asset import ProgressCallback

BATCH_SIZE = 2_000_000  # distances between two progress reports: half a second on the CPU


def build_offset_mesh(
    surface: wp.Mesh, cell_m: float, distance_m: float, step: ProgressCallback
) -> tuple[wp.array, wp.array]:
    """Build the offset mesh at `distance_m` from the surface, on both sides of every sheet.

    Where two sheets are nearer to each other than twice the distance, their offsets merge.

    Returns:
        on the device, vertices: vec3 [vertices], metres. quads: int32 [quads, 4], counter-clockwise seen from the side
        away from the surface.
    """
    device = surface.points.device
    points = surface.points.numpy()
    margin = distance_m + 2 * cell_m
    low, high = (np.array([end(axis) for axis in points.T]) for end in (np.min, np.max))
    origin = wp.vec3(*(low - margin).tolist())
    cells = np.ceil((high - low + 2 * margin) / cell_m).astype(int) + 1
    flags = wp.zeros(tuple((cells // SIDE + 1).tolist()), dtype=wp.int32, device=device)
    wp.launch(_flag_bricks, dim=flags.shape, inputs=[surface.id, origin, cell_m, distance_m, flags], device=device)
    grid = SparseGrid.from_flags(flags)
    return _mesh_level_set(grid, _sample_distances(surface, grid, origin, cell_m, distance_m, step), origin, cell_m)


def _sample_distances(
    surface: wp.Mesh, grid: SparseGrid, origin: wp.vec3, cell_m: float, distance_m: float, step: ProgressCallback
) -> wp.array:
    values = wp.empty(grid.count * VOLUME, dtype=wp.float32, device=grid.index.device)
    for first in range(0, values.size, BATCH_SIZE):
        dim = min(BATCH_SIZE, values.size - first)
        inputs = [surface.id, grid.brick_coords, origin, cell_m, distance_m, first, values]
        wp.launch(_sample_distance, dim=dim, inputs=inputs, device=values.device)
        step((first + dim) / values.size)
    return values


def _mesh_level_set(grid: SparseGrid, values: wp.array, origin: wp.vec3, cell_m: float) -> tuple[wp.array, wp.array]:
    device = values.device
    sheets = wp.array(sheet_table(), dtype=wp.int32, device=device)
    cell_case, vertex_end, quad_end = (wp.empty(values.size, dtype=wp.int32, device=device) for _ in range(3))

    def launch(kernel: Any, *inputs: Any) -> None:
        wp.launch(kernel, dim=values.size, inputs=[grid.index, grid.brick_coords, *inputs], device=device)

    launch(_count_elements, values, sheets, cell_case, vertex_end, quad_end)
    for ends in (vertex_end, quad_end):
        wp.utils.array_scan(ends, ends, inclusive=True)
    vertices = wp.empty(int(vertex_end[-1:].numpy()[0]), dtype=wp.vec3, device=device)
    quads = wp.empty((int(quad_end[-1:].numpy()[0]), 4), dtype=wp.int32, device=device)
    launch(_place_vertices, values, sheets, cell_case, vertex_end, origin, cell_m, vertices)
    launch(_connect_quads, sheets, cell_case, vertex_end, quad_end, quads)
    return vertices, quads


@cache
def sheet_table() -> NDArray[np.int32]:
    """Tabulate which sheet of the surface crosses each edge of a cell; int32 [256, 13].

    Row: the cell's case, bit `x + 2y + 4z` set if that corner is inside. Column `4a + u + 2v`: the sheet across the
    edge along axis `a` at offsets u, v on the next two axes, or -1 if nothing crosses it. Column 12: the number of
    sheets.
    """
    return np.array([_sheets(case) for case in range(256)], dtype=np.int32)


def _sheets(case: int) -> list[int]:
    """Join the crossed edges of each face of the cell; on an ambiguous face the inside corners stay separate."""
    inside = [bool(case >> corner & 1) for corner in range(8)]
    crossed = {edge: ends for edge, ends in enumerate(_edges()) if inside[ends[0]] != inside[ends[1]]}
    sheet = {edge: edge for edge in crossed}
    for face in _faces():
        on_face = [edge for edge, ends in crossed.items() if set(ends) <= face]
        for first, second in combinations(on_face, 2):
            if len(on_face) == 2 or any(inside[corner] for corner in {*crossed[first]} & {*crossed[second]}):
                old, new = sheet[first], sheet[second]
                sheet = {edge: new if label == old else label for edge, label in sheet.items()}
    labels = sorted(set(sheet.values()))
    return [labels.index(sheet[edge]) if edge in sheet else -1 for edge in range(12)] + [len(labels)]


def _edges() -> list[tuple[int, int]]:
    """Return the two corners of each of a cell's edges, in the order of the table's columns."""
    edges = []
    for axis, v, u in product(range(3), range(2), range(2)):
        first = u << (axis + 1) % 3 | v << (axis + 2) % 3
        edges.append((first, first | 1 << axis))
    return edges


def _faces() -> list[set[Any]]:
    """Return the four corners of each of a cell's faces."""
    return [{corner for corner in range(8) if corner >> axis & 1 == side} for axis in range(3) for side in range(2)]


@wp.kernel
def _flag_bricks(
    surface: wp.uint64,
    origin: wp.vec3,
    cell_m: wp.float32,
    distance_m: wp.float32,
    flags: wp.array3d[wp.int32],
) -> None:
    """Flag one brick if the level set, or a cell next to it, may reach into it."""
    i, j, k = wp.tid()
    centre = origin + wp.vec3(float(i) * 8.0 + 3.5, float(j) * 8.0 + 3.5, float(k) * 8.0 + 3.5) * cell_m
    # 7.8 cells: half the brick's diagonal (6.1) and a cell's (1.7).
    query = wp.mesh_query_point_no_sign(surface, centre, distance_m + 7.8 * cell_m)
    if query.result:
        flags[i, j, k] = 1


@wp.kernel
def _sample_distance(
    surface: wp.uint64,
    brick_coords: wp.array[wp.vec3i],
    origin: wp.vec3,
    cell_m: wp.float32,
    distance_m: wp.float32,
    first: wp.int32,
    values: wp.array[wp.float32],
) -> None:
    """Sample the distance to the surface, less `distance_m`, at one grid point; clamp it to one cell."""
    i = first + wp.tid()
    at = cell_at(brick_coords, i)
    point = origin + wp.vec3(float(at[0]), float(at[1]), float(at[2])) * cell_m
    # The search radius is the clamp: farther surfaces are not searched for.
    query = wp.mesh_query_point_no_sign(surface, point, distance_m + cell_m)
    values[i] = cell_m
    if query.result:
        nearest = wp.mesh_eval_position(surface, query.face, query.u, query.v)
        values[i] = wp.length(nearest - point) - distance_m


@wp.func
def _value(
    index: wp.array3d[wp.int32], values: wp.array[wp.float32], x: wp.int32, y: wp.int32, z: wp.int32
) -> wp.float32:
    """Look up the value at a grid point; outside of the used bricks any positive number does."""
    at = value_index(index, x, y, z)
    if at < 0:
        return 1.0
    return values[at]


@wp.kernel
def _count_elements(
    index: wp.array3d[wp.int32],
    brick_coords: wp.array[wp.vec3i],
    values: wp.array[wp.float32],
    sheets: wp.array2d[wp.int32],
    cell_case: wp.array[wp.int32],
    vertex_count: wp.array[wp.int32],
    quad_count: wp.array[wp.int32],
) -> None:
    """Find one cell's case, and count its vertices and its quads: those around the three edges at its lowest corner."""
    i = wp.tid()
    at = cell_at(brick_coords, i)
    # 1. One bit per corner that is inside.
    bits = int(0)
    for corner in range(8):
        value = _value(index, values, at[0] + (corner & 1), at[1] + ((corner >> 1) & 1), at[2] + (corner >> 2))
        if value < 0.0:
            bits = bits | (1 << corner)
    cell_case[i] = bits
    # 2. One vertex per sheet.
    vertex_count[i] = sheets[bits, 12]
    # 3. One quad per crossed edge; columns 0, 4 and 8 are the edges at the lowest corner.
    quad_count[i] = (
        wp.where(sheets[bits, 0] >= 0, 1, 0)
        + wp.where(sheets[bits, 4] >= 0, 1, 0)
        + wp.where(sheets[bits, 8] >= 0, 1, 0)
    )


@wp.kernel
def _place_vertices(
    index: wp.array3d[wp.int32],
    brick_coords: wp.array[wp.vec3i],
    values: wp.array[wp.float32],
    sheets: wp.array2d[wp.int32],
    cell_case: wp.array[wp.int32],
    vertex_end: wp.array[wp.int32],
    origin: wp.vec3,
    cell_m: wp.float32,
    vertices: wp.array[wp.vec3],
) -> None:
    """Place the vertex of each of one cell's sheets at the mean of the points where the sheet crosses edges."""
    i = wp.tid()
    bits = cell_case[i]
    count = sheets[bits, 12]
    at = cell_at(brick_coords, i)
    for sheet in range(count):
        total = wp.vec3(0.0, 0.0, 0.0)
        crossings = float(0.0)
        for edge in range(12):
            if sheets[bits, edge] == sheet:
                # 1. The edge's ends, from its number 4a + u + 2v.
                axis = edge >> 2
                b = (axis + 1) % 3
                c = (axis + 2) % 3
                low = wp.vec3i(0, 0, 0)
                low[b] = edge & 1
                low[c] = (edge >> 1) & 1
                high = wp.vec3i(low[0], low[1], low[2])
                high[axis] = 1
                # 2. The zero crossing between them, by linear interpolation.
                first = _value(index, values, at[0] + low[0], at[1] + low[1], at[2] + low[2])
                second = _value(index, values, at[0] + high[0], at[1] + high[1], at[2] + high[2])
                point = wp.vec3(float(low[0]), float(low[1]), float(low[2]))
                point[axis] = first / (first - second)
                total += point
                crossings += 1.0
        # 3. The mean, from cells to metres.
        local = total / crossings + wp.vec3(float(at[0]), float(at[1]), float(at[2]))
        vertices[vertex_end[i] - count + sheet] = origin + local * cell_m


@wp.kernel
def _connect_quads(
    index: wp.array3d[wp.int32],
    brick_coords: wp.array[wp.vec3i],
    sheets: wp.array2d[wp.int32],
    cell_case: wp.array[wp.int32],
    vertex_end: wp.array[wp.int32],
    quad_end: wp.array[wp.int32],
    quads: wp.array2d[wp.int32],
) -> None:
    """Write the quad around each crossed edge at one cell's lowest corner, through the four cells that share it."""
    i = wp.tid()
    bits = cell_case[i]
    at = cell_at(brick_coords, i)
    quad = int(quad_end[i])
    for axis in range(3):
        if sheets[bits, axis * 4] >= 0:
            quad -= 1
            for turn in range(4):
                # 1. The cell at offsets u, v below this one, in circular order: (0, 0), (1, 0), (1, 1), (0, 1).
                u = wp.where(turn == 1 or turn == 2, 1, 0)
                v = wp.where(turn >= 2, 1, 0)
                near = wp.vec3i(at[0], at[1], at[2])
                near[(axis + 1) % 3] = near[(axis + 1) % 3] - u
                near[(axis + 2) % 3] = near[(axis + 2) % 3] - v
                neighbour = value_index(index, near[0], near[1], near[2])
                # 2. Its vertex on the sheet that crosses the edge, which is its edge 4 axis + u + 2v.
                row = cell_case[neighbour]
                vertex = vertex_end[neighbour] - sheets[row, 12] + sheets[row, axis * 4 + u + 2 * v]
                # 3. Reversed where the lowest corner is outside, so that the front faces away from the surface.
                column = turn
                if (bits & 1) == 0:
                    column = 3 - turn
                quads[quad, column] = vertex
