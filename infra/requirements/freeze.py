"""Write the exact versions that the service's containers install: `python -m infra.requirements.freeze`.

They are the versions of the environment that this runs in, which should be the one that the tests passed in.
"""

import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "requirements"
HEAD = "# Exact versions of what the containers run; `python -m infra.requirements.freeze` writes them.\n"
SERVICE_EXTRAS = ("otel", "usdz")
NOT_PINNED = ("modal", "trellis2-modal")  # Modal brings its own client; containers do not call the service


def declared(*extras: str, base: bool = True) -> list[Requirement]:
    """Read from pyproject.toml what containers need: of these extras, and `base` for every installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] if base else []
    lines += [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [requirement for requirement in map(Requirement, lines) if requirement.name not in NOT_PINNED]


def frozen() -> dict[str, dict[str, str]]:
    """Resolve both files: service.txt for every image, hub.txt for the CPU image alone.

    `huggingface_hub` stays out of the GPU image, where gpu.txt pins the older one that transformers asks for.
    """
    service = pinned(declared(*SERVICE_EXTRAS))
    hub = pinned(declared("modal", base=False))
    return {"service.txt": service, "hub.txt": {name: hub[name] for name in hub.keys() - service.keys()}}


def pinned(requirements: list[Requirement]) -> dict[str, str]:
    """Resolve installed versions by name, of these requirements and all that they depend on."""
    versions: dict[str, str] = {}
    visited: set[tuple[str, frozenset[str]]] = set()
    pending = list(requirements)
    while pending:
        requirement = pending.pop()
        installed = distribution(requirement.name)
        if (installed.name, frozenset(requirement.extras)) in visited:
            continue
        visited.add((installed.name, frozenset(requirement.extras)))
        versions[installed.name.lower().replace("_", "-")] = installed.version
        dependencies = (Requirement(line) for line in installed.requires or [])
        pending += [dependency for dependency in dependencies if _applies(dependency, requirement.extras)]
    return versions


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def main() -> None:
    for name, versions in frozen().items():
        lines = (f"{package}=={version}\n" for package, version in sorted(versions.items()))
        (FOLDER / name).write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
