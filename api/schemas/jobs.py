"""The JSON that goes over the wire, in and out; what a field means is said here once, for code and documents alike."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.domain.job import EVENT_TYPES, EventType, ProgressEventType, Webhook
from shared.domain.job_schema import JobBody
from shared.domain.parameters import ExportParameters, Parameters, PresetName

MAX_URL_CHARACTERS = 2_048
MAX_METADATA_KEYS = 50

LaneName = Literal["interactive", "standard", "batch"]
Printable = StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40), Printable]
MetadataValue = Annotated[str, StringConstraints(max_length=500)]


class ImageSource(BaseModel):
    """Where the picture is: exactly one of the four."""

    model_config = ConfigDict(extra="forbid")

    upload_id: Annotated[str | None, Field(max_length=64, description="The `upload_id` of POST /v1/uploads.")] = None
    url: Annotated[
        str | None,
        Field(max_length=MAX_URL_CHARACTERS, description="An https URL on the public internet; fetched by the worker."),
    ] = None
    data: Annotated[str | None, Field(description="`data:image/png;base64,...`, at most 20 MB once decoded.")] = None
    job_id: Annotated[
        str | None, Field(max_length=64, description="A job of yours that is still kept: its picture once more.")
    ] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "ImageSource":
        if sum(given is not None for given in (self.upload_id, self.url, self.data, self.job_id)) != 1:
            raise ValueError("give exactly one of upload_id, url, data and job_id")
        return self


class WebhookRequest(BaseModel):
    """Where you want to be told of the job's end, of which ends, and whether of its progress."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[
        str, Field(min_length=1, max_length=MAX_URL_CHARACTERS, description="An https URL on the public internet.")
    ]
    events: Annotated[
        list[EventType | ProgressEventType],
        Field(
            min_length=1,
            max_length=20,
            description="All ends if absent. `job.progress` is best effort: tried once, at most twice a second.",
        ),
    ] = list(EVENT_TYPES)

    def to_domain(self) -> Webhook:
        """As the job keeps it."""
        return Webhook(url=self.url, events=tuple(dict.fromkeys(self.events)))


class JobOptions(BaseModel):
    """What a caller may say about a job beside its parameters."""

    preset: Annotated[
        PresetName | None, Field(description="Sets triangles, texture and bounds; parameters win over it.")
    ] = None
    lane: Annotated[LaneName, Field(description="The queue; `interactive` for somebody who is waiting.")] = "standard"
    metadata: Annotated[
        dict[MetadataKey, MetadataValue],
        Field(default_factory=dict, max_length=MAX_METADATA_KEYS, description="Yours; comes back with the job."),
    ]
    custom_id: Annotated[
        str | None, StringConstraints(min_length=1, max_length=100), Printable, Field(description="Your name for it.")
    ] = None
    webhook: Annotated[
        WebhookRequest | None, Field(description="Tells you of the end: signed, and again until you say 2xx.")
    ] = None


class JobFields(JobOptions, Parameters):
    """The fields of a submit, all optional. Unknown names are refused."""

    engine: Annotated[str | None, Field(max_length=40, description="What makes the asset; see GET /readyz.")] = None

    def explicit(self) -> dict[str, Any]:
        """The parameters that the caller gave, by name."""
        return {name: getattr(self, name) for name in self.model_fields_set & Parameters.model_fields.keys()}


class JobRequest(JobFields):
    """A submit as JSON."""

    image: ImageSource


class ExportRequest(JobOptions, ExportParameters):
    """Other options for a stored state; what is left out stays as it was."""

    def explicit(self) -> dict[str, Any]:
        """The parameters that the caller gave, by name."""
        return {name: getattr(self, name) for name in self.model_fields_set & ExportParameters.model_fields.keys()}


class JobPage(BaseModel):
    """Some jobs, newest first."""

    data: list[JobBody]
    next_cursor: Annotated[str | None, Field(description="Give it as `after` for the next page; null at the end.")]


class UploadRequest(BaseModel):
    """What is to be uploaded; without a body, a picture."""

    model_config = ConfigDict(extra="forbid")

    purpose: Annotated[
        Literal["image", "manifest", "images"],
        Field(description="`image`: of one job. `manifest`: a batch's catalog. `images`: a zip of them."),
    ] = "image"


class UploadResponse(BaseModel):
    """A form to send the picture with: POST `fields` and then the picture, as `file`, to `url`."""

    upload_id: str
    url: str
    fields: dict[str, str]
    max_bytes: int
    expires_at: datetime


class DayOfUsage(BaseModel):
    """What was used by jobs that succeeded on one day (UTC) and cost something."""

    day: date
    jobs: int
    gpu_seconds: float
    cost_usd: float


class UsageResponse(BaseModel):
    """Your use by day, the newest first; days without any are left out."""

    data: list[DayOfUsage]
    next_cursor: None = None


class FieldError(BaseModel):
    """One field at fault."""

    pointer: Annotated[str, Field(description="JSON pointer (RFC 6901) of the field, or `/name` of a parameter.")]
    detail: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: Annotated[str, Field(description="Where `code` is explained, relative to the service.")]
    title: str
    status: int
    detail: str
    code: Annotated[str, Field(description="Stable: match on this.")]
    errors: Annotated[list[FieldError], Field(default_factory=list)]
