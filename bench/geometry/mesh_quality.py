"""Measure the quality of an extracted model: the file against its source surface."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from bench.geometry import texture_sampler
from bench.geometry.glb_reader import Model
from worker.engine import Surface
from worker.extraction.kernels import runtime
from worker.extraction.mesh.geometry import signed_areas_2d
from worker.extraction.mesh.topology import connected_components

Floats = NDArray[np.float64]
RAYS = 64  # directions that are tried from each point
CLEAR_M = 2e-5  # how far off its own face a ray begins
REACH_M = 10.0


@dataclass(frozen=True)
class Quality:
    """What is measured of one model; every point is one of the same points of the surface, or of the model.

    off: from points of the model to the surface, metres. missed: from points of the surface that can be seen from
    outside to the model; all_missed: from any point of it; shown: from those that can be seen to what can be seen of
    the model, since a hidden wall may be near but shows nothing. Means and 99th percentiles. bent_deg: the mean angle
    between the surface there and the model's shading normal. Then PSNR in dB of what the textures say at those points,
    against the truth; mip_db is that of the colour at mip levels 1 to 4. on_model_db is that of the colour at points of
    the model, against the truth at the nearest place of the surface.

    coverage: the share of texels whose centre some face covers. overlap: texels that more than one covers. charts:
    connected pieces of the texture. boundary, crowded: edges of one face, and of more than two. disagreeing: the share
    of faces that some vertex normal turns away from. unseen_faces, unseen_texels: shares of what no camera outside can
    see.
    """

    off_mean: float
    off_p99: float
    missed_mean: float
    missed_p99: float
    all_missed_mean: float
    all_missed_p99: float
    shown_mean: float
    shown_p99: float
    normal_error_deg: float
    colour_db: float
    metallic_db: float
    roughness_db: float
    alpha_db: float
    mip_db: tuple[float, ...]
    on_model_db: float
    coverage: float
    overlapping_texels: int
    charts: int
    boundary_edges: int
    nonmanifold_edges: int
    volume: float
    flipped_normals: float
    unseen_faces: float
    unseen_texels: float


def measure(
    model: Model,
    surface: Surface,
    *,
    origin: Floats,
    truth: Callable[[Floats], Floats],
    samples: int,
    device: str = "cpu",
) -> Quality:
    """Compare a model with its surface.

    origin: where the surface has the model's origin. truth: the material as a function of place, as it was before
    it went into voxels. device: of the measuring, a Warp device.
    """
    standing = model.positions + origin
    original = runtime.build_bvh(surface.vertices, surface.faces, device)
    copy = runtime.build_bvh(standing, model.faces, device)
    own, own_face, own_by = sample_points(standing, model.faces, samples)
    nearest, off = runtime.find_closest_points(original, own)
    own_uv = np.einsum("nc,ncd->nd", own_by, model.uv[model.faces[own_face]].astype(np.float64))
    place, face, _ = sample_points(surface.vertices, surface.faces, samples)
    flat = _face_normals(surface.vertices, surface.faces[face])
    in_sight = find_visible(original, place, flat, both_sides=True)
    at, by, missed = _find_nearest_faces(copy, place)
    corners = model.faces[at]
    shaded = np.einsum("nc,ncd->nd", by, model.normals[corners].astype(np.float64))
    uv = np.einsum("nc,ncd->nd", by, model.uv[corners].astype(np.float64))[in_sight]
    expected = truth(place[in_sight])
    chain = texture_sampler.build_mip_chain(model, device)
    got = texture_sampler.sample_texture(chain[0], uv)
    covered, overlap = measure_coverage(model.uv, model.faces, len(model.colour), device)
    uses = count_edge_faces(_weld_vertices(model))
    faces_seen = _find_visible_faces(model, copy)
    texels = np.abs(signed_areas_2d(model.uv[model.faces].astype(np.float64)))
    _, shown = runtime.find_closest_points(
        runtime.build_bvh(standing, model.faces[faces_seen], device), place[in_sight]
    )
    return Quality(
        off_mean=float(off.mean()),
        off_p99=float(np.quantile(off, 0.99)),
        missed_mean=float(missed[in_sight].mean()),
        missed_p99=float(np.quantile(missed[in_sight], 0.99)),
        all_missed_mean=float(missed.mean()),
        all_missed_p99=float(np.quantile(missed, 0.99)),
        shown_mean=float(shown.mean()),
        shown_p99=float(np.quantile(shown, 0.99)),
        normal_error_deg=_mean_angle_deg(shaded[in_sight], flat[in_sight]),
        colour_db=psnr_db(got[:, :3], expected[:, :3]),
        metallic_db=psnr_db(got[:, 3], expected[:, 3]),
        roughness_db=psnr_db(got[:, 4], expected[:, 4]),
        alpha_db=psnr_db(got[:, 5], expected[:, 5]),
        mip_db=tuple(psnr_db(texture_sampler.sample_texture(level, uv)[:, :3], expected[:, :3]) for level in chain[1:]),
        on_model_db=psnr_db(
            texture_sampler.sample_texture(chain[0], own_uv)[:, :3], truth(nearest.astype(np.float64))[:, :3]
        ),
        coverage=covered,
        overlapping_texels=overlap,
        charts=connected_components(model.faces, len(model.positions), device)[0],
        boundary_edges=int((uses == 1).sum()),
        nonmanifold_edges=int((uses > 2).sum()),
        volume=volume(model.positions, model.faces),
        flipped_normals=_measure_flipped_normals(model),
        unseen_faces=float(1 - faces_seen.mean()),
        unseen_texels=float(1 - texels[faces_seen].sum() / max(texels.sum(), 1e-30)),
    )


def sample_points(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], count: int
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Sample points evenly on a mesh: positions [count, 3], their faces and barycentric weights [count, 3]."""
    rng = np.random.default_rng(11)
    corners = vertices[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    ends = np.cumsum(area)
    face = np.searchsorted(ends, np.sort(rng.random(count)) * ends[-1]).clip(0, len(faces) - 1)
    weights = rng.dirichlet((1, 1, 1), count)
    return np.einsum("nc,ncd->nd", weights, corners[face]), face, weights


def psnr_db(values: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Peak signal to noise ratio of values in [0, 1]; dB."""
    return float(-10 * np.log10(max(np.square(values - expected).mean(), 1e-12)))


def measure_coverage(
    uv: NDArray[np.float32], faces: NDArray[np.int64], side: int, device: str = "cpu"
) -> tuple[float, int]:
    """The share of texels whose centre some face covers, and how many more than one covers, counted face by face."""
    corners = wp.array((uv[faces].astype(np.float64) * side), dtype=wp.vec2d, device=device)
    count = wp.zeros((side, side), dtype=wp.int32, device=device)
    wp.launch(_count_covering_faces, dim=len(faces), inputs=[corners, count], device=device)
    counted = count.numpy()
    return float((counted > 0).mean()), int((counted > 1).sum())


@wp.func
def _side(p: wp.vec2d, q: wp.vec2d, x: wp.float64, y: wp.float64) -> wp.float64:
    return (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])


@wp.kernel
def _count_covering_faces(corners: wp.array2d[wp.vec2d], count: wp.array2d[wp.int32]) -> None:
    face = wp.tid()
    a = corners[face, 0]
    b = corners[face, 1]
    c = corners[face, 2]
    low = wp.min(a, wp.min(b, c))
    high = wp.max(a, wp.max(b, c))
    edge = wp.float64(1.0e-4)
    for y in range(int(wp.floor(low[1])), wp.min(int(wp.ceil(high[1])), count.shape[0])):
        for x in range(int(wp.floor(low[0])), wp.min(int(wp.ceil(high[0])), count.shape[1])):
            u = wp.float64(x) + wp.float64(0.5)
            v = wp.float64(y) + wp.float64(0.5)
            first = _side(a, b, u, v)
            second = _side(b, c, u, v)
            third = _side(c, a, u, v)
            least = wp.min(first, wp.min(second, third))
            most = wp.max(first, wp.max(second, third))
            if least > edge or most < -edge:
                wp.atomic_add(count, y, x, 1)


def count_edge_faces(faces: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the faces of each edge."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1).astype(np.int64)
    _, uses = np.unique(edges[:, 0] * (int(faces.max()) + 1) + edges[:, 1], return_counts=True)
    counted: NDArray[np.int64] = uses.astype(np.int64)
    return counted


def volume(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> float:
    """Return the enclosed volume, negative if faces wind inward."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    return float(np.einsum("fd,fd->", a, np.cross(b, c)) / 6)


def _weld_vertices(model: Model) -> NDArray[np.int64]:
    """Merge vertices of equal position, so that texture seams are no edges of the shape; return the faces."""
    whole = np.ascontiguousarray(model.positions).view(np.dtype((np.void, model.positions.itemsize * 3)))
    _, same = np.unique(whole.reshape(-1), return_inverse=True)
    return same.reshape(-1)[model.faces]


def _face_normals(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> Floats:
    """Return each face's normal, with twice its area as length."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    crosses: Floats = np.cross(b - a, c - a)
    return crosses


def _mean_angle_deg(first: Floats, second: Floats) -> float:
    """Return the mean angle between directions, ignoring their sign."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosine = np.abs(np.einsum("nd,nd->n", first, second)) / np.maximum(lengths, 1e-30)
    return float(np.degrees(np.arccos(np.clip(cosine, 0, 1))).mean())


def _find_visible_faces(model: Model, copy: wp.Mesh) -> NDArray[np.bool_]:
    """Return the triangles whose centre a camera outside can see."""
    middle = copy.points.numpy()[model.faces].mean(axis=1)
    both_sides = bool(model.document["materials"][0].get("doubleSided", False))
    return find_visible(copy, middle, _face_normals(model.positions, model.faces), both_sides=both_sides)


def _find_nearest_faces(surface: wp.Mesh, points: Floats) -> tuple[NDArray[np.int32], Floats, NDArray[np.float32]]:
    """Return each point's nearest face, the barycentric weights there, and the distance."""
    device = str(surface.points.device)
    face = wp.empty(len(points), dtype=wp.int32, device=device)
    by = wp.empty(len(points), dtype=wp.vec3, device=device)
    distance = wp.empty(len(points), dtype=wp.float32, device=device)
    inputs = [surface.id, runtime.to_vec3(points, device), face, by, distance]
    wp.launch(_query_nearest, dim=len(points), inputs=inputs, device=device)
    return face.numpy(), by.numpy().astype(np.float64), distance.numpy()


@wp.kernel
def _query_nearest(
    surface: wp.uint64,
    points: wp.array[wp.vec3],
    face: wp.array[wp.int32],
    by: wp.array[wp.vec3],
    distance: wp.array[wp.float32],
) -> None:
    i = wp.tid()
    query = wp.mesh_query_point_no_sign(surface, points[i], 1.0e9)
    face[i] = query.face
    by[i] = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)
    distance[i] = wp.length(wp.mesh_eval_position(surface, query.face, query.u, query.v) - points[i])


def _measure_flipped_normals(model: Model) -> float:
    a, b, c = model.positions[model.faces].astype(np.float64).transpose(1, 0, 2)
    flat = np.cross(b - a, c - a)
    agree = np.einsum("fd,fcd->fc", flat, model.normals[model.faces]).min(axis=1) > 0
    return float(1 - agree.mean())


def find_visible(
    surface: wp.Mesh, points: NDArray[Any], normals: NDArray[Any], *, both_sides: bool, start_m: float = CLEAR_M
) -> NDArray[np.bool_]:
    """Which points of a surface can be seen from outside: from the side of their normal, or from either side.

    points: [points, 3] on the surface. normals: [points, 3], of any length.
    """
    device = str(surface.points.device)
    flags = wp.zeros(len(points), dtype=wp.bool, device=device)
    inputs = [surface.id, runtime.to_vec3(points, device), runtime.to_vec3(normals, device), both_sides, start_m]
    wp.launch(
        _cast_rays,
        dim=len(points),
        inputs=[*inputs, runtime.to_vec3(_sphere_directions(), device), flags],
        device=device,
    )
    found: NDArray[np.bool_] = flags.numpy()
    return found


def _sphere_directions() -> NDArray[np.float64]:
    """Return directions spread evenly over the sphere on a spiral; near ones are far apart in the list."""
    number = np.arange(RAYS) * 23 % RAYS
    height = 1 - (2 * number + 1) / RAYS
    turn = number * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1)


@wp.kernel
def _cast_rays(
    surface: wp.uint64,
    points: wp.array[wp.vec3],
    normals: wp.array[wp.vec3],
    both_sides: wp.bool,
    start_m: wp.float32,
    ways: wp.array[wp.vec3],
    flags: wp.array[wp.bool],
) -> None:
    i = wp.tid()
    normal = wp.normalize(normals[i])
    for way in range(ways.shape[0]):
        cosine = wp.dot(ways[way], normal)
        if cosine > 0.02 or (both_sides and cosine < -0.02):
            start = points[i] + normal * wp.sign(cosine) * start_m
            query = wp.mesh_query_ray(surface, start, ways[way], REACH_M)
            if not query.result:
                flags[i] = True
                return
