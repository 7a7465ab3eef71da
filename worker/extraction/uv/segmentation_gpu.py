"""Merging patches into charts on the GPU: the rounds of `charts.cluster`, each a handful of kernels.

Every patch that is left after a round is one or two of the patches before it, so sums need no order among threads and
equal meshes give equal charts.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

if TYPE_CHECKING:
    from worker.extraction.uv.segmentation import Limits, Patches

NEVER = wp.constant(wp.int64(2**62))
DEAREST = wp.constant(wp.float64(200.0))  # costs are told apart up to here
FINENESS = wp.constant(wp.float64(1e7))  # and by this fraction of one
SMALL = wp.constant(wp.float64(1e-30))


def merge(
    patches: "Patches",
    limits: "Sequence[Limits]",
    *,
    roughness_weight: float,
    device: str,
    alive: Callable[[], object],
) -> NDArray[np.int64]:
    """Each patch's chart, numbered from 0; int64 [patches]. The arguments are those of `charts.cluster`."""
    count = len(patches.areas)
    state = _Round(
        areas=_doubles(patches.areas, device),
        normals=wp.array(patches.normals, dtype=wp.vec3d, device=device),
        outlines=_doubles(patches.outlines, device),
        pairs=wp.array(patches.pairs.astype(np.int32), dtype=wp.int32, device=device),
        borders=_doubles(patches.borders, device),
    )
    faces = state.normals
    chart = wp.array(np.arange(count, dtype=np.int32), dtype=wp.int32, device=device)
    for limit in limits:
        rule = [limit.cone_rad, limit.max_area, limit.small_area, roughness_weight]
        while len(state.pairs):
            alive()
            name, left = _agree(state, faces, chart, rule)
            if left == len(state.areas):
                break
            state = _joined(state, name, left)
            wp.launch(_follow, dim=count, inputs=[name, chart], device=device)
    charts: NDArray[np.int32] = chart.numpy()
    return charts.astype(np.int64)


class _Round:
    """The patches at the start of a round, on the device; `charts.Patches` says what each array is."""

    def __init__(
        self, areas: wp.array, normals: wp.array, outlines: wp.array, pairs: wp.array, borders: wp.array
    ) -> None:
        self.areas = areas
        self.normals = normals
        self.outlines = outlines
        self.pairs = pairs
        self.borders = borders
        self.device = areas.device


def _doubles(values: NDArray[np.float64], device: Any) -> wp.array:
    return wp.array(values, dtype=wp.float64, device=device)


def _agree(state: _Round, faces: wp.array, chart: wp.array, rule: list[float]) -> tuple[wp.array, int]:
    """The patch that each patch becomes part of, and how many there are then."""
    device, count, pairs = state.device, len(state.areas), len(state.pairs)
    least = wp.full(count, 1.0, dtype=wp.float32, device=device)
    wp.launch(_lean, dim=len(chart), inputs=[faces, chart, state.normals, least], device=device)
    keys = wp.empty(pairs, dtype=wp.int64, device=device)
    asked = wp.full(count, NEVER, dtype=wp.int64, device=device)
    inputs = [state.areas, state.normals, state.outlines, state.pairs, state.borders, least]
    wp.launch(_offer, dim=pairs, inputs=[*inputs, *rule, keys, asked], device=device)
    owner = wp.array(np.arange(count, dtype=np.int32), dtype=wp.int32, device=device)
    wp.launch(_accept, dim=pairs, inputs=[state.pairs, keys, asked, owner], device=device)
    ends = wp.empty(count, dtype=wp.int32, device=device)
    wp.launch(_mark_owners, dim=count, inputs=[owner, ends], device=device)
    wp.utils.array_scan(ends, ends, inclusive=True)
    name = wp.empty(count, dtype=wp.int32, device=device)
    wp.launch(_name, dim=count, inputs=[owner, ends, name], device=device)
    return name, int(ends[-1:].numpy()[0])


