"""The page's modules hold what their types say, and those of the wire are the OpenAPI document's own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from api.routers.web import FOLDER
from tests.support.gateway_harness import a_house

PACKAGES = Path(__file__).parents[1] / "validators" / "typescript" / "node_modules"
OPTIONS = (
    "--noEmit --allowJs --checkJs --strict --noUncheckedIndexedAccess --noUnusedLocals --noUnusedParameters "
    "--exactOptionalPropertyTypes --lib es2022,dom,dom.iterable,dom.asynciterable --module esnext "
    "--moduleResolution bundler --target es2022"
)


def test_the_pages_modules_are_typed_throughout(tmp_path: Path) -> None:
    """Strictly, with the wire's types generated into `wire.d.ts`."""
    if not (PACKAGES / "typescript").exists():
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("the TypeScript packages are not installed: npm ci --prefix tests/typescript")
    for module in FOLDER.glob("*.js"):
        shutil.copy(module, tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    viewer = tmp_path / "vendor/model-viewer/model-viewer.min.js"
    viewer.parent.mkdir(parents=True)
    viewer.write_text("export {};\n")
    (tmp_path / "openapi.json").write_text(a_house().client.get("/openapi.json").text)
    run(tmp_path, "openapi-typescript", "openapi.json", "--default-non-nullable=false", "-o", "wire.d.ts")
    run(tmp_path, "tsc", *OPTIONS.split(), *sorted(path.name for path in tmp_path.glob("*.js")))


def run(folder: Path, program: str, *arguments: str) -> None:
    """Run a package's program; its output is the failure where it fails."""
    command = [str(PACKAGES / ".bin" / program), *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
