"""The JSON of a job, one schema for everything that shows one: the API's answers, event streams and webhooks.

The client's `trellis2_modal.types.job.Job` parses this shape.
"""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from shared.domain.job import (
    Check,
    Degradation,
    EventType,
    Job,
    JobError,
    Lane,
    ProgressEventType,
    SamplingResult,
    Stage,
    Status,
)
from shared.domain.parameters import Parameters, PresetName


class WebhookBody(BaseModel):
    """Where the job's events are sent; of the URL, only what precedes its query, which may hold a secret."""

    url: str
    events: list[EventType | ProgressEventType]


class ArtifactBody(BaseModel):
    """One result. The bytes behind its URL never change."""

    url: Annotated[str, Field(description="Redirects to where the bytes are; needs the API key.")]
    bytes: int
    sha256: str
    content_type: str
    expires_at: Annotated[datetime | None, Field(description="When it will be deleted; null: not planned.")] = None
    triangles: int | None = None
    vertices: int | None = None
    texture_px: int | None = None
    dimensions_m: Annotated[
        tuple[float, float, float] | None, Field(description="Width, height and depth of the model, metres.")
    ] = None
    lowered: Annotated[
        tuple[Degradation, ...], Field(description="In which ways it is less than was asked for, so that it fits.")
    ] = ()


class JobBody(BaseModel):
    """The state of a job. Times are UTC."""

    id: str
    status: Status
    stage: Annotated[Stage | None, Field(description="Only while it runs.")]
    progress: Annotated[float, Field(ge=0, le=1, description="Of the whole job.")]
    queue_position: Annotated[
        int | None, Field(description="Unfinished jobs of its lane that came before it; null in webhooks.")
    ]
    eta_seconds: Annotated[
        int | None, Field(description="Estimated time to its end; moves with the job; null in webhooks.")
    ]
    attempt: Annotated[int, Field(description="How often a worker has started it.")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: Annotated[datetime | None, Field(description="When what it holds will be deleted.")] = None
    engine: str
    lane: Lane
    seed: Annotated[int | None, Field(description="The seed in use, also where none was given.")]
    parameters: Parameters
    preset: PresetName | None
    metadata: dict[str, str]
    batch_id: str | None
    custom_id: str | None
    artifacts: Annotated[dict[str, ArtifactBody], Field(description="`model`, `state`, `poster`, `usdz`, `meshopt`.")]
    checks: Annotated[
        tuple[Check, ...], Field(description="The bounds of preset and parameters against the finished files.")
    ] = ()
    sampled: Annotated[SamplingResult | None, Field(description="The seed, type and resolution that were used.")] = None
    timings: Annotated[dict[str, float], Field(description="Seconds by stage.")]
    gpu_seconds: float
    cost_usd: float
    error: JobError | None
    webhook: WebhookBody | None = None
    status_url: Annotated[str, Field(description="A path in a webhook whose service does not know its public URL.")]
    events_url: str
    cancel_url: str
    result: Annotated[str | None, Field(description="The URL of the model, once succeeded.")]


def job_url(job_id: str, base_url: str) -> str:
    """Return where a job is read. base_url: of the service, without a slash at its end; empty: gives a path."""
    return f"{base_url}/v1/jobs/{job_id}"


def job_body(job: Job, base_url: str, *, queue_position: int | None = None, eta_seconds: int | None = None) -> JobBody:
    """Return a job's JSON form; `base_url` as for `job_url`."""
    url = job_url(job.id, base_url)
    artifacts = {
        name: ArtifactBody(
            url=f"{url}/artifacts/{name}", expires_at=job.expires_at, **artifact.model_dump(exclude={"key"})
        )
        for name, artifact in job.artifacts.items()
    }
    same_named = {name: getattr(job, name) for name in JobBody.model_fields if hasattr(job, name)}
    differing = {
        "stage": job.stage if job.status is Status.RUNNING else None,
        "queue_position": queue_position,
        "eta_seconds": eta_seconds,
        "seed": job.parameters.seed,
        "artifacts": artifacts,
        "webhook": (
            WebhookBody(url=job.webhook.url.partition("?")[0], events=list(job.webhook.events)) if job.webhook else None
        ),
        "status_url": url,
        "events_url": f"{url}/events",
        "cancel_url": f"{url}/cancel",
        "result": artifacts["model"].url if "model" in artifacts else None,
    }
    return JobBody.model_validate(same_named | differing)
