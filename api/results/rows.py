"""Results of a batch, row by row in the catalog's order, one segment in memory at a time."""

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from api.schemas.batches import ResultFile, RowResponse, RowStatus
from shared.domain.batch import SEGMENT_ROWS, Batch
from shared.domain.job import Job, Status
from shared.manifest.reader import manifest_rows
from shared.manifest.row import RowError
from shared.repositories.batch_row_status import RowState, RowStatusMarkers
from shared.repositories.batch_rows import Row, job_id_of, read_segment
from shared.repositories.jobs import JobRepository
from shared.repositories.outbox import upload_target
from shared.repositories.webhooks import DeliveryRepository, DeliveryState, delivery_id
from shared.storage import keys

RESULT_COLUMNS = (
    "custom_id", "status", "job_id", "reused", "model_url", "model_bytes", "model_sha256", "usdz_url", "poster_url",
    "triangles", "vertices", "texture_px", "width_m", "height_m", "depth_m", "valid", "checks_passed", "checks", "seed",
    "preset", "attempt", "gpu_seconds", "cost_usd", "finished_at", "delivered", "error_code", "error_detail",
    "error_line", "error_column",
)  # fmt: skip
ERROR_COLUMNS = ("line", "column", "field", "custom_id", "code", "detail", "job_id")