def _joined(state: _Round, name: wp.array, left: int) -> _Round:
    device, pairs = state.device, len(state.pairs)
    areas = wp.zeros(left, dtype=wp.float64, device=device)
    normals = wp.zeros(left, dtype=wp.vec3d, device=device)
    outlines = wp.zeros(left, dtype=wp.float64, device=device)
    before = [name, state.areas, state.normals, state.outlines]
    wp.launch(_sum, dim=len(name), inputs=[*before, areas, normals, outlines], device=device)
    keys = wp.empty(2 * pairs, dtype=wp.int64, device=device)
    number = wp.empty(2 * pairs, dtype=wp.int32, device=device)
    inputs = [name, state.pairs, state.borders, left, outlines, keys, number]
    wp.launch(_rename, dim=pairs, inputs=inputs, device=device)
    wp.utils.radix_sort_pairs(keys, number, pairs, end_bit=(left * left).bit_length())
    ends = wp.empty(pairs, dtype=wp.int32, device=device)
    wp.launch(_mark_firsts, dim=pairs, inputs=[keys, left, ends], device=device)
    wp.utils.array_scan(ends, ends, inclusive=True)
    unlike = int(ends[-1:].numpy()[0])
    new_pairs = wp.empty((unlike, 2), dtype=wp.int32, device=device)
    borders = wp.empty(unlike, dtype=wp.float64, device=device)
    inputs = [keys, number, ends, state.borders, left, new_pairs, borders]
    wp.launch(_gather, dim=pairs, inputs=inputs, device=device)
    return _Round(areas, normals, outlines, new_pairs, borders)


@wp.func
def _unit(v: wp.vec3d) -> wp.vec3d:
    return v / wp.max(wp.length(v), SMALL)


@wp.func
def _angle(cosine: wp.float64) -> wp.float64:
    return wp.acos(wp.clamp(cosine, wp.float64(-1.0), wp.float64(1.0)))


@wp.kernel
def _follow(name: wp.array[wp.int32], chart: wp.array[wp.int32]) -> None:
    face = wp.tid()
    chart[face] = name[chart[face]]


@wp.kernel
def _lean(
    faces: wp.array[wp.vec3d], chart: wp.array[wp.int32], normals: wp.array[wp.vec3d], least: wp.array[wp.float32]
) -> None:
    """The cosine of the face that leans most from its chart's axis."""
    face = wp.tid()
    cosine = wp.dot(_unit(faces[face]), _unit(normals[chart[face]]))
    wp.atomic_min(least, chart[face], wp.float32(cosine))


@wp.kernel
def _offer(
    areas: wp.array[wp.float64],
    normals: wp.array[wp.vec3d],
    outlines: wp.array[wp.float64],
    pairs: wp.array2d[wp.int32],
    borders: wp.array[wp.float64],
    least: wp.array[wp.float32],
    cone_rad: wp.float64,
    max_area: wp.float64,
    small_area: wp.float64,
    roughness_weight: wp.float64,
    keys: wp.array[wp.int64],
    asked: wp.array[wp.int64],
) -> None:
    """What it costs to merge each pair, as a number that no other pair has; both sides keep their cheapest."""
    pair = wp.tid()
    keys[pair] = NEVER
    one = pairs[pair, 0]
    other = pairs[pair, 1]
    together = _unit(normals[one] + normals[other])
    bend = wp.max(
        _angle(wp.dot(together, _unit(normals[one]))) + _angle(wp.float64(least[one])),
        _angle(wp.dot(together, _unit(normals[other]))) + _angle(wp.float64(least[other])),
    )
    size = areas[one] + areas[other]
    if bend > cone_rad or size > max_area or wp.min(areas[one], areas[other]) > small_area:
        return
    outline = wp.abs(outlines[one] + outlines[other] - wp.float64(2.0) * borders[pair])
    roughness = outline / wp.sqrt(wp.float64(12.566370614359172) * wp.max(size, SMALL))
    cost = wp.min(bend / cone_rad + roughness_weight * roughness, DEAREST)
    key = (wp.int64(cost * FINENESS) << wp.int64(32)) | wp.int64(pair)
    keys[pair] = key
    wp.atomic_min(asked, one, key)
    wp.atomic_min(asked, other, key)


