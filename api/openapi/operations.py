"""What each route answers, beyond what its signature says: successes with examples, headers, and problems."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from api.openapi.error_codes import IMAGE_CODES
from api.openapi.examples import batches, jobs
from api.openapi.examples import webhooks as told
from api.schemas.batches import BatchPage, BatchResponse, RowPage
from api.schemas.jobs import JobPage, UploadResponse, UsageResponse
from api.schemas.webhooks import (
    DeliveryPage,
    DeliveryResponse,
    EndpointList,
    EndpointResponse,
    EndpointWithSecret,
    SecretResponse,
)
from shared.domain.job_schema import JobBody

_AUTH = ("unauthenticated", "scope_missing", "too_many_requests", "store_unavailable", "store_refused")
_FULL = ("too_many_jobs", "budget_spent")
_SUBMIT = (
    *_AUTH,
    *_FULL,
    "body_malformed",
    "body_too_large",
    "body_too_slow",
    "media_type_unsupported",
    "parameter_invalid",
    "format_unavailable",
    "url_unreachable",
    "upload_not_found",
    "idempotency_mismatch",
    *IMAGE_CODES,
)
_JOB = (*_AUTH, "job_not_found")
_BODY = ("body_malformed", "body_too_large", "body_too_slow", "parameter_invalid")
_BATCH = (*_AUTH, "batch_not_found")
_ENDPOINT = (*_AUTH, "endpoint_not_found")
_DELIVERY = (*_AUTH, "delivery_not_found")

HEADERS: dict[str, str] = {
    "Location": "Where to read it.",
    "Retry-After": "Seconds until it is worth asking again; only while the job is unfinished.",
    "ETag": "Give it as If-None-Match.",
    "Preference-Applied": "`wait=N`, where `Prefer: wait=N` was asked for.",
    "RateLimit": '`"requests";r=N;t=S`: N more may come at once; all of them again in S seconds. Not without a key.',
    "RateLimit-Policy": '`"requests";q=N;w=S`: N at once, and N in any S seconds in the long run.',
    "X-Request-Id": "Quote it to the operator.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One success. model: what the JSON is. example: of the body, or of Location where there is none."""

    status: int
    meaning: str
    example: Any = None
    model: type[BaseModel] | None = None
    media_type: str = "application/json"
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One route: its successes, its problems' codes, schema and example of each body, and the headers it heeds."""

    answers: tuple[Answer, ...]
    problems: tuple[str, ...] = ()
    bodies: dict[str, tuple[str, Any]] = field(default_factory=dict)
    heeds: tuple[str, ...] = ()


_ACCEPTED = Answer(202, "Stored; will run.", jobs.QUEUED_JOB, JobBody, headers=("Location", "Retry-After", "ETag"))
_AS_IT_STANDS = Answer(
    200, "The job as it stands.", jobs.SUCCEEDED_JOB, JobBody, headers=("ETag", "Retry-After", "Preference-Applied")
)


def _changed(meaning: str) -> Operation:
    answer = Answer(200, meaning, batches.RUNNING_BATCH, BatchResponse, headers=("Retry-After",))
    return Operation((answer,), (*_BATCH, "transition_refused"))


