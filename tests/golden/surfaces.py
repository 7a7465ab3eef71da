"""GLB bytes of three small surfaces, at two presets, on the CPU.

What the bytes depend on, measured on an AMD EPYC with AVX2. They stayed the same with Warp's kernels compiled for the
host, for Skylake, for any x86-64, without FMA and without vectorization; with NumPy kept to SSE4.2; and with OpenBLAS's
code for Nehalem. They changed once the compiler was allowed to fuse multiplications and additions across statements
(`-ffp-contract=fast`), which Warp does not do by default. AVX-512 was not at hand. So the digests hold for one set of
library versions and one set of NumPy's instruction sets, which `environment` names. Anywhere else the test warns, and
compares the size, counts, box, mean colour and distance from the original surface instead, within 5 %.
"""

import hashlib
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from bench.geometry.glb_reader import read_glb
from bench.geometry.surfaces import glaze, knot, parts, sheet
from shared.domain.parameters import PresetName, resolve, target_of
from worker.engine import Surface
from worker.extraction import Provenance, export

SURFACES: dict[str, Callable[[], Surface]] = {
    "closed": lambda: knot(200, 60, 128),
    "open and glazed": lambda: glaze(sheet(60, 128)),
    "many parts": lambda: parts(40, 10, 128),
}
PRESETS: tuple[PresetName, ...] = ("mobile", "game")
LABELS = Provenance(seed=7, generator="trellis2-modal 0.1.0", custom_id="SKU-1", engine="relief")
LIBRARIES = ("warp-lang", "numpy", "scipy", "pillow")


def environment() -> str:
    """What the bytes may depend on besides our code."""
    instruction_sets = np.show_config(mode="dicts")["SIMD Extensions"]
    libraries = [f"{library} {version(library)}" for library in LIBRARIES]
    return ", ".join([platform.machine(), *instruction_sets["baseline"], *instruction_sets["found"], *libraries])


def extracted(name: str, preset: PresetName) -> dict[str, Any]:
    """The digest of a surface's GLB, and numbers that say what is in it. Lengths are in metres, colours 0-255."""
    surface, parameters = SURFACES[name](), resolve({}, preset)
    product = export(surface, parameters, target_of(preset), provenance=LABELS, progress=lambda _: None)
    model = read_glb(product.asset.glb)
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    floor = [(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2]  # where the GLB has its origin
    distance, _ = KDTree(surface.vertices - floor).query(model.positions)
    numbers = {
        "bytes": len(product.asset.glb),
        "triangles": len(model.faces),
        "vertices": len(model.positions),
        "texture_px": len(model.colour),
        "distance": distance.mean(),
        **dict(zip(("width", "height", "depth"), np.ptp(model.positions, axis=0), strict=True)),
        **dict(zip(("red", "green", "blue", "alpha"), model.colour.mean(axis=(0, 1)), strict=True)),
    }
    rounded = {key: round(float(number), 5) for key, number in numbers.items()}
    return {"sha256": hashlib.sha256(product.asset.glb).hexdigest(), "numbers": rounded}
