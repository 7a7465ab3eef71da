"""Set up Warp, share a GPU between threads, and query a mesh; one code for CPU and GPU."""

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from shared.errors import GpuOutOfMemory

wp.config.log_level = wp.LOG_ERROR
wp.config.enable_backward = False  # no gradients are computed here; halves the code to compile

POLL_S = 0.2  # longest time until a waiting extraction notices that its job was canceled
ALLOCATION_FAILED = "Failed to allocate"  # Warp's message when a device is out of memory
MAX_DISTANCE_M = wp.constant(1.0e9)
_gpu_lock = threading.Lock()


def set_cache(path: Path) -> None:
    """Initialize Warp with its cache of compiled kernels in `path`, or where Warp's own variable WARP_CACHE_PATH says.

    Call this before any other function here.
    """
    if "WARP_CACHE_PATH" not in os.environ:
        wp.config.kernel_cache_dir = str(path)
    with _silence_stderr():
        wp.init()


@cache
def best_device() -> str:
    """Return the first GPU that Warp can use, "cuda:0", or "cpu" if there is none."""
    with _silence_stderr():
        wp.init()
    return "cuda:0" if wp.get_cuda_device_count() else "cpu"


@contextmanager
def _silence_stderr() -> Iterator[None]:
    """Discard what Warp's native library prints: on a machine without a GPU it warns, and no setting prevents that."""
    original, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(null)


@contextmanager
def gpu_lock(device: str, check_canceled: Callable[[], object]) -> Iterator[None]:
    """Let one thread at a time extract on a GPU; on the CPU return at once.

    Warp's sorts share one buffer per stream, and its BVHs share one table without a lock, so two extractions at once
    corrupt each other's meshes. Another job's sampling may run at the same time. Arrays that outlive the block must
    belong to the caller.

    Args:
        check_canceled: is called every POLL_S while waiting; what it raises passes through.
    """
    if device == "cpu":
        yield
        return
    while not _gpu_lock.acquire(timeout=POLL_S):
        check_canceled()
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # frees the failed extraction's BVHs before the next one starts
        raise
    finally:
        _gpu_lock.release()


@contextmanager
def translate_gpu_errors() -> Iterator[None]:
    """Translate Warp's allocation failure.

    Raises:
        GpuOutOfMemory: the device has too little free memory.
    """
    try:
        yield
    except RuntimeError as error:
        if ALLOCATION_FAILED not in str(error):
            raise
        raise GpuOutOfMemory("the job needs more memory than the GPU has: ask for a lower pipeline_type") from error


def build_bvh(vertices: NDArray[Any] | wp.array, faces: NDArray[Any] | wp.array, device: str) -> wp.Mesh:
    """Build a bounding volume hierarchy over float [vertices, 3] and int [faces, 3], for closest points and rays."""
    return wp.Mesh(points=to_vec3(vertices, device), indices=to_int32(faces, device).flatten())


def to_vec3(rows: NDArray[Any] | wp.array, device: str) -> wp.array:
    """Copy float [n, 3] to the device as vec3 [n]; return a Warp array unchanged."""
    if isinstance(rows, wp.array):
        return rows
    return wp.array(np.ascontiguousarray(rows, dtype=np.float32), dtype=wp.vec3, device=device)


def to_int32(values: NDArray[Any] | wp.array, device: str) -> wp.array:
    """Copy integers to the device as int32; return a Warp array unchanged."""
    if isinstance(values, wp.array):
        return values
    return wp.array(np.ascontiguousarray(values, dtype=np.int32), dtype=wp.int32, device=device)


def find_closest_points(surface: wp.Mesh, points: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the surface's closest point to each point, float32 [points, 3], and its distance, float32 [points]."""
    device = str(surface.points.device)
    query = to_vec3(points, device)
    closest = wp.zeros_like(query)
    distance = wp.zeros(len(points), dtype=wp.float32, device=device)
    wp.launch(_find_closest, dim=len(points), inputs=[surface.id, query, closest, distance], device=device)
    return closest.numpy(), distance.numpy()


def cast_rays(
    surface: wp.Mesh, origins: NDArray[Any], directions: NDArray[Any], reach: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the first face that each ray hits within `reach` times its direction.

    Returns:
        The face, int32 [rays], or -1; and the cosine between its normal and the ray, float32 [rays], or 0.
    """
    device = str(surface.points.device)
    face = wp.zeros(len(origins), dtype=wp.int32, device=device)
    cosine = wp.zeros(len(origins), dtype=wp.float32, device=device)
    inputs = [surface.id, to_vec3(origins, device), to_vec3(directions, device), reach, face, cosine]
    wp.launch(_cast_ray, dim=len(origins), inputs=inputs, device=device)
    return face.numpy(), cosine.numpy()


@wp.kernel
def _find_closest(
    surface: wp.uint64,
    points: wp.array[wp.vec3],
    closest: wp.array[wp.vec3],
    distance: wp.array[wp.float32],
) -> None:
    i = wp.tid()
    query = wp.mesh_query_point_no_sign(surface, points[i], MAX_DISTANCE_M)
    closest[i] = wp.mesh_eval_position(surface, query.face, query.u, query.v)
    distance[i] = wp.length(closest[i] - points[i])


@wp.kernel
def _cast_ray(
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
