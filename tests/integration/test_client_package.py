"""The distribution: its dependencies, its content, and the modules that it loads."""

import email
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trellis2_modal

CLIENT = Path(__file__).parents[2] / "client"
MODULES = sorted(
    ".".join(path.relative_to(CLIENT).with_suffix("").parts).removesuffix(".__init__")
    for path in CLIENT.glob("trellis2_modal/**/*.py")
    if path.stem != "__main__"
)
MAY_NEED = {"httpx", "pydantic"}

# Refuses imports that are neither of the standard library, nor of the package, nor of httpx and its dependencies.
IMPORT_ALL = """
import sys
from importlib import import_module, metadata
from re import match

def needs(name):
    try:
        lines = metadata.requires(name) or ()
    except metadata.PackageNotFoundError:  # of an older Python
        return set()
    return {name}.union(*(needs(match(r"[\\w.-]+", line)[0]) for line in lines if "extra ==" not in line))

tops = metadata.packages_distributions()
httpx = needs("httpx")
allowed = {top for top, names in tops.items() if httpx.intersection(names)} | {"trellis2_modal"}

class Refusal:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed | sys.stdlib_module_names:
            raise ModuleNotFoundError(f"not a dependency: {name}", name=name)

sys.meta_path.insert(0, Refusal())
for module in sys.argv[1:]:
    import_module(module)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The built distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, CLIENT]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("trellis2_modal-*.whl"))) as built:
        yield built


def test_wheel_needs_only_httpx_and_brings_types_and_the_command(wheel: zipfile.ZipFile) -> None:
    """By its metadata; the wheel has every module of the folder."""
    names = wheel.namelist()
    described = next(name for name in names if name.endswith("METADATA"))
    needed = email.message_from_bytes(wheel.read(described)).get_all("Requires-Dist", [])
    assert {line.partition(">")[0] for line in needed if "extra ==" not in line} <= MAY_NEED
    assert "trellis2_modal/py.typed" in names
    assert b"trellis2 = trellis2_modal.cli:main" in wheel.read(described.replace("METADATA", "entry_points.txt"))
    assert {str(path.relative_to(CLIENT)) for path in CLIENT.glob("trellis2_modal/**/*.py")} <= set(names)


def test_every_module_needs_only_httpx() -> None:
    """Other installed packages, the service's among them, cannot be imported."""
    loaded = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *MODULES], cwd=CLIENT, capture_output=True, text=True, check=True
    )
    assert "trellis2_modal" in loaded.stdout.split()
    assert not {"api", "infra", "worker", "shared", "numpy", "pydantic"} & set(loaded.stdout.split())


def test_every_public_name_is_loaded_on_first_use() -> None:
    """The names of `__all__` and their modules; any other name raises AttributeError."""
    for name in trellis2_modal.__all__:
        assert getattr(trellis2_modal, name).__name__ == name
    assert trellis2_modal.errors.TrellisError is trellis2_modal.TrellisError
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        trellis2_modal.Nothing  # noqa: B018 - the access is tested


RUN = """
import sys
from trellis2_modal.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(*sorted(sys.modules), file=sys.stderr)
"""
SLOW_MODULES = {"asyncio", "httpx", "http.server", "trellis2_modal.client"}


@pytest.mark.parametrize(
    ("argv", "slow"),
    [(["--help"], set()), (["--version"], set()), (["get", "--help"], {"httpx", "trellis2_modal.client"})],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_command_starts_fast(argv: list[str], slow: set[str]) -> None:
    """It loads few of the modules that take long, and nothing of the service, whose commands are plugins."""
    shown = subprocess.run([sys.executable, "-c", RUN, *argv], cwd=CLIENT, capture_output=True, text=True, check=True)
    loaded = set(shown.stderr.split())
    assert loaded & SLOW_MODULES == slow
    assert {name.partition(".")[0] for name in loaded}.isdisjoint({"api", "worker", "modal", "numpy", "torch"})


def test_it_works_in_an_empty_environment(tmp_path: Path) -> None:
    """With the dependencies that pip installs; skipped without a package index."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    python = tmp_path / "bin" / "python"
    environment = {**os.environ, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    install = [python, "-m", "pip", "install", "-q", "--retries", "0", "--timeout", "5", CLIENT]
    installed = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
    if installed.returncode and ("No matching distribution" in installed.stderr or "Connection" in installed.stderr):
        pytest.skip("no package index is reachable")
    assert installed.returncode == 0, installed.stderr
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze"], env=environment, capture_output=True, text=True, check=True
    )
    names = {line.partition("==")[0].lower() for line in listed.stdout.splitlines()}
    of_httpx = {"httpx", "httpcore", "h11", "anyio", "certifi", "idna", "sniffio", "typing_extensions"}
    assert names - {"pip", "setuptools"} - of_httpx == {"trellis2-modal"}
    for command in ([python, "-c", "from trellis2_modal import Client"], [tmp_path / "bin/trellis2", "--help"]):
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
