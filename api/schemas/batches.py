"""JSON of requests and responses about batches."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, WithJsonSchema, model_validator

from api.schemas.jobs import (
    MAX_METADATA_KEYS,
    MAX_URL_CHARACTERS,
    PRESET_SCHEMA,
    MetadataKey,
    MetadataValue,
    NextCursor,
    PublicUrl,
    RequestModel,
)
from shared.domain.batch import (
    BATCH_EVENT_TYPES,
    Batch,
    BatchError,
    BatchEventType,
    BatchStatus,
    BatchWebhook,
    StopReason,
)
from shared.domain.job import Check, EventType
from shared.domain.parameters import Parameters, PresetName
from shared.manifest.row import RowError
from shared.repositories.batch_row_status import Counts

MAX_INLINE_CHARACTERS = 1_000_000
RowStatus = Literal["queued", "running", "succeeded", "failed", "canceled", "skipped"]
Usd = Annotated[float, Field(gt=0, le=1_000_000)]
FORM_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
Failures = Annotated[int, Field(ge=1, le=50_000)]


class ManifestSource(RequestModel):
    """Where the catalog is: exactly one of the two."""

    upload_id: Annotated[str | None, Field(max_length=64, description="Of POST /v1/uploads, `manifest`.")] = None
    data: Annotated[
        str | None, StringConstraints(max_length=MAX_INLINE_CHARACTERS), Field(description="The text of the catalog.")
    ] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "ManifestSource":
        if (self.upload_id is None) == (self.data is None):
            raise ValueError("give exactly one of upload_id and data")
        return self


class ImagesSource(RequestModel):
    """Where the zip of images is."""

    upload_id: Annotated[str, Field(max_length=64, description="Of POST /v1/uploads, `images`.")]


class BatchWebhookRequest(RequestModel):
    """A URL that receives events of the batch, of its rows, or of both."""

    url: PublicUrl
    events: Annotated[
        list[EventType | BatchEventType],
        Field(min_length=1, max_length=20, description="The batch's events if absent; `job.*` are sent for each row."),
    ] = Field(default=list(BATCH_EVENT_TYPES))

    def to_domain(self) -> BatchWebhook:
        """Return the webhook as the batch stores it."""
        return BatchWebhook(url=self.url, events=tuple(dict.fromkeys(self.events)))


class BatchFields(Parameters):
    """The fields of a batch without its files, all optional; a row can override the parameters."""

    preset: Annotated[
        PresetName | None,
        Field(description="For rows without one; parameters override it.", json_schema_extra=PRESET_SCHEMA),
    ] = None
    engine: Annotated[
        str | None, Field(max_length=40, description="The engine that generates the assets; see GET /readyz.")
    ] = None
    metadata: Annotated[
        dict[MetadataKey, MetadataValue],
        Field(default_factory=dict, max_length=MAX_METADATA_KEYS, description="Your data; returned with each job."),
    ]
    confirm: Annotated[bool, Field(description="Whether a planned batch waits for POST confirm.")] = True
    rerun: Annotated[bool, Field(description="Whether to run rows again whose result already exists.")] = False
    max_cost_usd: Annotated[Usd | None, Field(description="A hard limit: later rows are skipped.")] = None
    max_failures: Annotated[Failures | None, Field(description="A hard limit: later rows are skipped.")] = None
    deliver_to: Annotated[
        str | None,
        Field(
            max_length=MAX_URL_CHARACTERS,
            description="An https URL; finished files are PUT to `<custom_id>.glb` under its path.",
        ),
    ] = None
    webhook: Annotated[BatchWebhookRequest | None, Field(description="Signed, and repeated until you answer 2xx.")] = (
        None
    )

    def explicit(self) -> dict[str, Any]:
        """Return the parameters that the request sets, as JSON values."""
        names = self.model_fields_set & Parameters.model_fields.keys()
        return {name: value for name, value in self.model_dump(mode="json").items() if name in names}


class BatchRequest(BatchFields):
    """A batch as JSON. Without a manifest each image of the zip is a row."""

    manifest: ManifestSource | None = None
    images: ImagesSource | None = None

    @model_validator(mode="after")
    def _something(self) -> "BatchRequest":
        if self.manifest is None and self.images is None:
            raise ValueError("send a manifest, or images")
        return self


class BatchForm(BatchFields):
    """A batch as a form: a manifest, or images, or both."""

    manifest: Annotated[
        Any,
        Field(default_factory=str),
        WithJsonSchema({**FORM_FILE, "description": "The catalog, or an upload's id."}),
    ]
    images: Annotated[
        Any, Field(default_factory=str), WithJsonSchema({**FORM_FILE, "description": "A zip, or an upload's id."})
    ]


class RetryRequest(RequestModel):
    """New limits for the retried rows; absent limits keep their values."""

    max_cost_usd: Usd | None = None
    max_failures: Failures | None = None


class CountsResponse(BaseModel):
    """How many rows have each status. The last six always sum to `total`."""

    total: int
    queued: int
    running: int
    succeeded: Annotated[int, Field(description="Including rows whose result already existed.")]
    failed: Annotated[int, Field(description="Including invalid rows; see errors_url.")]
    canceled: int
    skipped: Annotated[int, Field(description="Not run, because a limit was reached; see stop_reason.")]


class PlanResponse(BaseModel):
    """The result of planning: rows and estimated cost."""

    rows: int
    invalid: Annotated[int, Field(description="Rows that cannot run; errors_url lists the reasons.")]
    reused: Annotated[int, Field(description="Rows whose result already exists; they are not run.")]
    to_run: int
    gpu_seconds: float | None
    cost_usd: float | None
    seconds: Annotated[float | None, Field(description="Duration of the whole batch, if nothing else runs.")]
    measured_jobs: Annotated[int, Field(description="How many of your jobs the estimate is based on.")]


class BatchResponse(BaseModel):
    """The current state of a batch. Times are UTC."""

    id: str
    status: BatchStatus
    stop_reason: Annotated[StopReason | None, Field(description="Why some rows were not run.")]
    counts: CountsResponse
    plan: PlanResponse | None
    eta_seconds: Annotated[int | None, Field(description="Estimated time to its end.")]
    gpu_seconds: float
    cost_usd: float
    run_number: Annotated[int, Field(description="How many times it was retried.")]
    created_at: datetime
    planned_at: datetime | None
    confirmed_at: datetime | None
    finished_at: datetime | None
    engine: str
    preset: PresetName | None
    parameters: Annotated[dict[str, Any], Field(description="The parameters that apply to all rows.")]
    max_cost_usd: float | None
    max_failures: int | None
    metadata: dict[str, str]
    columns: Annotated[list[str], Field(description="The columns of the catalog.")]
    error: BatchError | None
    status_url: str
    items_url: str
    results_jsonl_url: str
    results_csv_url: str
    results_zip_url: str
    errors_url: str


class BatchPage(BaseModel):
    """A page of batches, newest first."""

    data: list[BatchResponse]
    next_cursor: NextCursor


class ResultFile(BaseModel):
    """A finished file of a row."""

    url: str
    bytes: int
    sha256: str


class RowResponse(BaseModel):
    """A row of a batch and its result."""

    row: Annotated[int, Field(description="From 0.")]
    line: Annotated[int, Field(description="The line of the catalog where the row begins; from 1.")]
    custom_id: str
    status: RowStatus
    reused: Annotated[bool, Field(description="Whether an earlier batch generated the result.")] = False
    job_id: str | None = None
    artifacts: dict[str, ResultFile] = Field(default_factory=dict)
    triangles: int | None = None
    vertices: int | None = None
    texture_px: int | None = None
    dimensions_m: tuple[float, float, float] | None = None
    valid: Annotated[bool | None, Field(description="Whether the GLB is valid; invalid ones are never stored.")] = None
    checks: tuple[Check, ...] = ()
    seed: int | None = None
    preset: PresetName | None = None
    attempt: int | None = None
    gpu_seconds: float | None = None
    cost_usd: float | None = None
    finished_at: datetime | None = None
    delivered: Annotated[bool | None, Field(description="Whether the files were delivered to `deliver_to`.")] = None
    errors: Annotated[tuple[RowError, ...], Field(description="With line and column of the catalog.")] = ()


class RowPage(BaseModel):
    """A page of rows of a batch, in the catalog's order."""

    data: list[RowResponse]
    next_cursor: NextCursor


