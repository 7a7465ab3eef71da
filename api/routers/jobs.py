"""Routes of jobs: submit, read, list, cancel, retry, export, delete."""

import re
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

from api.context.dependencies import ReadAccess, RequestContext, WriteAccess
from api.http.responses import JSON, SerializedJob, serialize_page
from api.openapi.examples import jobs as examples
from api.openapi.responses import (
    AUTH_ERRORS,
    BODY_ERRORS,
    QUOTA_ERRORS,
    RESPONSE_ID,
    links,
    next_page_link,
    problems,
    request_docs,
    success,
)
from api.requests.job_request import read_export, read_submission
from api.schemas.jobs import ExportRequest, JobForm, JobPage, JobRequest
from api.submission.image_sources import SentImage
from api.submission.submitter import Submission
from shared import errors
from shared.domain.job import Job, Status
from shared.domain.job_schema import JobBody
from shared.errors import TransitionRefused
from shared.storage import keys
from shared.storage.versioned_records import Versioned

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, InPath(description="The job's id.")]
JOB_ERRORS = (*AUTH_ERRORS, errors.JobNotFound)
MAX_PAGE = 100
MAX_WAIT_S = 60
MIN_POLL_S = 0.2
MAX_POLL_S = 1.0
POLL_GROWTH = 1.5
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", re.IGNORECASE)
_ACCEPTED = partial(success, 202, "Stored; will run.", examples.QUEUED_JOB, headers=("Location", "Retry-After", "ETag"))
_SUBMIT_LINKS = {
    **links("job_id", "read_job", "follow_job", "cancel_job", "retry_job", "export_job", "delete_job"),
    "list_deliveries": {"operationId": "list_deliveries", "parameters": {"job": RESPONSE_ID}},
    "read_artifact": {"operationId": "read_artifact", "parameters": {"job_id": RESPONSE_ID, "name": "model"}},
}


@router.post(
    "",
    status_code=202,
    response_model=JobBody,
    responses=_ACCEPTED(links=_SUBMIT_LINKS)
    | problems(
        *AUTH_ERRORS,
        *QUOTA_ERRORS,
        *BODY_ERRORS,
        errors.MediaTypeUnsupported,
        errors.FormatUnavailable,
        errors.UrlUnreachable,
        errors.UploadNotFound,
        errors.IdempotencyMismatch,
        errors.ImageRejected,
    ),
    openapi_extra=request_docs(
        {"application/json": (JobRequest, examples.SUBMIT), "multipart/form-data": (JobForm, examples.SUBMIT_FORM)},
        required=True,
        headers=("Idempotency-Key", "Prefer", "traceparent"),
    ),
)
async def submit_job(context: WriteAccess) -> Response:
    """Submit an image, as a form with `image` and fields, or as JSON. The answer means: it is stored, and will run."""

    def submit(submission: Submission) -> tuple[Versioned[Job], SerializedJob]:
        created = context.services.submitter.submit(submission)
        return created, context.serialize(created.record)

    async with AsyncExitStack() as files:
        submission = await read_submission(context, files)
        if isinstance(submission.source, SentImage):  # writing an image takes long: other submits must not wait for it
            created, serialized = await context.run(submit, submission)
        else:
            created, serialized = await context.services.group_commits.run(partial(submit, submission))
    wait_s = _preferred_wait_s(context.request)
    if wait_s is None:
        return serialized.accepted()
    ended = await _wait_for_end(context, created, wait_s=wait_s)
    serialized = await context.run(context.serialize, ended.record)
    return serialized.accepted(**{"Preference-Applied": f"wait={wait_s}"})


@router.get(
    "",
    response_model=JobPage,
    responses=success(200, "A page, newest first.", examples.JOB_PAGE, links=next_page_link("list_jobs"))
    | problems(*AUTH_ERRORS, errors.ParameterInvalid),
)
async def list_jobs(
    context: ReadAccess,
    status: Annotated[Status | None, Query(description="Only jobs in this status.")] = None,
    batch: Annotated[str | None, Query(max_length=64, description="Only jobs of this batch.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Maximum number of jobs.")] = 20,
    after: Annotated[
        str, Query(max_length=64, pattern=keys.CURSOR, description="The `next_cursor` of the previous page.")
    ] = "",
) -> Response:
    """List your jobs, newest first."""

    def matches(job: Job) -> bool:
        return (status is None or job.status is status) and (batch is None or job.batch_id == batch)

    def read_page() -> bytes:
        page = context.services.jobs.list(context.caller, limit=limit, after=after, matches=matches)
        return serialize_page(page.jobs, page.next_cursor, context.services.estimates, context.base_url)

    return Response(await context.run(read_page), media_type=JSON)