# By the name of the route's function.
OPERATIONS: dict[str, Operation] = {
    "create_upload": Operation(
        (Answer(201, "A form for one file.", jobs.UPLOAD, UploadResponse),),
        (*_AUTH, *_BODY),
        {"application/json": ("UploadRequest", jobs.UPLOAD_REQUEST)},
    ),
    "submit_job": Operation(
        (_ACCEPTED,),
        _SUBMIT,
        {
            "application/json": ("JobRequest", jobs.SUBMIT),
            "multipart/form-data": ("JobForm", jobs.SUBMIT_FORM),
        },
        ("Idempotency-Key", "Prefer", "traceparent"),
    ),
    "list_jobs": Operation(
        (Answer(200, "A page, newest first.", jobs.JOB_PAGE, JobPage),), (*_AUTH, "parameter_invalid")
    ),
    "read_job": Operation(
        (_AS_IT_STANDS, Answer(304, "As it was under If-None-Match.", headers=("ETag", "Retry-After"))),
        (*_JOB, "parameter_invalid"),
        heeds=("If-None-Match", "Prefer"),
    ),
    "cancel_job": Operation(
        (Answer(200, "The job, canceled or as it had ended.", jobs.CANCELED_JOB, JobBody, headers=("ETag",)),),
        _JOB,
    ),
    "retry_job": Operation((_ACCEPTED,), (*_JOB, "transition_refused")),
    "delete_job": Operation((Answer(204, "Gone."),), _JOB),
    "export_job": Operation(
        (_ACCEPTED,),
        (
            *_JOB, *_FULL, *_BODY, "format_unavailable", "transition_refused", "state_missing", "idempotency_mismatch",
            "url_unreachable",
        ),
        {"application/json": ("ExportRequest", jobs.EXPORT)},
        ("Idempotency-Key", "traceparent"),
    ),
    "read_artifact": Operation(
        (Answer(307, "The bytes are there.", jobs.ARTIFACT_URL, headers=("Location",)),),
        (*_JOB, "artifact_not_found"),
    ),
    "follow_job": Operation(
        (
            Answer(200, "Events until the job has ended.", jobs.EVENTS, media_type="text/event-stream"),
            Answer(204, "The end was seen already: do not come back."),
        ),
        _JOB,
    ),
    "create_batch": Operation(
        (Answer(202, "Stored; will be planned.", batches.NEW_BATCH, BatchResponse,
                headers=("Location", "Retry-After")),),
        (
            *_AUTH, *_BODY, "media_type_unsupported", "url_unreachable", "upload_not_found", "idempotency_mismatch",
        ),
        {
            "application/json": ("BatchRequest", batches.BATCH_REQUEST),
            "multipart/form-data": ("BatchForm", batches.BATCH_FORM),
        },
        ("Idempotency-Key",),
    ),
    "list_batches": Operation(
        (Answer(200, "A page, newest first.", batches.BATCHES, BatchPage),), (*_AUTH, "parameter_invalid")
    ),
    "read_batch": Operation(
        (Answer(200, "The batch as it stands.", batches.RUNNING_BATCH, BatchResponse, headers=("Retry-After",)),),
        _BATCH,
    ),
    "list_rows": Operation(
        (Answer(200, "A page, in the catalog's order.", batches.ROWS, RowPage),), (*_BATCH, "parameter_invalid")
    ),
    "read_results_jsonl": Operation(
        (Answer(200, "Row by row.", batches.RESULTS_JSONL, media_type="application/jsonl"),), _BATCH
    ),
    "read_results_csv": Operation((Answer(200, "Row by row.", batches.RESULTS_CSV, media_type="text/csv"),), _BATCH),
    "read_errors_csv": Operation((Answer(200, "Error by error.", batches.ERRORS_CSV, media_type="text/csv"),), _BATCH),
    "read_results_zip": Operation(
        (Answer(200, "File by file.", "(a zip)", media_type="application/zip"),), _BATCH
    ),
    "confirm_batch": _changed("The batch, running."),
    "pause_batch": _changed("The batch, paused."),
    "resume_batch": _changed("The batch, running."),
    "cancel_batch": _changed("The batch, on its way to its end, or as it had ended."),
    "retry_batch": Operation(
        (Answer(202, "Runs again.", batches.RUNNING_BATCH, BatchResponse, headers=("Location", "Retry-After")),),
        (*_BATCH, *_BODY, "transition_refused"),
        {"application/json": ("RetryRequest", batches.RETRY)},
    ),
    "list_endpoints": Operation((Answer(200, "All of them.", told.ENDPOINTS, EndpointList),), _AUTH),
    "create_endpoint": Operation(
        (Answer(201, "Registered.", told.NEW_ENDPOINT, EndpointWithSecret, headers=("Location",)),),
        (*_AUTH, *_BODY, "url_unreachable", "too_many_endpoints"),
        {"application/json": ("EndpointRequest", told.ENDPOINT_REQUEST)},
    ),
    "read_endpoint": Operation((Answer(200, "The endpoint.", told.ENDPOINT, EndpointResponse),), _ENDPOINT),
    "change_endpoint": Operation(
        (Answer(200, "The endpoint as it is now.", told.ENDPOINT, EndpointResponse),),
        (*_ENDPOINT, *_BODY, "url_unreachable"),
        {"application/json": ("EndpointChange", told.ENDPOINT_CHANGE)},
    ),
    "delete_endpoint": Operation((Answer(204, "Gone."),), _ENDPOINT),
    "rotate_secret": Operation((Answer(200, "The new secret.", told.SECRET, SecretResponse),), _ENDPOINT),
    "test_webhook": Operation((Answer(202, "Will be sent.", told.TEST_DELIVERY, DeliveryResponse),), _ENDPOINT),
    "list_deliveries": Operation(
        (Answer(200, "A page.", told.DELIVERIES, DeliveryPage),), (*_AUTH, "parameter_invalid")
    ),
    "read_delivery": Operation((Answer(200, "The delivery.", told.DELIVERY, DeliveryResponse),), _DELIVERY),
    "redeliver": Operation((Answer(202, "Will be sent.", told.TEST_DELIVERY, DeliveryResponse),), _DELIVERY),
    "read_usage": Operation(
        (Answer(200, "By day.", jobs.USAGE, UsageResponse),), (*_AUTH, "parameter_invalid")
    ),
    "read_health": Operation((Answer(200, "The process lives.", {"status": "alive"}),)),
    "read_readiness": Operation(
        (
            Answer(
                200,
                "Jobs can be accepted.",
                {"status": "ready", "engines": ["relief"], "formats": ["glb", "usdz", "meshopt"]},
            ),
        ),
        ("store_unavailable", "store_refused"),
    ),
}  # fmt: skip

REQUEST_HEADERS: dict[str, tuple[str, str]] = {
    "Idempotency-Key": (
        "The same key with the same payload gives the first answer again, for a day at least.",
        "order-1001",
    ),
    "Prefer": (
        "`wait=N` (RFC 7240): answer when the job has ended, after N seconds (60 at most) as it stands.",
        "wait=30",
    ),
    "If-None-Match": ("An ETag of an earlier answer.", '"5d41402abc4b2a76b9719d91"'),
    "traceparent": (
        "W3C trace context; stays with the job.",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
}
