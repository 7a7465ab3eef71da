"""The examples in the OpenAPI document, built by the code that builds the real answers."""

from datetime import UTC, datetime
from typing import Any

from api.schemas.jobs import UploadResponse
from shared.domain.job import Artifact, Check, Degradation, Input, Job, Stage, Status
from shared.domain.job_schema import job_body
from shared.domain.parameters import MAX_IMAGE_BYTES, resolve

BASE_URL = "https://3d.example"
_UPLOAD_ID = "up_01k9w3v2cy5h8m4t6q0z7r1n2b"
_AT = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)

_QUEUED = Job(
    id="job_01k9w3v7d2x4b6n8p0r5t7w9ya",
    caller="shop",
    engine="relief",
    preset="web",
    parameters=resolve({"seed": 42}, "web"),
    input=Input(key="jobs/job_01k9w3v7d2x4b6n8p0r5t7w9ya/input.png"),
    metadata={"sku": "MUG-7"},
    custom_id="mug-blue",
    created_at=_AT,
    queued_at=_AT,
)
RUNNING = _QUEUED.model_copy(
    update={
        "status": Status.RUNNING,
        "attempt": 1,
        "stage": Stage.SHAPE,
        "progress": 0.21,
        "started_at": _AT.replace(second=1),
    }
)
SUCCEEDED = _QUEUED.model_copy(
    update={
        "status": Status.SUCCEEDED,
        "attempt": 1,
        "progress": 1.0,
        "started_at": _AT.replace(second=1),
        "finished_at": _AT.replace(second=13),
        "timings": {"shape": 1.9, "extract": 9.4, "store": 0.2},
        "artifacts": {
            "model": Artifact(
                key="-",
                bytes=2_412_032,
                sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                content_type="model/gltf-binary",
                triangles=99_812,
                vertices=61_204,
                texture_px=2048,
                dimensions_m=(0.121, 0.095, 0.0834),
                lowered=(Degradation(name="texture_quality", requested="high", actual="medium"),),
            )
        },
        "checks": (
            Check(name="max_bytes", limit=5_120_000, measured=2_412_032, passed=True),
            Check(name="max_triangles", limit=100_000, measured=99_812, passed=True),
        ),
    }
)


def _job(job: Job, *, queue_position: int | None = None, eta_seconds: int | None = None) -> dict[str, Any]:
    return job_body(job, BASE_URL, queue_position=queue_position, eta_seconds=eta_seconds).model_dump(mode="json")


QUEUED_JOB = _job(_QUEUED, queue_position=0, eta_seconds=12)
SUCCEEDED_JOB = _job(SUCCEEDED)
CANCELED_JOB = _job(_QUEUED.model_copy(update={"status": Status.CANCELED, "finished_at": _AT.replace(second=2)}))
JOB_PAGE = {"data": [SUCCEEDED_JOB], "next_cursor": None}
UPLOAD = UploadResponse(
    upload_id=_UPLOAD_ID,
    url=f"{BASE_URL}/v1/files",
    fields={"key": f"uploads/shop/{_UPLOAD_ID}", "expires": "1767609000", "signature": "..."},
    max_bytes=MAX_IMAGE_BYTES,
    expires_at=_AT.replace(hour=10),
).model_dump(mode="json")

UPLOAD_REQUEST = {"purpose": "manifest"}
USAGE = {"data": [{"day": "2026-01-05", "jobs": 41, "gpu_seconds": 1312.4, "cost_usd": 1.14}], "next_cursor": None}
SUBMIT = {
    "image": {"upload_id": _UPLOAD_ID},
    "preset": "web",
    "max_bytes": 3_000_000,
    "dimensions_m": {"height": 0.095},
    "custom_id": "mug-blue",
    "metadata": {"sku": "MUG-7"},
}
SUBMIT_FORM = {"image": "(the file)", "preset": "web", "custom_id": "mug-blue"}
EXPORT = {"preset": "google", "formats": ["glb", "usdz"], "max_bytes": 4_000_000}
EVENTS = (
    f'id: 1\nevent: queued\ndata: {{"id": "{_QUEUED.id}", "status": "queued", ...}}\n\n: still there\n\n'
    f'id: 3\nevent: preview\ndata: {{"id": "{_QUEUED.id}", ..., "preview": "data:image/webp;base64,UklGR..."}}\n\n'
)
ARTIFACT_URL = f"{BASE_URL}/v1/files/jobs/{_QUEUED.id}/1/model.glb?expires=1767606600&signature=..."
