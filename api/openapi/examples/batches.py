"""The examples of batches in the OpenAPI document, built by the code that builds the real answers."""

import json
from datetime import UTC, datetime
from typing import Any

from api.schemas.batches import ResultFile, RowResponse, batch_response
from shared.domain.batch import (
    Batch,
    BatchDefaults,
    BatchError,
    BatchEstimate,
    BatchLimits,
    BatchStatus,
    ManifestFile,
    Tally,
)
from shared.manifest.row import RowError
from shared.repositories.batch_row_status import Counts
from shared.repositories.batches import event_of
from shared.webhook_payloads import batch_body_of

_BASE_URL = "https://3d.example"
_ID = "batch_01k9w3v7d2x4b6n8p0r5t7w9ya"
_JOB = f"{_BASE_URL}/v1/jobs/job_01k9w3v7d2x4b6n8p0r5t7w9yb"
_AT = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
_NEW = Batch(
    id=_ID,
    caller="shop",
    secret="-",  # noqa: S106 - none
    file=ManifestFile(format="csv", bytes=18_220),
    defaults=BatchDefaults(engine="trellis", preset="shopify"),
    limits=BatchLimits(max_cost_usd=50.0),
    created_at=_AT,
)
_PLANNED = _NEW.model_copy(
    update={
        "status": BatchStatus.AWAITING_CONFIRMATION,
        "columns": ("Handle", "Title", "Variant SKU", "Image Src", "Image Position"),
        "planned_at": _AT.replace(second=9),
        "planned": 412,
        "invalid": 3,
        "reused": 9,
        "estimate": BatchEstimate(gpu_seconds=12_000.0, cost_usd=8.33, seconds=3_000.0, measured_jobs=20),
    }
)
_RUNNING = _PLANNED.model_copy(update={"status": BatchStatus.RUNNING, "confirmed_at": _AT.replace(minute=31)})
_COUNTS = Counts(412, queued=280, running=8, succeeded=119, failed=5, gpu_seconds=3_302.1, cost_usd=2.29)

_ENDS = {
    "batch.awaiting_confirmation": _PLANNED,
    "batch.completed": _PLANNED.model_copy(update={"status": BatchStatus.COMPLETED, "claimed_runs": 400}),
    "batch.stopped": _PLANNED.model_copy(update={"status": BatchStatus.STOPPED, "stop": "budget"}),
    "batch.canceled": _PLANNED.model_copy(update={"status": BatchStatus.CANCELED, "stop": "canceled"}),
    "batch.failed": _NEW.model_copy(
        update={
            "status": BatchStatus.FAILED,
            "error": BatchError(code="manifest_invalid", detail="no column has ids: name one of them ..."),
        }
    ),
}


def _event_example(event: str, batch: Batch) -> dict[str, Any]:
    ended = batch.model_copy(update={"tally": Tally(succeeded=batch.claimed_runs, cost_usd=8.17, gpu_seconds=11_760.0)})
    return dict(json.loads(batch_body_of(event_of(ended), ended, _BASE_URL))) | {"type": event}


BATCH_EVENTS = {event: _event_example(event, batch) for event, batch in _ENDS.items()}
NEW_BATCH = batch_response(_NEW, Counts(0), _BASE_URL).model_dump(mode="json")
RUNNING_BATCH = batch_response(_RUNNING, _COUNTS, _BASE_URL).model_dump(mode="json")
BATCHES = {"data": [RUNNING_BATCH], "next_cursor": None}
BATCH_REQUEST = {
    "manifest": {"data": '{"custom_id": "MUG-7", "image": "https://shop.example/mug.jpg", "seed": 7}\n'},
    "preset": "shopify",
    "max_cost_usd": 50.0,
}
BATCH_FORM = {"manifest": "(the file)", "preset": "shopify", "max_cost_usd": 50.0}
RETRY = {"max_cost_usd": 100.0}
_ROW = RowResponse(
    row=0,
    line=2,
    custom_id="MUG-7",
    status="succeeded",
    job_id="job_01k9w3v7d2x4b6n8p0r5t7w9yb",
    artifacts={"model": ResultFile(url=f"{_JOB}/artifacts/model", bytes=2_412_032, sha256="9f" * 32)},
    triangles=99_812,
    vertices=61_204,
    texture_px=2048,
    valid=True,
    seed=42,
    preset="shopify",
    attempt=1,
    gpu_seconds=28.1,
    cost_usd=0.0195,
    finished_at=_AT.replace(minute=33),
)
_BAD = RowResponse(
    row=1,
    line=3,
    custom_id="MUG-8",
    status="failed",
    errors=(RowError(line=3, column=4, field="image", code="url_unreachable", detail="no image could be fetched"),),
)
ROWS = {"data": [_ROW.model_dump(mode="json"), _BAD.model_dump(mode="json")], "next_cursor": None}
RESULTS_JSONL = _ROW.model_dump_json(exclude_defaults=True) + "\n" + _BAD.model_dump_json(exclude_defaults=True) + "\n"
RESULTS_CSV = "Handle,Variant SKU,...,custom_id,status,job_id,...\r\nmug,MUG-7,...,MUG-7,succeeded,job_01k9...\r\n"
ERRORS_CSV = "line,column,field,custom_id,code,detail,job_id\r\n3,4,image,MUG-8,url_unreachable,no image ...,\r\n"
