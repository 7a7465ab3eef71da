"""Warp, set up quietly, and the geometry kernels that every phase shares; one code for CPU and GPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

wp.config.log_level = wp.LOG_ERROR
wp.config.enable_backward = False  # nothing here is differentiated; halves what must be compiled


def set_cache(path: Path) -> None:
    """Start Warp with its compiled kernels kept under `path`; to be called before anything else here."""
    wp.config.kernel_cache_dir = str(path)
    with _silent():
        wp.init()


@cache
def best_device() -> str:
    """The first GPU that Warp can use, "cuda:0", or "cpu" where there is none."""
    with _silent():
        wp.init()
    return "cuda:0" if wp.get_cuda_device_count() else "cpu"


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing reaches standard error: Warp's library warns there of a machine without a GPU, and has no switch."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def build_bvh(vertices: NDArray[Any] | wp.array, faces: NDArray[Any] | wp.array, device: str) -> wp.Mesh:
    """A bounding volume hierarchy over float [vertices, 3], int [faces, 3], for closest points and rays."""
    return wp.Mesh(points=to_vec3(vertices, device), indices=to_int32(faces, device).flatten())


def to_vec3(rows: NDArray[Any] | wp.array, device: str) -> wp.array:
    """float [n, 3] as a Warp array of vec3; what is one already stays where it is."""
    if isinstance(rows, wp.array):
        return rows
    return wp.array(np.ascontiguousarray(rows, dtype=np.float32), dtype=wp.vec3, device=device)


def to_int32(values: NDArray[Any] | wp.array, device: str) -> wp.array:
    """Integers as a Warp array of int32; what is one already stays where it is."""
    if isinstance(values, wp.array):
        return values
    return wp.array(np.ascontiguousarray(values, dtype=np.int32), dtype=wp.int32, device=device)


def find_closest_points(surface: wp.Mesh, points: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each point the nearest place on the surface, float32 [points, 3], and how far that is, float32 [points]."""
    device = str(surface.points.device)
    query = to_vec3(points, device)
    place = wp.zeros_like(query)
    distance = wp.zeros(len(points), dtype=wp.float32, device=device)
    wp.launch(_closest, dim=len(points), inputs=[surface.id, query, place, distance], device=device)
    return place.numpy(), distance.numpy()


def cast_rays(
    surface: wp.Mesh, origins: NDArray[Any], directions: NDArray[Any], reach: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """For each ray the first face hit, -1 for none, int32 [rays], and the cosine between ray and face normal."""
    device = str(surface.points.device)
    face = wp.zeros(len(origins), dtype=wp.int32, device=device)
    cosine = wp.zeros(len(origins), dtype=wp.float32, device=device)
    inputs = [surface.id, to_vec3(origins, device), to_vec3(directions, device), reach, face, cosine]
    wp.launch(_first_hit, dim=len(origins), inputs=inputs, device=device)
    return face.numpy(), cosine.numpy()


@wp.kernel
def _closest(
    surface: wp.uint64,
    points: wp.array[wp.vec3],
    place: wp.array[wp.vec3],
    distance: wp.array[wp.float32],
) -> None:
    i = wp.tid()
    query = wp.mesh_query_point_no_sign(surface, points[i], 1.0e9)
    place[i] = wp.mesh_eval_position(surface, query.face, query.u, query.v)
    distance[i] = wp.length(place[i] - points[i])


@wp.kernel
def _first_hit(
    surface: wp.uint64,
    origins: wp.array[wp.vec3],
    directions: wp.array[wp.vec3],
    reach: wp.float32,
    face: wp.array[wp.int32],
    cosine: wp.array[wp.float32],
) -> None:
    i = wp.tid()
    query = wp.mesh_query_ray(surface, origins[i], directions[i], reach)
    face[i] = -1
    if query.result:
        face[i] = query.face
        cosine[i] = wp.dot(wp.normalize(query.normal), directions[i])
