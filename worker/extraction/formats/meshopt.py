"""Compress a GLB for web viewers with gltfpack: quantized attributes and EXT_meshopt_compression."""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shared.errors import FormatUnavailable, OutputInvalid
from worker.extraction.formats.glb import join_chunks
from worker.extraction.formats.glb_validation import read_chunks

TOOL = "gltfpack"
# Bits of positions, texture coordinates (an eighth of a texel at 2048 px) and normals; -kn keeps the node's name.
FLAGS = ("-cc", "-kn", "-vp", "16", "-vt", "14", "-vn", "10")
TIMEOUT_S = 120.0


def is_available() -> bool:
    """Return whether gltfpack is installed."""
    return shutil.which(TOOL) is not None


def pack(glb: bytes) -> bytes:
    """Compress the mesh of a GLB and keep its textures; equal GLBs give equal bytes.

    Viewers need support for EXT_meshopt_compression, KHR_mesh_quantization and KHR_texture_transform.

    Raises:
        FormatUnavailable: gltfpack is not installed.
        OutputInvalid: it failed, or its output is not the same model.
    """
    tool = shutil.which(TOOL)
    if tool is None:
        raise FormatUnavailable(f"this worker has no {TOOL}", pointer="/formats")
    with TemporaryDirectory(prefix="meshopt-") as name:
        original, packed = Path(name, "original.glb"), Path(name, "packed.glb")
        original.write_bytes(glb)
        command = [tool, "-i", str(original), "-o", str(packed), *FLAGS]
        try:
            run = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT_S)  # noqa: S603 - our tool
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OutputInvalid(f"{TOOL} could not run, or took too long") from error
        if run.returncode != 0 or not packed.exists():
            raise OutputInvalid(f"{TOOL} ended with {run.returncode}: {run.stderr.decode(errors='replace')[-200:]}")
        return _restore_provenance(packed.read_bytes(), glb)


def _restore_provenance(packed: bytes, glb: bytes) -> bytes:
    """Copy the asset and XMP metadata, which gltfpack drops, from the original file."""
    original, _ = read_chunks(glb)
    document, binary = read_chunks(packed)
    counts = [_count_indices(each) for each in (original, document)]
    if not 0.99 * counts[0] <= counts[1] <= counts[0]:  # gltfpack drops faces that quantization makes degenerate
        raise OutputInvalid(f"{TOOL} wrote {counts[1] // 3} triangles from {counts[0] // 3}")
    document["asset"] = original["asset"]
    document["extensions"] = {**document.get("extensions", {}), **original["extensions"]}
    document["extensionsUsed"] = sorted({*document["extensionsUsed"], *original["extensionsUsed"]})
    return join_chunks(document, binary)


def _count_indices(document: dict[str, Any]) -> int:
    primitive = document["meshes"][0]["primitives"][0]
    count: int = document["accessors"][primitive["indices"]]["count"]
    return count