@wp.kernel
def _accept(
    pairs: wp.array2d[wp.int32], keys: wp.array[wp.int64], asked: wp.array[wp.int64], owner: wp.array[wp.int32]
) -> None:
    pair = wp.tid()
    key = keys[pair]
    if key != NEVER and asked[pairs[pair, 0]] == key and asked[pairs[pair, 1]] == key:
        owner[pairs[pair, 1]] = pairs[pair, 0]


@wp.kernel
def _mark_owners(owner: wp.array[wp.int32], ends: wp.array[wp.int32]) -> None:
    patch = wp.tid()
    ends[patch] = wp.where(owner[patch] == patch, 1, 0)


@wp.kernel
def _name(owner: wp.array[wp.int32], ends: wp.array[wp.int32], name: wp.array[wp.int32]) -> None:
    patch = wp.tid()
    name[patch] = ends[owner[patch]] - 1


@wp.kernel
def _sum(
    name: wp.array[wp.int32],
    areas: wp.array[wp.float64],
    normals: wp.array[wp.vec3d],
    outlines: wp.array[wp.float64],
    new_areas: wp.array[wp.float64],
    new_normals: wp.array[wp.vec3d],
    new_outlines: wp.array[wp.float64],
) -> None:
    patch = wp.tid()
    new = name[patch]
    wp.atomic_add(new_areas, new, areas[patch])
    wp.atomic_add(new_normals, new, normals[patch])
    wp.atomic_add(new_outlines, new, outlines[patch])


@wp.kernel
def _rename(
    name: wp.array[wp.int32],
    pairs: wp.array2d[wp.int32],
    borders: wp.array[wp.float64],
    left: wp.int32,
    new_outlines: wp.array[wp.float64],
    keys: wp.array[wp.int64],
    number: wp.array[wp.int32],
) -> None:
    """Pairs that became one patch go last."""
    pair = wp.tid()
    one = name[pairs[pair, 0]]
    other = name[pairs[pair, 1]]
    number[pair] = pair
    keys[pair] = wp.int64(wp.min(one, other)) * wp.int64(left) + wp.int64(wp.max(one, other))
    if one == other:
        keys[pair] = wp.int64(left) * wp.int64(left)
        wp.atomic_sub(new_outlines, one, wp.float64(2.0) * borders[pair])


@wp.kernel
def _mark_firsts(keys: wp.array[wp.int64], left: wp.int32, ends: wp.array[wp.int32]) -> None:
    i = wp.tid()
    ends[i] = 0
    if keys[i] < wp.int64(left) * wp.int64(left):
        if i == 0 or keys[i - 1] != keys[i]:
            ends[i] = 1


@wp.kernel
def _gather(
    keys: wp.array[wp.int64],
    number: wp.array[wp.int32],
    ends: wp.array[wp.int32],
    borders: wp.array[wp.float64],
    left: wp.int32,
    new_pairs: wp.array2d[wp.int32],
    new_borders: wp.array[wp.float64],
) -> None:
    i = wp.tid()
    key = keys[i]
    if key == wp.int64(left) * wp.int64(left):
        return
    if i > 0:
        if keys[i - 1] == key:
            return
    new = ends[i] - 1
    new_pairs[new, 0] = wp.int32(key / wp.int64(left))
    new_pairs[new, 1] = wp.int32(key % wp.int64(left))
    total = wp.float64(0.0)
    at = int(i)
    while at < ends.shape[0]:
        if keys[at] != key:
            break
        total += borders[number[at]]
        at += 1
    new_borders[new] = total
