"""Packs a GLB for viewers in a page, with gltfpack: numbers in fewer bits, compressed by EXT_meshopt_compression."""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.errors import FormatUnavailable, OutputInvalid
from worker.extraction.formats.glb import join_chunks
from worker.extraction.formats.glb_validation import read_chunks

TOOL = "gltfpack"
# Bits of positions, texture coordinates (an eighth of a texel at 2048 px) and normals; -kn keeps the node's name.
FLAGS = ("-cc", "-kn", "-vp", "16", "-vt", "14", "-vn", "10")
PACKING_S = 120.0


def is_available() -> bool:
    """Whether gltfpack can be run."""
    return shutil.which(TOOL) is not None


def pack(glb: bytes) -> bytes:
    """The GLB with its mesh packed, and its textures as they are; equal GLBs give equal bytes.

    Viewers need support for EXT_meshopt_compression, KHR_mesh_quantization and KHR_texture_transform.

    Raises:
        FormatUnavailable: gltfpack is not installed.
        OutputInvalid: it failed, or what it wrote is not the same model.
    """
    tool = shutil.which(TOOL)
    if tool is None:
        raise FormatUnavailable(f"this worker has no {TOOL}", pointer="/formats")
    with TemporaryDirectory(prefix="meshopt-") as name:
        whole, packed = Path(name, "whole.glb"), Path(name, "packed.glb")
        whole.write_bytes(glb)
        command = [tool, "-i", str(whole), "-o", str(packed), *FLAGS]
        try:
            run = subprocess.run(command, capture_output=True, check=False, timeout=PACKING_S)  # noqa: S603 - our tool
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OutputInvalid(f"{TOOL} could not be run to its end") from error
        if run.returncode != 0 or not packed.exists():
            raise OutputInvalid(f"{TOOL} ended with {run.returncode}: {run.stderr.decode(errors='replace')[-200:]}")
        return _with_origin(packed.read_bytes(), glb)


def _with_origin(packed: bytes, glb: bytes) -> bytes:
    """The packed file with what the whole one says of its origin, which gltfpack drops."""
    whole, _ = read_chunks(glb)
    document, binary = read_chunks(packed)
    counts = [one["accessors"][one["meshes"][0]["primitives"][0]["indices"]]["count"] for one in (whole, document)]
    if not 0.99 * counts[0] <= counts[1] <= counts[0]:  # faces that fewer bits flatten to nothing are dropped
        raise OutputInvalid(f"{TOOL} made {counts[1] // 3} triangles of {counts[0] // 3}")
    document["asset"] = whole["asset"]
    document["extensions"] = {**document.get("extensions", {}), **whole["extensions"]}
    document["extensionsUsed"] = sorted({*document["extensionsUsed"], *whole["extensionsUsed"]})
    return join_chunks(document, binary)