@dataclass(frozen=True, slots=True)
class BatchResults:
    """Read the results of batches. Thread-safe. readers: reads several job records at once."""

    jobs: JobRepository
    markers: RowStatusMarkers
    readers: ThreadPoolExecutor

    def rows(
        self, batch: Batch, base_url: str, *, first: int = 0, end: int | None = None, status: RowStatus | None = None
    ) -> Iterator[RowResponse]:
        """Yield the rows from `first` up to `end`, in order, optionally only those in `status`."""
        end = batch.planned if end is None else min(end, batch.planned)
        for segment in range(first // SEGMENT_ROWS, -(-end // SEGMENT_ROWS)):
            start = segment * SEGMENT_ROWS
            marks = self.markers.read(batch, first=start, end=start + SEGMENT_ROWS)
            standings = {number: RowState("succeeded") for number in marks.succeeded} | marks.statuses
            rows = [
                row
                for row in read_segment(self.jobs.store, batch.id, segment)
                if first <= row.number < end and status in (None, _status(batch, row, standings.get(row.number)))
            ]
            job_list = self.readers.map(lambda row, s=standings: self._job(batch, row, s.get(row.number)), rows)
            for row, job in zip(rows, job_list, strict=True):
                yield self._body(batch, row, job, standings.get(row.number), base_url)

    def _job(self, batch: Batch, row: Row, standing: RowState | None) -> Job | None:
        """Return the job of a row, if it has started or was reused."""
        if row.errors or (standing is None and row.reused is None):
            return None
        versioned = self.jobs.find(row.reused or job_id_of(batch, row.number))
        return versioned.record if versioned else None

    def _body(self, batch: Batch, row: Row, job: Job | None, standing: RowState | None, base_url: str) -> RowResponse:
        body = RowResponse(
            row=row.number,
            line=row.line,
            custom_id=row.custom_id,
            status=_status(batch, row, standing),
            reused=row.reused is not None,
            errors=row.errors,
        )
        if job is None:
            return body
        body = body.model_copy(update=_of_job(job, base_url))
        if body.status == "failed" and job.error:
            error = RowError(line=row.line, code=job.error.code, detail=job.error.detail)
            body = body.model_copy(update={"errors": (error,)})
        if body.status == "failed" and job.status is Status.EXPIRED:
            error = RowError(line=row.line, code="expired", detail="no worker could run it in time")
            body = body.model_copy(update={"errors": (error,)})
        if job.deliver and body.status == "succeeded":
            body = body.model_copy(update={"delivered": self._is_delivered(job)})
        return body

    def _is_delivered(self, job: Job) -> bool:
        """Return whether the files were delivered."""
        name = delivery_id(keys.event_id(job.id, job.run_number), upload_target(job.deliver))
        held = DeliveryRepository(self.jobs.store).find(job.caller, name)
        return held is not None and held.record.state is DeliveryState.DELIVERED

    # --- as files

    def as_jsonl(self, batch: Batch, base_url: str) -> Iterator[bytes]:
        """Yield one JSON line for each row."""
        for body in self.rows(batch, base_url):
            yield body.model_dump_json(exclude_defaults=True).encode() + b"\n"

    def as_csv(self, batch: Batch, base_url: str) -> Iterator[bytes]:
        """Yield the catalog's own columns, then ours; the catalog is read again in parallel with the results."""
        ours = [f"trellis2_{name}" if name in batch.columns else name for name in RESULT_COLUMNS]
        yield _csv_line([*batch.columns, *ours])
        catalog = manifest_rows(self.jobs.store, batch.id, batch.file)
        for body, row in zip(self.rows(batch, base_url), catalog, strict=False):
            catalog_cells = [row.cells.get(name, "") for name in batch.columns]
            flat = flatten_row(body)
            yield _csv_line([*catalog_cells, *(flat[name] for name in RESULT_COLUMNS)])

    def errors_as_csv(self, batch: Batch, base_url: str) -> Iterator[bytes]:
        """Yield one CSV line for each error of a row."""
        yield _csv_line(list(ERROR_COLUMNS))
        for body in self.rows(batch, base_url):
            for error in body.errors:
                cells = error.model_dump() | {"custom_id": body.custom_id, "job_id": body.job_id}
                yield _csv_line([cells[name] for name in ERROR_COLUMNS])


def flatten_row(body: RowResponse) -> dict[str, Any]:
    """Return a row as cells."""
    model, error = body.artifacts.get("model"), body.errors[0] if body.errors else None
    width, height, depth = body.dimensions_m or (None, None, None)
    return body.model_dump(mode="json", include={*RESULT_COLUMNS} - {"checks"}) | {
        "model_url": model.url if model else None,
        "model_bytes": model.bytes if model else None,
        "model_sha256": model.sha256 if model else None,
        "usdz_url": body.artifacts["usdz"].url if "usdz" in body.artifacts else None,
        "poster_url": body.artifacts["poster"].url if "poster" in body.artifacts else None,
        "width_m": width,
        "height_m": height,
        "depth_m": depth,
        "checks_passed": all(check.passed for check in body.checks) if body.checks else None,
        "checks": "; ".join(_check(check.name, check.measured, check.limit, check.passed) for check in body.checks),
        "error_code": error.code if error else None,
        "error_detail": error.detail if error else None,
        "error_line": error.line if error else None,
        "error_column": error.column if error else None,
    }


def _check(name: str, measured: object, limit: object, passed: bool) -> str:
    return f"{name} {measured} of {limit}: {'ok' if passed else 'missed'}"


def _status(batch: Batch, row: Row, standing: RowState | None) -> RowStatus:
    if row.errors:
        return "failed"
    if row.reused:
        return "succeeded"
    if standing:
        return standing.status  # type: ignore[return-value]  # marks have no other words
    if batch.stop is None or row.number < batch.claimed:
        return "queued"
    return "canceled" if batch.stop == "canceled" else "skipped"


def _of_job(job: Job, base_url: str) -> dict[str, Any]:
    url = f"{base_url}/v1/jobs/{job.id}"
    model = job.artifacts.get("model")
    used = {"gpu_seconds": job.gpu_seconds, "cost_usd": job.cost_usd} if job.status is Status.SUCCEEDED else {}
    return {
        "job_id": job.id,
        "artifacts": {
            name: ResultFile(url=f"{url}/artifacts/{name}", bytes=artifact.bytes, sha256=artifact.sha256)
            for name, artifact in job.artifacts.items()
        },
        "triangles": model.triangles if model else None,
        "vertices": model.vertices if model else None,
        "texture_px": model.texture_px if model else None,
        "dimensions_m": model.dimensions_m if model else None,
        "valid": True if model else None,
        "checks": job.checks,
        "seed": job.parameters.seed,
        "preset": job.preset,
        "attempt": job.attempt,
        "finished_at": job.finished_at,
        **used,
    }


def _csv_line(cells: list[Any]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow([_cell(cell) for cell in cells])
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value
