"""gltfpack, and meshoptimizer's decoder, as tests call them."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.waiting import HANG_S

HERE = Path(__file__).parent
TOOLS = HERE / "node_modules" / ".bin"


def with_gltfpack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put gltfpack on the PATH. Where it is not installed, skips the test; in CI, fails it."""
    if shutil.which("node") is None or not (TOOLS / "gltfpack").exists():
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("gltfpack is not installed: npm ci --prefix tests/gltf")
    monkeypatch.setenv("PATH", f"{TOOLS}{os.pathsep}{os.environ['PATH']}")


def unpacked(path: Path) -> dict[str, NDArray[np.float32]]:
    """A packed GLB's positions, normals: float32 [vertices, 3]; uv: [vertices, 2]; faces: uint32 [faces, 3]."""
    run = subprocess.run(["node", HERE / "unpack.mjs", path], capture_output=True, check=True, timeout=HANG_S)
    found = {name: base64.b64decode(text) for name, text in json.loads(run.stdout).items()}
    widths = {"positions": 3, "normals": 3, "uv": 2}
    arrays = {name: np.frombuffer(found[name], "<f4").reshape(-1, width) for name, width in widths.items()}
    return arrays | {"faces": np.frombuffer(found["faces"], "<u4").reshape(-1, 3)}
