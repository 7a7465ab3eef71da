"""`trellis2 doctor` runs where the service will run: a container with the deployment's own secrets."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from bench.fleet.control_plane.server import ControlPlane
from bench.support.ceph import Ceph, on_ceph
from tests.contract.adapters import make_bucket
from tests.support.modal_harness import run_container

BUCKET = "doctor"
CORS = Path(__file__).parents[2] / "docs" / "cors.json"
pytestmark = on_ceph


@pytest.fixture
def secret(ceph: Ceph) -> dict[str, str]:
    """The variables of the secret `trellis2-bucket`."""
    make_bucket(ceph, BUCKET)
    options = ceph.options(BUCKET)
    return {
        "TRELLIS2_BUCKET": BUCKET,
        "TRELLIS2_S3_ENDPOINT": str(options.endpoint_url),
        "TRELLIS2_S3_REGION": str(options.region),
        "TRELLIS2_S3_ACCESS_KEY": str(options.access_key),
        "TRELLIS2_S3_SECRET_KEY": str(options.secret_key),
        "TRELLIS2_S3_ADDRESSING": options.addressing,
    }


@contextmanager
def doctor(**here: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command with these variables on this machine; CPU workers need no model."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS2_")}
    command = [sys.executable, "-m", "trellis2_modal.cli", "doctor"]
    environment = {**inherited, "TRELLIS2_GPU": "", **here}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as it:
        yield it
        it.kill()


def run_doctor(
    plane: ControlPlane, folder: Path, secret: Mapping[str, str], here: Mapping[str, str]
) -> tuple[int, str]:
    """Run the doctor with a container for its check on Modal; return its exit code and output."""
    with doctor(**here) as command:
        while not plane.spawned["fu-check_bucket"]:
            assert command.poll() is None, command.stdout and command.stdout.read()
            time.sleep(0.05)
        with run_container(plane, "check_bucket", folder=folder, environment=secret):
            output, _ = command.communicate()
        return command.returncode, output


def test_nothing_is_missing_where_the_secret_and_this_machine_mean_a_good_bucket(
    control_plane: ControlPlane, ceph: Ceph, secret: dict[str, str], tmp_path: Path
) -> None:
    """In order, each by its name; browsers may upload as docs/cors.json has it."""
    client = boto3.client(
        "s3",
        endpoint_url=ceph.http_url,
        region_name=secret["TRELLIS2_S3_REGION"],
        aws_access_key_id=secret["TRELLIS2_S3_ACCESS_KEY"],
        aws_secret_access_key=secret["TRELLIS2_S3_SECRET_KEY"],
    )
    client.put_bucket_cors(Bucket=BUCKET, CORSConfiguration=json.loads(CORS.read_text()))
    here = {name: secret[name] for name in ("TRELLIS2_BUCKET", "TRELLIS2_S3_ENDPOINT")}
    code, output = run_doctor(control_plane, tmp_path, secret, here)
    client.delete_bucket_cors(Bucket=BUCKET)
    assert output.splitlines() == [
        "ok      packages for Modal",
        "ok      Modal token",
        "ok      Modal secret trellis2-bucket",
        "...     the next checks run on Modal, with its own secrets; the first time it builds an image",
        f"ok      bucket {BUCKET} at {ceph.http_url} is reachable",
        "ok      bucket keeps conditional writes",
        "ok      bucket keeps the limits of signed forms",
        "ok      bucket lets browsers read (CORS)",
        "ok      bucket lets browsers upload (CORS)",
        "ok      this machine names the same bucket, for `trellis2 keys`",
        "Nothing is missing: modal deploy -m infra.app",
    ]
    assert code == 0


def test_what_is_wrong_in_the_secret_is_found_whatever_this_machine_means(
    control_plane: ControlPlane, secret: dict[str, str], tmp_path: Path
) -> None:
    """The service would go by the secret: a good bucket on this machine proves nothing."""
    wrong = {**secret, "TRELLIS2_S3_SECRET_KEY": "wrong"}
    code, output = run_doctor(control_plane, tmp_path, wrong, here=secret)
    failures = [line for line in output.splitlines() if line.startswith("failed")]
    assert len(failures) == 1
    assert "is reachable: uploads/doctor/: 403 SignatureDoesNotMatch" in failures[0]
    assert "modal secret create --force trellis2-bucket TRELLIS2_BUCKET=..." in output
    assert "wrong" not in output
    assert code == 1


def test_before_modal_can_be_asked_this_machine_looks(control_plane: ControlPlane, secret: dict[str, str]) -> None:
    """By its own variables, and it says so; nothing runs on Modal."""
    control_plane.missing_secrets = {"trellis2-bucket"}
    with doctor(**secret) as command:
        output, _ = command.communicate()
    assert "failed  Modal secret trellis2-bucket" in output
    assert "the next checks run on this machine, with its own variables" in output
    assert "ok      bucket keeps conditional writes" in output
    assert command.returncode == 1
    assert control_plane.spawned["fu-check_bucket"] == 0
