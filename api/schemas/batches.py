"""Batches on the wire, in and out."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api.schemas.jobs import MAX_METADATA_KEYS, MAX_URL_CHARACTERS, MetadataKey, MetadataValue
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
Failures = Annotated[int, Field(ge=1, le=50_000)]


class ManifestSource(BaseModel):
    """Where the catalog is: exactly one of the two."""

    model_config = ConfigDict(extra="forbid")

    upload_id: Annotated[str | None, Field(max_length=64, description="Of POST /v1/uploads, `manifest`.")] = None
    data: Annotated[
        str | None, StringConstraints(max_length=MAX_INLINE_CHARACTERS), Field(description="The text itself.")
    ] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "ManifestSource":
        if (self.upload_id is None) == (self.data is None):
            raise ValueError("give exactly one of upload_id and data")
        return self


class ImagesSource(BaseModel):
    """Where the zip of pictures is."""

    model_config = ConfigDict(extra="forbid")

    upload_id: Annotated[str, Field(max_length=64, description="Of POST /v1/uploads, `images`.")]


class BatchWebhookRequest(BaseModel):
    """Where you want to be told of the batch, of its rows, or of both."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[
        str, Field(min_length=1, max_length=MAX_URL_CHARACTERS, description="An https URL on the public internet.")
    ]
    events: Annotated[
        list[EventType | BatchEventType],
        Field(min_length=1, max_length=20, description="Those of the batch if absent; `job.*` are told for each row."),
    ] = list(BATCH_EVENT_TYPES)

    def to_domain(self) -> BatchWebhook:
        """As the batch keeps it."""
        return BatchWebhook(url=self.url, events=tuple(dict.fromkeys(self.events)))


class BatchFields(Parameters):
    """The fields of a batch beside its catalog, all optional; parameters hold for each row that says nothing else."""

    preset: Annotated[PresetName | None, Field(description="For rows without one; parameters win over it.")] = None
    engine: Annotated[str | None, Field(max_length=40, description="What makes the assets; see GET /readyz.")] = None
    metadata: Annotated[
        dict[MetadataKey, MetadataValue],
        Field(default_factory=dict, max_length=MAX_METADATA_KEYS, description="Yours; comes back with each job."),
    ]
    confirm: Annotated[bool, Field(description="Whether to wait for POST confirm once it is planned.")] = True
    rerun: Annotated[bool, Field(description="Whether to run rows that were made just so before.")] = False
    max_cost_usd: Annotated[Usd | None, Field(description="A hard stop: the rest is skipped.")] = None
    max_failures: Annotated[Failures | None, Field(description="A hard stop: the rest is skipped.")] = None
    deliver_to: Annotated[
        str | None,
        Field(
            max_length=MAX_URL_CHARACTERS,
            description="An https URL under which finished files are PUT: `<custom_id>.glb` is added to its path.",
        ),
    ] = None
    webhook: Annotated[BatchWebhookRequest | None, Field(description="Signed, and again until you say 2xx.")] = None

    def explicit(self) -> dict[str, Any]:
        """The parameters that the caller gave, by name, as JSON has them."""
        given = self.model_fields_set & Parameters.model_fields.keys()
        return {name: value for name, value in self.model_dump(mode="json").items() if name in given}


class BatchRequest(BatchFields):
    """A batch as JSON. Without a manifest each picture of the zip is a row."""

    manifest: ManifestSource | None = None
    images: ImagesSource | None = None

    @model_validator(mode="after")
    def _something(self) -> "BatchRequest":
        if self.manifest is None and self.images is None:
            raise ValueError("give a manifest, or pictures")
        return self


