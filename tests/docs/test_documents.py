"""The documents say what the code says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import errors
from shared.domain.parameters import PRESETS, TARGETS, Parameters

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs/api.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("client/*.md")])

# What never reaches a caller: families, and errors between our own parts.
INTERNAL = {
    errors.ServiceError,
    errors.InputRejected,
    errors.ImageRejected,
    errors.RequestRefused,
    errors.LimitReached,
    errors.WorkerUnfit,
    errors.JobStopped,
    errors.StoreError,
    errors.ObjectNotFound,
    errors.PreconditionFailed,
    errors.QueueUnavailable,
    errors.JobStateError,
    errors.LeaseLost,
}

# Codes that no class of the tree stands for: of the framework's errors, of jobs, of deleted images.
OTHER_CODES = {"internal_error", "method_not_allowed", "not_found", "image_missing", "poison"}


def family(error: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    """The errors of the tree below one; what other modules add for their operators is no matter of callers."""
    yield error
    for kind in error.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from family(kind)


def rows(heads: str) -> list[list[str]]:
    """The cells of the table in docs/api.md whose first row begins with `heads`."""
    table = API[API.index(heads) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in table]


def written(value: Any) -> str:
    return "" if value is None else json.dumps(value).strip('"')


def values(schema: dict[str, Any], defined: dict[str, Any]) -> str:
    schema = schema | next(iter(schema.get("anyOf", [{}])))
    if "$ref" in schema:
        return ", ".join(defined[schema["$ref"].rpartition("/")[2]]["properties"])
    if schema["type"] == "array":
        return values(schema["items"], defined)
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    return "true, false" if schema["type"] == "boolean" else f"{schema['minimum']}-{schema['maximum']}"


def test_parameter_table_has_every_name_range_and_default() -> None:
    """In the contract's order."""
    whole = Parameters.model_json_schema()
    expected = [
        [name, values(schema, whole["$defs"]), written(schema["default"])]
        for name, schema in whole["properties"].items()
    ]
    assert [row[:3] for row in rows("| name | values")] == expected


def test_preset_table_has_every_preset() -> None:
    """Triangles, texture size and bytes of each."""
    set_by = ("decimation_target", "texture_size", "max_bytes")
    expected = [[name, *(str(of.get(one, "")) for one in set_by)] for name, of in PRESETS.items()]
    assert [row[:4] for row in rows("| preset |")] == expected


def test_every_bound_of_a_target_is_written_down() -> None:
    """Under the names that the checks have."""
    found = {row[0]: row[1] for row in rows("| preset | limits")}
    for preset, target in TARGETS.items():
        bounds = [getattr(target, name) for name in ("max_bytes", "max_triangles", "min_texture_px", "max_texture_px")]
        assert [str(bound) for bound in bounds if bound and str(bound) not in found[preset]] == []


def test_every_code_that_a_caller_may_meet_is_explained() -> None:
    """In one of the two tables of errors."""
    explained = {row[1] for row in rows("| status | `code`")} | {row[0] for row in rows("| `code` | meaning")}
    codes = {error.code for error in family(errors.ServiceError) if error not in INTERNAL}
    images = set(re.findall(r"`([a-z_]+)`", errors.ImageRejected.__doc__ or "")) - {"code"}
    assert codes | images | OTHER_CODES <= explained


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_link_leads_somewhere(page: Path) -> None:
    """Every relative link and image of a page is a file of this repository."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_file_that_the_architecture_names_exists() -> None:
    """A newcomer follows the paths by name."""
    paths = re.findall(
        r"`((?:api|worker|shared|infra|client|tests|bench)/[^`\s]*)`", (ROOT / "docs/architecture.md").read_text()
    )
    assert len(paths) > 40
    assert [path for path in paths if not (ROOT / path).exists()] == []