def batch_response(batch: Batch, counts: Counts, base_url: str) -> BatchResponse:
    """Return the JSON of a batch."""
    url = f"{base_url}/v1/batches/{batch.id}"
    return BatchResponse(
        id=batch.id,
        status=batch.status,
        stop_reason=batch.stop,
        counts=CountsResponse(**{name: getattr(counts, name) for name in CountsResponse.model_fields}),
        plan=_plan(batch) if batch.planned_at else None,
        eta_seconds=_eta_s(batch, counts),
        gpu_seconds=counts.gpu_seconds,
        cost_usd=counts.cost_usd,
        run_number=batch.run_number,
        created_at=batch.created_at,
        planned_at=batch.planned_at,
        confirmed_at=batch.confirmed_at,
        finished_at=batch.finished_at,
        engine=batch.defaults.engine,
        preset=batch.defaults.preset,
        parameters=batch.defaults.parameters,
        max_cost_usd=batch.limits.max_cost_usd,
        max_failures=batch.limits.max_failures,
        metadata=batch.metadata,
        columns=list(batch.columns),
        error=batch.error,
        status_url=url,
        items_url=f"{url}/items",
        results_jsonl_url=f"{url}/results.jsonl",
        results_csv_url=f"{url}/results.csv",
        results_zip_url=f"{url}/results.zip",
        errors_url=f"{url}/errors.csv",
    )


def _plan(batch: Batch) -> PlanResponse:
    needs = batch.estimate
    return PlanResponse(
        rows=batch.planned,
        invalid=batch.invalid,
        reused=batch.reused,
        to_run=batch.planned - batch.invalid - batch.reused,
        gpu_seconds=needs.gpu_seconds if needs else None,
        cost_usd=needs.cost_usd if needs else None,
        seconds=needs.seconds if needs else None,
        measured_jobs=needs.measured_jobs if needs else 0,
    )


def _eta_s(batch: Batch, counts: Counts) -> int | None:
    """Return the remaining part of the planned time, in seconds."""
    to_run = batch.planned - batch.invalid - batch.reused
    if batch.status is not BatchStatus.RUNNING or batch.estimate is None or not to_run:
        return None
    return round(batch.estimate.seconds * (counts.queued + counts.running) / to_run)
