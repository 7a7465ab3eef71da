"""The Khronos glTF validator, as tests call it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import HANG_S

HERE = Path(__file__).parent


def validate(glb: bytes, folder: Path) -> dict[str, Any]:
    """The validator's issues: numErrors, numWarnings, numInfos, numHints, messages.

    Where it is not installed, skips the test; in CI, fails it.
    """
    if shutil.which("node") is None or not (HERE / "node_modules" / "gltf-validator").exists():
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("the Khronos validator is not installed: npm ci --prefix tests/gltf")
    path = folder / "asset.glb"
    path.write_bytes(glb)
    run = subprocess.run(["node", HERE / "validate.mjs", path], capture_output=True, check=True, timeout=HANG_S)
    report: dict[str, Any] = json.loads(run.stdout)
    return report
