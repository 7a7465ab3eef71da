"""Compare the simplifier with libraries on the same remeshed surfaces: python -m bench.extraction.simplify.

Prints distances in mm of an object of 900 mm, mean and 99th percentile: "off" from the result to the remeshed surface,
"missed" the other way. open3d is compared if it is installed (pip install open3d; 400 MB).
"""

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import fast_simplification
import numpy as np
from numpy.typing import NDArray

from bench.geometry import surfaces
from bench.geometry.mesh_quality import count_edge_faces, sample_points
from worker.extraction.kernels import runtime
from worker.extraction.remesh.remesh import remesh
from worker.extraction.simplify.cpu import simplify

LONGEST_MM = 900
RESOLUTION = 512
SURFACES: dict[str, Callable[[], Any]] = {
    "knot": lambda: surfaces.knot(600, 180, 256),
    "parts": lambda: surfaces.parts(120, 14, 256),
    "sheet": lambda: surfaces.sheet(200, 256),
    "noisy": lambda: surfaces.noisy(400, 120, 256),
}
Mesh = tuple[NDArray[Any], NDArray[Any]]


def simplify_by_thresholds(vertices: NDArray[Any], faces: NDArray[Any], target: int) -> Mesh:
    """Simplify by fast-simplification, gently first."""
    for aggression in (3.0, 5.0, 7.0, 10.0):
        if len(faces) > target:
            vertices, faces = fast_simplification.simplify(vertices, faces, target_count=target, agg=aggression)
    return vertices, faces


def simplify_by_open3d(vertices: NDArray[Any], faces: NDArray[Any], target: int) -> Mesh:
    """Simplify by open3d's quadric decimation."""
    import open3d  # type: ignore[import-not-found,unused-ignore]

    points = open3d.utility.Vector3dVector(vertices.astype(np.float64))
    mesh = open3d.geometry.TriangleMesh(points, open3d.utility.Vector3iVector(faces))
    simplified = mesh.simplify_quadric_decimation(target)
    return np.asarray(simplified.vertices), np.asarray(simplified.triangles)


def main() -> None:
    """Print a line for each surface, target and simplifier."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surfaces", nargs="+", choices=SURFACES, default=list(SURFACES))
    parser.add_argument("--targets", nargs="+", type=int, default=[2_000, 10_000, 100_000])
    arguments = parser.parse_args()
    simplifiers: dict[str, Callable[..., Mesh]] = {
        "ours": lambda vertices, faces, target: simplify(vertices, faces, target, lambda _: None),
        "fast-simplification": simplify_by_thresholds,
        **({"open3d": simplify_by_open3d} if find_spec("open3d") else {}),
    }
    for name in arguments.surfaces:
        surface = SURFACES[name]()
        original = runtime.build_bvh(surface.vertices, surface.faces, "cpu")
        for target in arguments.targets:
            positions, triangles = remesh(
                original,
                target_faces=target,
                finest_cell_m=1 / RESOLUTION,
                band=1.0,
                project=0.9,
                keep_hidden=False,
                step=lambda _: None,
            )
            vertices, faces = positions.numpy(), triangles.numpy()
            print(f"{name}, {len(faces):,} faces to {target:,}", flush=True)
            for label, run in simplifiers.items():
                start_s = time.perf_counter()
                result = run(vertices, faces, target)
                print(f"  {label:20}{_describe((vertices, faces), result, time.perf_counter() - start_s)}", flush=True)


def _describe(reference: Mesh, result: Mesh, seconds: float) -> str:
    scale = LONGEST_MM / np.ptp(reference[0], axis=0).max()
    off, missed = (
        runtime.find_closest_points(runtime.build_bvh(*other, "cpu"), sample_points(*mesh, 100_000)[0])[1] * scale
        for mesh, other in ((result, reference), (reference, result))
    )
    bad_edges = np.count_nonzero(count_edge_faces(result[1]) != 2)
    return (
        f"{len(result[1]):>7,} faces  {seconds:6.2f} s  off {off.mean():.2f} {np.quantile(off, 0.99):.2f}  "
        f"missed {missed.mean():.2f} {np.quantile(missed, 0.99):.2f} mm  {bad_edges} edges without two faces"
    )


if __name__ == "__main__":
    main()
