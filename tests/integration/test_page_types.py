"""The page's modules are typed, with the API's types generated from the OpenAPI document."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from api.routers.web import FOLDER
from tests.support.gateway_harness import build_gateway

PACKAGES = Path(__file__).parents[1] / "validators" / "typescript" / "node_modules"
OPTIONS = (
    "--noEmit --allowJs --checkJs --strict --noUncheckedIndexedAccess --noUnusedLocals --noUnusedParameters "
    "--exactOptionalPropertyTypes --lib es2022,dom,dom.iterable,dom.asynciterable --module esnext "
    "--moduleResolution bundler --target es2022"
)


def test_the_pages_modules_type_check(tmp_path: Path) -> None:
    """Strictly, with the API types generated into `schema.d.ts`."""
    if not (PACKAGES / "typescript").exists():
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("the TypeScript packages are not installed: npm ci --prefix tests/validators/typescript")
    for module in FOLDER.glob("*.js"):
        shutil.copy(module, tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    viewer = tmp_path / "vendor/model-viewer/model-viewer.min.js"
    viewer.parent.mkdir(parents=True)
    viewer.write_text("export {};\n")
    (tmp_path / "openapi.json").write_text(build_gateway().client.get("/openapi.json").text)
    run(tmp_path, "openapi-typescript", "openapi.json", "--default-non-nullable=false", "-o", "schema.d.ts")
    assert not run(tmp_path, "tsc", *OPTIONS.split(), *sorted(path.name for path in tmp_path.glob("*.js")))


def run(folder: Path, program: str, *arguments: str) -> str:
    """Run a program of the packages and return its output, which is the failure message."""
    command = [str(PACKAGES / ".bin" / program), *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
