"""A TypeScript client generated from the OpenAPI document compiles, and its types are precise."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.gateway_harness import build_gateway

HERE = Path(__file__).parents[1] / "validators" / "typescript"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Create a folder with the generated types, the shop that uses them, and the packages."""
    if shutil.which("node") is None or not (HERE / "node_modules" / "openapi-typescript").exists():
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("the TypeScript packages are not installed: npm ci --prefix tests/validators/typescript")
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    shutil.copy(HERE / "package.json", tmp_path)
    shutil.copy(HERE / "shop.ts", tmp_path)
    (tmp_path / "openapi.json").write_text(build_gateway().client.get("/openapi.json").text)
    run(tmp_path, "openapi-typescript", "openapi.json", "--default-non-nullable=false", "-o", "api.ts")
    return tmp_path


def run(folder: Path, program: str, *arguments: str) -> str:
    """Run a program of the packages and return its output, which is the failure message."""
    command = [str(HERE / "node_modules/.bin" / program), *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_a_generated_client_compiles_with_a_shop_that_uses_it(project: Path) -> None:
    """In strict mode; what the document does not allow does not compile."""
    options = {"strict": True, "noEmit": True, "module": "esnext", "target": "es2022", "moduleResolution": "bundler"}
    options |= {"lib": ["es2022", "dom"], "exactOptionalPropertyTypes": False}
    (project / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts"]}))
    assert run(project, "tsc", "-p", ".") == ""
