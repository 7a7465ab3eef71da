"""JSON of requests and responses about jobs, uploads and usage, and of errors; the source of /openapi.json."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from shared.domain.job import EVENT_TYPES, EventType, ProgressEventType, Webhook
from shared.domain.job_schema import JobBody
from shared.domain.parameters import PRESETS, ExportParameters, Parameters, PresetName

MAX_URL_CHARACTERS = 2_048
MAX_METADATA_KEYS = 50

LaneName = Literal["interactive", "standard", "batch"]
Printable = StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40), Printable]
MetadataValue = Annotated[str, StringConstraints(max_length=500)]
PublicUrl = Annotated[
    str, Field(min_length=1, max_length=MAX_URL_CHARACTERS, description="An https URL on the public internet.")
]
NextCursor = Annotated[str | None, Field(description="Send it as `after` for the next page; null on the last one.")]
# For tools that draw forms: what each preset sets.
PRESET_SCHEMA: dict[str, Any] = {"x-sets": PRESETS}


class RequestModel(BaseModel):
    """A body, or a part of one. Unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid")


class ImageSource(RequestModel):
    """Where the image is: exactly one of the four."""

    upload_id: Annotated[str | None, Field(max_length=64, description="The `upload_id` of POST /v1/uploads.")] = None
    url: Annotated[
        str | None,
        Field(max_length=MAX_URL_CHARACTERS, description="An https URL on the public internet; fetched by the worker."),
    ] = None
    data: Annotated[str | None, Field(description="`data:image/png;base64,...`, at most 20 MB once decoded.")] = None
    job_id: Annotated[str | None, Field(max_length=64, description="Use the image of an earlier job of yours.")] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "ImageSource":
        if sum(source is not None for source in (self.upload_id, self.url, self.data, self.job_id)) != 1:
            raise ValueError("give exactly one of upload_id, url, data and job_id")
        return self


class WebhookRequest(RequestModel):
    """A URL that receives the job's end, and on request its progress."""

    url: PublicUrl
    events: Annotated[
        list[EventType | ProgressEventType],
        Field(
            min_length=1,
            max_length=20,
            description="Every end if absent. `job.progress` is best effort: sent once, at most twice a second.",
        ),
    ] = list(EVENT_TYPES)

    def to_domain(self) -> Webhook:
        """Return the webhook as the job stores it."""
        return Webhook(url=self.url, events=tuple(dict.fromkeys(self.events)))


class JobOptions(BaseModel):
    """Options of a job that are not parameters of the pipeline."""

    preset: Annotated[
        PresetName | None,
        Field(
            description="Sets triangles, texture and limits; parameters override it.", json_schema_extra=PRESET_SCHEMA
        ),
    ] = None
    lane: Annotated[LaneName, Field(description="The queue; `interactive` if a person waits.")] = "standard"
    metadata: Annotated[
        dict[MetadataKey, MetadataValue],
        Field(default_factory=dict, max_length=MAX_METADATA_KEYS, description="Your data; returned with the job."),
    ]
    custom_id: Annotated[
        str | None, StringConstraints(min_length=1, max_length=100), Printable, Field(description="Your name for it.")
    ] = None
    webhook: Annotated[
        WebhookRequest | None, Field(description="Sent at the job's end: signed, and repeated until you answer 2xx.")
    ] = None


class JobFields(JobOptions, Parameters):
    """The fields of a submit, all optional. Unknown fields are rejected."""

    engine: Annotated[
        str | None, Field(max_length=40, description="The engine that generates the asset; see GET /readyz.")
    ] = None

    def explicit(self) -> dict[str, Any]:
        """Return the parameters that the request sets."""
        return {name: getattr(self, name) for name in self.model_fields_set & Parameters.model_fields.keys()}


class JobRequest(JobFields):
    """A submit as JSON."""

    image: ImageSource


class JobForm(JobFields):
    """A submit as a form."""

    image: Annotated[
        Any,
        WithJsonSchema(
            {"type": "string", "contentMediaType": "application/octet-stream", "description": "PNG, JPEG or WebP."}
        ),
    ]


class ExportRequest(JobOptions, ExportParameters):
    """Options for a new export of a stored state; absent options keep their values."""

    def explicit(self) -> dict[str, Any]:
        """Return the parameters that the request sets."""
        return {name: getattr(self, name) for name in self.model_fields_set & ExportParameters.model_fields.keys()}


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    data: list[JobBody]
    next_cursor: NextCursor


class UploadRequest(RequestModel):
    """What will be uploaded; without a body, an image."""

    purpose: Annotated[
        Literal["image", "manifest", "images"],
        Field(
            description="`image`: for one job. `manifest`: a batch's catalog. `images`: a zip of images for a batch."
        ),
    ] = "image"


class UploadResponse(BaseModel):
    """An upload form: POST `fields`, then the file as `file`, to `url`."""

    upload_id: str
    url: str
    fields: dict[str, str]
    max_bytes: int
    expires_at: datetime


class DayOfUsage(BaseModel):
    """The usage of jobs that succeeded on one day (UTC) and had a cost."""

    day: date
    jobs: int
    gpu_seconds: float
    cost_usd: float


class UsageResponse(BaseModel):
    """Your usage by day, newest first; days without usage are absent."""

    data: list[DayOfUsage]
    next_cursor: None = None


class FieldError(BaseModel):
    """One invalid field."""

    pointer: Annotated[str, Field(description="JSON pointer (RFC 6901) of the field, or `/name` of a parameter.")]
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: Annotated[str, Field(description="Relative URL that explains `code`.")]
    title: str
    status: int
    detail: str
    code: Annotated[str, Field(description="Stable: match on this.")]
    errors: Annotated[list[FieldError], Field(default_factory=list)]
