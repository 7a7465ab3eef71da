"""The distribution by itself: what it needs, what it brings, how soon it is there."""

import email
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trellis2_modal

CLIENT = Path(__file__).parents[3] / "client"
MODULES = sorted(
    ".".join(path.relative_to(CLIENT).with_suffix("").parts).removesuffix(".__init__")
    for path in CLIENT.glob("trellis2_modal/**/*.py")
    if path.stem != "__main__"
)
MAY_NEED = {"httpx", "pydantic"}

# Refuses whatever is neither Python's own, nor the package, nor what an installed distribution drags in.
ALONE = """
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
            raise ModuleNotFoundError(f"not among what was installed: {name}", name=name)

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
    """Its metadata says so; every module of the folder is in it."""
    names = wheel.namelist()
    described = next(name for name in names if name.endswith("METADATA"))
    needed = email.message_from_bytes(wheel.read(described)).get_all("Requires-Dist", [])
    assert {line.partition(">")[0] for line in needed if "extra ==" not in line} <= MAY_NEED
    assert "trellis2_modal/py.typed" in names
    assert b"trellis2 = trellis2_modal.cli:main" in wheel.read(described.replace("METADATA", "entry_points.txt"))
    assert {str(path.relative_to(CLIENT)) for path in CLIENT.glob("trellis2_modal/**/*.py")} <= set(names)


def test_every_module_does_with_httpx_alone() -> None:
    """Whatever else is installed here, the service's own packages among it, is out of reach."""
    found = subprocess.run(
        [sys.executable, "-c", ALONE, *MODULES], cwd=CLIENT, capture_output=True, text=True, check=True
    )
    assert "trellis2_modal" in found.stdout.split()
    assert not {"api", "infra", "worker", "shared", "numpy", "pydantic"} & set(found.stdout.split())


def seconds_of_a_processor(*arguments: str) -> float:
    """What a Python process takes, at best of three: a wall clock would measure the neighbours."""
    measured = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], cwd=CLIENT, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        measured.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(measured)


def test_import_takes_less_than_a_second() -> None:
    """With httpx."""
    assert seconds_of_a_processor("-c", "from trellis2_modal import Client") < 1.0


def test_every_name_is_there_once_it_is_asked_for() -> None:
    """Those of `__all__`, and the modules that they are from; nothing else is made up."""
    for name in trellis2_modal.__all__:
        assert getattr(trellis2_modal, name).__name__ == name
    assert trellis2_modal.errors.TrellisError is trellis2_modal.TrellisError
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        trellis2_modal.Nothing  # noqa: B018 - asking is what is tested


HELP = """
import sys
from trellis2_modal.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(*sorted({"httpx", "trellis2_modal.client", "http.server"} & set(sys.modules)), file=sys.stderr)
"""


def test_help_loads_no_more_than_it_needs() -> None:
    """Neither httpx, which takes longer than all the rest, nor the client."""
    shown = subprocess.run(
        [sys.executable, "-c", HELP, "--help"], cwd=CLIENT, capture_output=True, text=True, check=True
    )
    assert (shown.stderr, "generate" in shown.stdout) == ("\n", True)


@pytest.mark.parametrize("argv", [["get", "--help"], ["--help"]], ids=" ".join)
def test_command_starts_in_less_than_a_second(argv: list[str]) -> None:
    """Neither a verb of ours nor the help, which shows everybody's verbs, loads a service."""
    assert seconds_of_a_processor("-m", "trellis2_modal.cli", *argv) < 1.0


def test_installed_into_an_empty_environment_it_works(tmp_path: Path) -> None:
    """pip's own word on what it needs; without an index there is nothing to install httpx from."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    python = tmp_path / "bin" / "python"
    environment = {**os.environ, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    install = [python, "-m", "pip", "install", "-q", "--retries", "0", "--timeout", "5", CLIENT]
    installed = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
    if installed.returncode and ("No matching distribution" in installed.stderr or "Connection" in installed.stderr):
        pytest.skip("no package index within reach")
    assert installed.returncode == 0, installed.stderr
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze"], env=environment, capture_output=True, text=True, check=True
    )
    names = {line.partition("==")[0].lower() for line in listed.stdout.splitlines()}
    of_httpx = {"httpx", "httpcore", "h11", "anyio", "certifi", "idna", "sniffio", "typing_extensions"}
    assert names - {"pip", "setuptools"} - of_httpx == {"trellis2-modal"}
    for command in ([python, "-c", "from trellis2_modal import Client"], [tmp_path / "bin/trellis2", "--help"]):
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
