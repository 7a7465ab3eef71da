"""OpenUSD's compliance checker for ARKit, and a USDZ read back, as tests call them."""

import io
import json
import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.waiting import HANG_S

HERE = Path(__file__).parent
PYTHON = HERE / ".venv" / "bin" / "python"


def arkit_faults(path: Path) -> list[str]:
    """What the checker finds, a sentence each. Where it is not installed, skips the test; in CI, fails it."""
    if not PYTHON.exists():
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("OpenUSD's checker is not installed: tests/install-peers")
    run = subprocess.run(
        [PYTHON, "-W", "ignore", HERE / "arkit.py", path], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    found: list[str] = json.loads(run.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Model:
    """What a viewer would see of a package with one mesh.

    positions, normals: float32 [vertices, 3], metres. st: float32 [vertices, 2], v up. faces: int32 [faces, 3].
    colour, finish: uint8 [rows, columns, 3 or 4]. inputs: of the surface, by name: (reader, channel) or a value.
    spaces: of the readers' files, by name. files: in the package, in order.
    """

    positions: NDArray[np.float32]
    normals: NDArray[np.float32]
    st: NDArray[np.float32]
    faces: NDArray[np.int32]
    colour: NDArray[np.uint8]
    finish: NDArray[np.uint8]
    inputs: dict[str, Any]
    spaces: dict[str, str]
    double_sided: bool
    up: str
    metres_per_unit: float
    files: list[str]


def read(path: Path) -> Model:
    """Read a package by OpenUSD's own schema, composed as a viewer would."""
    from pxr import Usd, UsdGeom, UsdShade

    stage = Usd.Stage.Open(str(path))
    (mesh,) = (UsdGeom.Mesh(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh))
    material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
    surface, _, _ = material.ComputeSurfaceSource()
    inputs: dict[str, Any] = {}
    readers: dict[str, Any] = {}
    for entry in surface.GetInputs():
        if entry.HasConnectedSource():
            (source,), _ = entry.GetConnectedSources()
            reader = UsdShade.Shader(source.source)
            readers[reader.GetPrim().GetName()] = reader
            inputs[entry.GetBaseName()] = (reader.GetPrim().GetName(), source.sourceName)
        else:
            inputs[entry.GetBaseName()] = entry.Get()
    with zipfile.ZipFile(path) as package:
        files = package.namelist()
        images = {
            name: np.asarray(Image.open(io.BytesIO(package.read(Path(reader.GetInput("file").Get().path).name))))
            for name, reader in readers.items()
        }
    return Model(
        positions=np.asarray(mesh.GetPointsAttr().Get()),
        normals=np.asarray(mesh.GetNormalsAttr().Get()),
        st=np.asarray(UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").Get()),
        faces=np.asarray(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3),
        colour=images[inputs["diffuseColor"][0]],
        finish=images[inputs["roughness"][0]],
        inputs=inputs,
        spaces={name: reader.GetInput("sourceColorSpace").Get() for name, reader in readers.items()},
        double_sided=bool(mesh.GetDoubleSidedAttr().Get()),
        up=str(UsdGeom.GetStageUpAxis(stage)),
        metres_per_unit=float(UsdGeom.GetStageMetersPerUnit(stage)),
        files=files,
    )
