"""Writes the exact versions that the service's containers install: `python -m infra.requirements.freeze`.

They are those of the environment it runs in, which should be the one that the tests passed in.
"""

import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "infra" / "requirements" / "service.txt"
HEAD = "# Exact versions of what the containers run; `python -m infra.requirements.freeze` writes them.\n"
EXTRAS = ("otel", "usdz")  # modal brings itself into its containers


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, the client apart: containers do not call themselves."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [*project["dependencies"], *(name for extra in EXTRAS for name in project["optional-dependencies"][extra])]
    return [Requirement(name) for name in names if Requirement(name).name != "trellis2-modal"]


def pinned(wanted: list[Requirement]) -> dict[str, str]:
    """Versions by name, of these and all that they need."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        found = distribution(requirement.name)
        if (found.name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((found.name, frozenset(requirement.extras)))
        versions[found.name.lower().replace("_", "-")] = found.version
        needed = (Requirement(line) for line in found.requires or [])
        wanted += [one for one in needed if _applies(one, requirement.extras)]
    return versions


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def main() -> None:
    """Write the file."""
    lines = (f"{name}=={version}\n" for name, version in sorted(pinned(declared()).items()))
    SERVICE.write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
