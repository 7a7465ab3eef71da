"""docs/deploy.md, followed step by step by a newcomer: at its end an image has become a GLB.

Modal is the control plane of the tests with containers in Modal's own runtime, the bucket is Ceph's, and the workers
have no GPU, as the document's own way around the weights has it.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvicorn

from bench.fleet.control_plane.server import ControlPlane
from bench.fleet.modal_fleet import notifier_function, worker_function
from bench.support.ceph import Ceph, on_ceph
from bench.support.processes import draw_test_image
from infra.modal_app import functions
from tests.contract.adapters import make_bucket, serving
from tests.support.modal_harness import run_container

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "deploy.md"
BUCKET = "my-assets"
pytestmark = on_ceph

# What the AWS CLI does with the document's command.
AWS = """
import json, os, sys
import boto3
words = sys.argv[1:]
assert words[:2] == ["s3api", "put-bucket-cors"], words
options = dict(zip(words[2::2], words[3::2], strict=True))
rules = json.load(open(options["--cors-configuration"].removeprefix("file://")))
client = boto3.client("s3", endpoint_url=options.get("--endpoint-url"), region_name="us-east-1")
client.put_bucket_cors(Bucket=options["--bucket"], CORSConfiguration=rules)
"""


def blocks(section: str) -> list[str]:
    """The commands of one numbered section."""
    text = re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)
    (body,) = (part for part in text if part.startswith(section))
    return re.findall(r"^```bash\n(.*?)^```", body, re.MULTILINE | re.DOTALL)


class Newcomer:
    """A shell in a fresh checkout, with the document's placeholders filled in."""

    def __init__(self, folder: Path, ceph: Ceph, gateway_url: str) -> None:
        options = ceph.options(BUCKET)
        self.filled = {
            "https://<workspace>--trellis2-gateway.modal.run": gateway_url,
            "S3_ENDPOINT=https://...": f"S3_ENDPOINT={options.endpoint_url}",
            "S3_REGION=...": f"S3_REGION={options.region}\nTRELLIS2_S3_ADDRESSING=path",  # as it says of Ceph
            "S3_ACCESS_KEY=...": f"S3_ACCESS_KEY={options.access_key}",
            "S3_SECRET_KEY=...": f"S3_SECRET_KEY={options.secret_key}",
            "generate picture.png": "generate picture.png --preset low_poly --pipeline_type 512",
        }
        self.script = "set -e\nexport TRELLIS2_GPU=\n"
        self.folder = folder
        (folder / "docs").symlink_to(ROOT / "docs")
        (folder / "picture.png").write_bytes(draw_test_image(256))
        (folder / "aws.py").write_text(AWS)
        (folder / "bin").mkdir()
        (folder / "bin" / "aws").write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/aws.py "$@"\n')
        (folder / "bin" / "aws").chmod(0o755)

    def follow(self, block: str) -> subprocess.CompletedProcess[str]:
        """Run a block after those before it, in the shell that they left behind."""
        for placeholder, value in self.filled.items():
            block = block.replace(placeholder, value)
        state = self.folder / "state.sh"
        before = f". {state}\n" if state.exists() else ""
        script = f"{self.script}{before}{block}\nexport -p > {state}\n"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS2_")}
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**inherited, "PATH": path, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, block: str) -> str:
        """Run a block that must succeed; what it said."""
        done = self.follow(block)
        assert done.returncode == 0, block + done.stdout + done.stderr
        return done.stdout


class Modal:
    """Starts a container for whatever has inputs waiting, with the secret that was made."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._plane = plane
        self._folder = folder
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Modal":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()

    def _run(self) -> None:
        with ExitStack() as containers:
            started: set[str] = set()
            while not self._leaving.wait(0.05):
                for function in {self._function(one) for one in self._plane.pending_functions()} - started:
                    started.add(function)
                    containers.enter_context(self._container(function))

    def _function(self, function_id: str) -> str:
        name = function_id.removeprefix("fu-")
        return "Worker.*" if name == "worker" else name

    def _container(self, function: str):  # type: ignore[no-untyped-def]
        folder = self._folder / function.strip(".*")
        folder.mkdir()
        secret = {**self._plane.created_secrets["trellis2-bucket"], "TRELLIS2_DATA_DIR": str(folder)}
        method = "run" if function == "Worker.*" else ""
        return run_container(self._plane, function, folder=folder, environment=secret, method=method)


@pytest.fixture
def modal(control_plane: ControlPlane, tmp_path: Path) -> Iterator[ControlPlane]:
    """An account with nothing in it."""
    control_plane.missing_secrets = {"trellis2-bucket", "huggingface"}
    control_plane.created_secrets.clear()
    (tmp_path / "containers").mkdir()
    with Modal(control_plane, tmp_path / "containers"):
        yield control_plane


def test_a_newcomer_who_follows_the_document_gets_a_glb(
    modal: ControlPlane, ceph: Ceph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor reports what is missing, then success; the image is submitted with the new key."""
    make_bucket(ceph, BUCKET)
    newcomer = Newcomer(tmp_path, ceph, "http://127.0.0.1:9")
    _, doctor = blocks("1. Install")
    result = newcomer.follow(doctor)
    assert result.returncode == 1
    assert "failed  Modal secret trellis2-bucket" in result.stdout
    for block in blocks("3. The bucket"):
        newcomer.succeed(block)
    look, use = blocks("5. Deploy")
    assert "Nothing is missing" in newcomer.succeed(look)
    assert modal.manifest.name == "trellis2"
    (gateway,) = modal.manifest.functions["gateway"]
    for name, value in {**modal.manifest.environment(gateway), **modal.created_secrets["trellis2-bucket"]}.items():
        monkeypatch.setenv(name, value)
    functions.settings.cache_clear()
    app = functions.gateway(worker_function(), notifier_function(), notifier_function())
    with serving(uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))) as url:
        newcomer.filled["https://<workspace>--trellis2-gateway.modal.run"] = url
        newcomer.succeed(use)
    functions.settings.cache_clear()
    assert (tmp_path / "model.glb").read_bytes()[:4] == b"glTF"


def test_what_the_document_installs_is_there_to_be_installed() -> None:
    """The make target, the extra, and Modal's commands that need a browser or an account."""
    install, _ = blocks("1. Install")
    assert "make install\n" in install
    assert "pip install -e '.[modal]'" in install
    assert "\ninstall: " in (ROOT / "Makefile").read_text()
    assert re.search(r"^modal = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


@pytest.mark.parametrize("document", ["deploy.md", "operations.md"])
def test_every_modal_command_of_the_documents_exists(document: str) -> None:
    """With the options that are named; a new release of Modal's may take one away."""
    text = (ROOT / "docs" / document).read_text()
    commands = {
        tuple(line.split()) for line in re.findall(r"\bmodal ((?:token|secret|app|run|deploy)\b[^`\n|#]*)", text)
    }
    assert commands
    for words in commands:
        verbs = [word for word in words[:2] if word.isalpha()] if words[0] not in ("run", "deploy") else [words[0]]
        command = [sys.executable, "-m", "modal", *verbs, "--help"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, (verbs, result.stderr)
        assert [word for word in words if word.startswith("--") and word not in result.stdout] == []