class RetryRequest(BaseModel):
    """New bounds for the next round; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    max_cost_usd: Usd | None = None
    max_failures: Failures | None = None


class CountsResponse(BaseModel):
    """How many rows stand how. The last six sum to `total`, whenever they are read."""

    total: int
    queued: int
    running: int
    succeeded: Annotated[int, Field(description="Those that were made before among them.")]
    failed: Annotated[int, Field(description="Those that cannot run among them; see errors_url.")]
    canceled: int
    skipped: Annotated[int, Field(description="Not run, since a limit was reached; see stop_reason.")]


class PlanResponse(BaseModel):
    """What was found, and what it will need."""

    rows: int
    invalid: Annotated[int, Field(description="Rows that cannot run; errors_url says where and why.")]
    reused: Annotated[int, Field(description="Rows that were made just so before, and are not run.")]
    to_run: int
    gpu_seconds: float | None
    cost_usd: float | None
    seconds: Annotated[float | None, Field(description="From the start to the end, while nothing else runs.")]
    measured_jobs: Annotated[int, Field(description="By how many jobs of yours that was estimated; 0: by none.")]


class BatchResponse(BaseModel):
    """A batch as it stands. Times are UTC."""

    id: str
    status: BatchStatus
    stop_reason: Annotated[StopReason | None, Field(description="Why not every row had its turn.")]
    counts: CountsResponse
    plan: PlanResponse | None
    eta_seconds: Annotated[int | None, Field(description="A guess at the time to its end.")]
    gpu_seconds: float
    cost_usd: float
    round: Annotated[int, Field(description="How often it was retried.")]
    created_at: datetime
    planned_at: datetime | None
    confirmed_at: datetime | None
    finished_at: datetime | None
    engine: str
    preset: PresetName | None
    parameters: Annotated[dict[str, Any], Field(description="Those that were given for all rows.")]
    max_cost_usd: float | None
    max_failures: int | None
    metadata: dict[str, str]
    columns: Annotated[list[str], Field(description="Of the catalog.")]
    error: BatchError | None
    status_url: str
    items_url: str
    results_jsonl_url: str
    results_csv_url: str
    results_zip_url: str
    errors_url: str


class BatchPage(BaseModel):
    """Some batches, newest first."""

    data: list[BatchResponse]
    next_cursor: Annotated[str | None, Field(description="Give it as `after` for the next page; null at the end.")]


class ResultFile(BaseModel):
    """A finished file of a row."""

    url: str
    bytes: int
    sha256: str


class RowResponse(BaseModel):
    """A row of a batch and what has come of it."""

    row: Annotated[int, Field(description="From 0.")]
    line: Annotated[int, Field(description="Of the catalog, where the row begins; from 1.")]
    custom_id: str
    status: RowStatus
    reused: Annotated[bool, Field(description="Made before, by an earlier batch.")] = False
    job_id: str | None = None
    artifacts: dict[str, ResultFile] = Field(default_factory=dict)
    triangles: int | None = None
    vertices: int | None = None
    texture_px: int | None = None
    dimensions_m: tuple[float, float, float] | None = None
    valid: Annotated[bool | None, Field(description="Whether the GLB is valid: none is stored that is not.")] = None
    checks: tuple[Check, ...] = ()
    seed: int | None = None
    preset: PresetName | None = None
    attempt: int | None = None
    gpu_seconds: float | None = None
    cost_usd: float | None = None
    finished_at: datetime | None = None
    delivered: Annotated[bool | None, Field(description="Whether the files are where you wanted them.")] = None
    errors: Annotated[tuple[RowError, ...], Field(description="With line and column of the catalog.")] = ()


class RowPage(BaseModel):
    """Some rows of a batch, in the catalog's order."""

    data: list[RowResponse]
    next_cursor: Annotated[str | None, Field(description="Give it as `after` for the next page; null at the end.")]


def batch_response(batch: Batch, counts: Counts, base_url: str) -> BatchResponse:
    """A batch as its caller sees it."""
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
        round=batch.run_number,
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
    """What is left of the planned time."""
    to_run = batch.planned - batch.invalid - batch.reused
    if batch.status is not BatchStatus.RUNNING or batch.estimate is None or not to_run:
        return None
    return round(batch.estimate.seconds * (counts.queued + counts.running) / to_run)
