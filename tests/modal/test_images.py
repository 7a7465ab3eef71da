"""A container can import every module from its mounted files and pinned packages alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.fleet.control_plane.deployments import Manifest
from bench.fleet.control_plane.server import ControlPlane
from tests.support.modal_harness import deploy

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "infra" / "requirements"
NEVER_IN_A_CONTAINER = ("infra.requirements.freeze",)  # writes the pins, on the machine that the tests passed on

# Imports every module of the named packages; only the pinned distributions and the mounted files can be imported.
IMPORTS = """
import importlib, importlib.metadata, pkgutil, sys
from packaging.requirements import Requirement

here, ours, pins, without = sys.argv[1], sys.argv[2].split(), set(sys.argv[3].split()), tuple(sys.argv[4].split())

def plain(name):
    return name.lower().replace("_", "-").replace(".", "-")

def with_needs(name, seen):
    if name not in seen:
        seen.add(name)
        for line in importlib.metadata.requires(name) or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                with_needs(plain(need.name), seen)
    return seen

allowed = pins | with_needs("modal", set())  # Modal brings its own client
by_package = importlib.metadata.packages_distributions()
dists_of = {name: {plain(dist) for dist in dists} for name, dists in by_package.items()}

class PinnedPackagesOnly:
    def find_spec(self, name, path=None, target=None):
        if name in dists_of and not dists_of[name] & allowed and name not in ours:
            raise ModuleNotFoundError(f"{name} of {dists_of[name]} is in no image", name=name)

sys.path[:] = [here] + [folder for folder in sys.path if folder != ROOT and folder != ""]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.meta_path.insert(0, PinnedPackagesOnly())
for package in ours:
    for module in pkgutil.walk_packages([f"{here}/{package}"], f"{package}."):
        if not module.name.startswith(without):
            imported = importlib.import_module(module.name)
            assert imported.__file__.startswith(here), imported.__file__
print("imported everything")
"""


@pytest.fixture(scope="module")
def manifest(running_plane: ControlPlane) -> Manifest:
    """A deployment with the default settings."""
    return deploy(running_plane)


def pins(*files: str) -> str:
    """List the distributions of these files."""
    lines = [line for file in files for line in (REQUIREMENTS / file).read_text().splitlines()]
    return " ".join(line.partition("==")[0] for line in lines if not line.startswith("#"))


def imported(manifest: Manifest, function: str, folder: Path, *, pinned: str, without: tuple[str, ...]) -> str:
    """Import every mounted module of a function's container in its own folder; return the output."""
    definition = manifest.functions[function][0]
    mounted = {name for mount in definition.mount_ids for name in manifest.mounts[mount]}
    for name in (name for name in mounted if name.startswith("/root/")):
        target = folder / name.removeprefix("/root/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name.removeprefix("/root/"), target)
    program = IMPORTS.replace("ROOT", repr(str(ROOT)))
    ours = "shared worker api infra"
    command = [sys.executable, "-c", program, str(folder), ours, pinned, " ".join((*NEVER_IN_A_CONTAINER, *without))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_gateways_container_has_what_it_imports(manifest: Manifest, tmp_path: Path) -> None:
    """Apart from TRELLIS.2, which it never imports. The page is where the gateway reads it."""
    pinned = pins("service.txt", "hub.txt")
    output = imported(manifest, "gateway", tmp_path, pinned=pinned, without=("worker.engines.trellis",))
    assert output == "imported everything\n"
    assert (tmp_path / "api" / "web" / "index.html").is_file()


def test_workers_container_has_what_it_imports(manifest: Manifest, tmp_path: Path) -> None:
    """With the engine for the GPU; PyTorch's wheel for GPUs brings its own Triton."""
    pinned = f"{pins('gpu.txt', 'service.txt')} triton"
    output = imported(manifest, "Worker.*", tmp_path, pinned=pinned, without=())
    assert output == "imported everything\n"
