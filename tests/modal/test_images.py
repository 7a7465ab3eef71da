"""A container has what it imports: the files that are mounted, the packages that are pinned, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.fleet.control_plane.deployments import Manifest
from bench.fleet.control_plane.server import ControlPlane
from tests.modal.test_deployment import deployed

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "infra" / "requirements"
NEVER_IN_A_CONTAINER = ("infra.requirements.freeze",)  # writes the pins, on the machine that the tests passed on

# Imports every module of the packages named, where only some distributions are to be had, and only these files of ours.
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
found_in = {name: {plain(one) for one in dists} for name, dists in importlib.metadata.packages_distributions().items()}

class OnlyWhatIsPinned:
    def find_spec(self, name, path=None, target=None):
        if name in found_in and not found_in[name] & allowed and name not in ours:
            raise ModuleNotFoundError(f"{name} of {found_in[name]} is in no image", name=name)

sys.path[:] = [here] + [one for one in sys.path if one != ROOT and one != ""]
sys.meta_path[:] = [one for one in sys.meta_path if "editable" not in repr(one)]
sys.meta_path.insert(0, OnlyWhatIsPinned())
for package in ours:
    for module in pkgutil.walk_packages([f"{here}/{package}"], f"{package}."):
        if not module.name.startswith(without):
            imported = importlib.import_module(module.name)
            assert imported.__file__.startswith(here), imported.__file__
print("all of it")
"""


@pytest.fixture(scope="module")
def manifest(running_plane: ControlPlane) -> Manifest:
    """A deployment with the default settings."""
    return deployed(running_plane)


def pins(*files: str) -> str:
    """The distributions that these files name."""
    lines = [line for file in files for line in (REQUIREMENTS / file).read_text().splitlines()]
    return " ".join(line.partition("==")[0] for line in lines if not line.startswith("#"))


def imported(manifest: Manifest, function: str, folder: Path, *, pinned: str, without: tuple[str, ...]) -> str:
    """What comes of importing all that a function's container has mounted, in a folder of its own."""
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


def test_a_gateways_container_has_what_it_imports(manifest: Manifest, tmp_path: Path) -> None:
    """All but TRELLIS.2, which it never imports; the page is where the gateway reads it."""
    pinned = pins("service.txt", "hub.txt")
    output = imported(manifest, "gateway", tmp_path, pinned=pinned, without=("worker.engines.trellis",))
    assert output == "all of it\n"
    assert (tmp_path / "api" / "web" / "index.html").is_file()


def test_a_workers_container_has_what_it_imports(manifest: Manifest, tmp_path: Path) -> None:
    """The engine on the GPU too; PyTorch's wheel for GPUs brings its own Triton."""
    pinned = f"{pins('gpu.txt', 'service.txt')} triton"
    told = imported(manifest, "Worker.*", tmp_path, pinned=pinned, without=())
    assert told == "all of it\n"