@router.get(
    "/{job_id}",
    response_model=JobBody,
    responses=success(
        200,
        "The current state of the job.",
        examples.SUCCEEDED_JOB,
        headers=("ETag", "Retry-After", "Preference-Applied"),
    )
    | success(304, "Unchanged since the ETag in If-None-Match.", headers=("ETag", "Retry-After"))
    | problems(*JOB_ERRORS, errors.ParameterInvalid),
    openapi_extra=request_docs(headers=("If-None-Match", "Prefer")),
)
async def read_job(
    context: ReadAccess,
    job_id: JobId,
    wait: Annotated[
        int | None, Query(ge=0, le=MAX_WAIT_S, description="Answer when the job ends, or after this many seconds.")
    ] = None,
) -> Response:
    """Read a job. With `If-None-Match` an unchanged job costs almost nothing."""

    def read() -> tuple[Versioned[Job], SerializedJob]:
        versioned = context.require_job(job_id)
        return versioned, context.serialize(versioned.record)

    current, serialized = await context.run(read)
    preferred_s = _preferred_wait_s(context.request)
    wait_s = preferred_s if wait is None else wait
    if wait_s and not current.record.status.is_terminal:
        ended = await _wait_for_end(context, current, wait_s=wait_s)
        serialized = await context.run(context.serialize, ended.record)
    applied = {} if preferred_s is None else {"Preference-Applied": f"wait={wait_s}"}
    return serialized.conditional(context.request, **applied)


@router.post(
    "/{job_id}/cancel",
    response_model=JobBody,
    responses=success(
        200,
        "The job: canceled, or ended before.",
        examples.CANCELED_JOB,
        headers=("ETag",),
        links=links("job_id", "retry_job", "delete_job"),
    )
    | problems(*JOB_ERRORS),
)
async def cancel_job(context: WriteAccess, job_id: JobId) -> Response:
    """Cancel a job. A job that has ended stays unchanged; that is not an error."""

    def cancel() -> SerializedJob:
        context.require_job(job_id)
        return context.serialize(context.services.jobs.cancel(job_id).record)

    return (await context.run(cancel)).ok()


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=JobBody,
    responses=_ACCEPTED(links=links("job_id", "read_job", "cancel_job"))
    | problems(*JOB_ERRORS, errors.TransitionRefused),
)
async def retry_job(context: WriteAccess, job_id: JobId) -> Response:
    """Run a failed, canceled or expired job again, under the same id."""

    def retry() -> SerializedJob:
        if context.require_job(job_id).record.batch_id:
            raise TransitionRefused("a batch's jobs are retried with their batch")
        queued = context.services.jobs.retry(job_id).record
        context.services.submitter.enqueue(queued)
        return context.serialize(queued)

    return (await context.run(retry)).accepted()


@router.post(
    "/{job_id}/exports",
    status_code=202,
    response_model=JobBody,
    responses=_ACCEPTED(links=links("job_id", "read_job", "cancel_job"))
    | problems(
        *JOB_ERRORS,
        *QUOTA_ERRORS,
        *BODY_ERRORS,
        errors.FormatUnavailable,
        errors.TransitionRefused,
        errors.StateMissing,
        errors.IdempotencyMismatch,
        errors.UrlUnreachable,
    ),
    openapi_extra=request_docs(
        {"application/json": (ExportRequest, examples.EXPORT)}, headers=("Idempotency-Key", "traceparent")
    ),
)
async def export_job(context: WriteAccess, job_id: JobId) -> Response:
    """Extract a succeeded job's stored state again with other options: a new job, without sampling."""

    def submit(submission: Submission) -> SerializedJob:
        return context.serialize(context.services.submitter.submit(submission).record)

    source = await context.run(context.require_job, job_id)
    return (await context.run(submit, await read_export(context, source.record))).accepted()


@router.delete("/{job_id}", status_code=204, responses=success(204, "Deleted.") | problems(*JOB_ERRORS))
async def delete_job(context: WriteAccess, job_id: JobId) -> Response:
    """Delete a job with its image and its results; cancel it first if it runs."""

    def delete() -> None:
        context.require_job(job_id)
        context.services.jobs.purge(job_id)

    await context.run(delete)
    return Response(status_code=204)


def _preferred_wait_s(request: Request) -> int | None:
    """Return N of `Prefer: wait=N` (RFC 7240, 4.3), at most MAX_WAIT_S; None without that preference."""
    match = _WAIT.search(request.headers.get("prefer", ""))
    return min(int(match[1]), MAX_WAIT_S) if match else None


async def _wait_for_end(context: RequestContext, first: Versioned[Job], *, wait_s: float) -> Versioned[Job]:
    """Poll a job until it ends; return its last state after `wait_s` at the latest.

    Raises:
        JobNotFound: it was deleted meanwhile.
    """
    deps = context.services.deps
    deadline = deps.monotonic() + wait_s
    current, pause_s = first, MIN_POLL_S
    while not current.record.status.is_terminal and (left_s := deadline - deps.monotonic()) > 0:
        await deps.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * POLL_GROWTH, MAX_POLL_S)
        current = await context.run(context.require_job, first.record.id)
    return current
