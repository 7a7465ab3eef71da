"""The service in one process for each role, over a real S3 server and over a line that fails."""

import json
from pathlib import Path

from bench.support.ceph import ACCESS_KEY, SECRET_KEY, Ceph, on_ceph
from bench.support.fault_proxy import FaultProxy, Rule, lose_response, refuse
from tests.contract.adapters import make_bucket
from tests.support.service_processes import SAMPLES, trellis2, whole_service
from tests.validators.gltf.khronos import validate

pytestmark = on_ceph
BUCKET = "whole-service"


def over_s3(endpoint: str) -> dict[str, str]:
    """The settings of a service whose bucket is there."""
    return {
        "STORE": "s3",
        "BUCKET": BUCKET,
        "S3_ENDPOINT": endpoint,
        "S3_REGION": "us-east-1",
        "S3_ADDRESSING": "path",
        "S3_ACCESS_KEY": ACCESS_KEY,
        "S3_SECRET_KEY": SECRET_KEY,
    }


def test_gateway_worker_and_reconciler_share_a_bucket_and_nothing_else(ceph: Ceph, tmp_path: Path) -> None:
    """The image is uploaded by a signed form and the GLB read by a signed URL, without the gateway."""
    make_bucket(ceph, BUCKET)
    glb = tmp_path / "model.glb"
    with whole_service(tmp_path / "var", "gateway", "worker", "reconciler", **over_s3(ceph.http_url)) as url:
        options = ("--preset", "low_poly", "--pipeline-type", "512", "--json")
        made = trellis2(url, "generate", str(SAMPLES / "mug.png"), "-o", str(glb), *options)
    assert made.returncode == 0
    assert json.loads(made.stdout)["status"] == "succeeded"
    report = validate(glb.read_bytes(), tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0)


def test_fault_12_a_picture_becomes_a_glb_though_a_fifth_of_store_calls_fail(ceph: Ceph, tmp_path: Path) -> None:
    """Gateway, worker and client each try again where that is harmless; some writes are done and the answer is lost."""
    make_bucket(ceph, BUCKET)
    glb = tmp_path / "model.glb"
    with (
        FaultProxy(ceph.http_url) as proxy,
        whole_service(tmp_path / "var", "gateway", "worker", **over_s3(proxy.url)) as url,
    ):
        proxy.rules += [
            Rule(refuse(503, "SlowDown"), rate=0.1),
            Rule(refuse(500, "InternalError"), rate=0.15),
            Rule(lose_response, method="PUT", rate=0.2),
        ]
        options = ("--preset", "low_poly", "--pipeline-type", "512", "--json")
        made = trellis2(url, "generate", str(SAMPLES / "mug.png"), "-o", str(glb), *options)
        calls = len(proxy.calls)
    assert calls > 20
    assert made.returncode == 0, made.stderr
    report = validate(glb.read_bytes(), tmp_path)
    assert (report["numErrors"], report["numWarnings"]) == (0, 0)
