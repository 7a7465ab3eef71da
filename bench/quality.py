"""How good an extracted model is: measured on the file, against the surface that it was made from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import warp as wp
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from bench.glb_reading import Model
from worker.engine import Surface
from worker.extraction import kernels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """Distances in metres, both ways, means and 99th percentiles; PSNR in dB at points of the model.

    overlap: texels that two faces cover. boundary, crowded: edges of one face, and of more than two.
    disagreeing: the share of faces that some vertex normal turns away from.
    """

    off_mean: float
    off_p99: float
    missed_mean: float
    missed_p99: float
    colour_db: float
    surface_db: float
    coverage: float
    overlap: int
    boundary: int
    crowded: int
    volume: float
    disagreeing: float


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
    place, face, weights = sample(model.positions + origin, model.faces, samples)
    of_surface, _, _ = sample(surface.vertices, surface.faces, samples)
    original = kernels.mesh(surface.vertices, surface.faces, device)
    copy = kernels.mesh(model.positions + origin, model.faces, device)
    _, missed = kernels.closest(copy, of_surface)
    material = _material(model, face, weights)
    nearest, off = kernels.closest(original, place)
    wanted = truth(nearest.astype(np.float64))
    covered, overlap = coverage(model.uv, model.faces, len(model.colour), device)
    uses = edge_uses(_welded(model))
    return Quality(
        off_mean=float(off.mean()),
        off_p99=float(np.quantile(off, 0.99)),
        missed_mean=float(missed.mean()),
        missed_p99=float(np.quantile(missed, 0.99)),
        colour_db=psnr(material[:, :3], wanted[:, :3]),
        surface_db=psnr(material[:, 3:5], wanted[:, 3:5]),
        coverage=covered,
        overlap=overlap,
        boundary=int((uses == 1).sum()),
        crowded=int((uses > 2).sum()),
        volume=volume(model.positions, model.faces),
        disagreeing=_disagreeing(model),
    )


def sample(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], count: int
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Points spread evenly over a mesh: places [count, 3], their faces and their weights [count, 3]."""
    rng = np.random.default_rng(11)
    corners = vertices[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    ends = np.cumsum(area)
    face = np.searchsorted(ends, np.sort(rng.random(count)) * ends[-1]).clip(0, len(faces) - 1)
    weights = rng.dirichlet((1, 1, 1), count)
    return np.einsum("nc,ncd->nd", weights, corners[face]), face, weights


def psnr(one: Floats, other: Floats) -> float:
    """Peak signal to noise ratio of values in [0, 1]; dB."""
    return float(-10 * np.log10(max(np.square(one - other).mean(), 1e-12)))


def coverage(uv: NDArray[np.float32], faces: NDArray[np.int64], side: int, device: str = "cpu") -> tuple[float, int]:
    """The share of texels whose centre some face covers, and how many more than one covers, counted face by face."""
    corners = wp.array((uv[faces].astype(np.float64) * side), dtype=wp.vec2d, device=device)
    count = wp.zeros((side, side), dtype=wp.int32, device=device)
    wp.launch(_count, dim=len(faces), inputs=[corners, count], device=device)
    counted = count.numpy()
    return float((counted > 0).mean()), int((counted > 1).sum())


@wp.func
def _side(p: wp.vec2d, q: wp.vec2d, x: wp.float64, y: wp.float64) -> wp.float64:
    return (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])


@wp.kernel
def _count(corners: wp.array2d[wp.vec2d], count: wp.array2d[wp.int32]) -> None:
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


def edge_uses(faces: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many faces each edge has."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1).astype(np.int64)
    _, uses = np.unique(edges[:, 0] * (int(faces.max()) + 1) + edges[:, 1], return_counts=True)
    counted: NDArray[np.int64] = uses.astype(np.int64)
    return counted


def volume(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> float:
    """The enclosed volume, negative where faces wind inward."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    return float(np.einsum("fd,fd->", a, np.cross(b, c)) / 6)


def _welded(model: Model) -> NDArray[np.int64]:
    """Faces over vertices that are one where their positions are: texture seams do not count as edges of the shape."""
    _, same = np.unique(model.positions, axis=0, return_inverse=True)
    return same.reshape(-1)[model.faces]


def _material(model: Model, face: NDArray[np.int64], weights: Floats) -> Floats:
    """What bilinear filtering reads at points of the model: red, green, blue, metallic, roughness in [0, 1]."""
    uv = np.einsum("nc,ncd->nd", weights, model.uv[model.faces[face]].astype(np.float64))
    at = uv[:, ::-1].T * len(model.colour) - 0.5
    planes = [model.colour[..., 0], model.colour[..., 1], model.colour[..., 2]]
    planes += [model.surface[..., 2], model.surface[..., 1]]
    read = [map_coordinates(plane.astype(np.float64), at, order=1, mode="nearest") / 255 for plane in planes]
    return np.stack(read, axis=1)


def _disagreeing(model: Model) -> float:
    a, b, c = model.positions[model.faces].astype(np.float64).transpose(1, 0, 2)
    flat = np.cross(b - a, c - a)
    agree = np.einsum("fd,fcd->fc", flat, model.normals[model.faces]).min(axis=1) > 0
    return float(1 - agree.mean())
