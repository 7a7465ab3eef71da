"""Jobs: submit, read, list, cancel, retry, delete."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath

from api.context.dependencies import ReadAccess, WriteAccess
from api.http.responses import JSON, SerializedJob, serialize_page
from api.requests.job_request import read_submission
from api.requests.long_poll import MAX_WAIT_S, preferred_wait_s, wait_for_end
from api.schemas.jobs import JobPage
from api.submission.image_sources import SentImage
from api.submission.submitter import Submission
from shared.domain.job import Job, Status
from shared.domain.job_schema import JobBody
from shared.errors import TransitionRefused
from shared.storage import keys
from shared.storage.versioned_records import Versioned

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, InPath(description="The job's id.")]
MAX_PAGE = 100


@router.post("", status_code=202, response_model=JobBody)
async def submit_job(context: WriteAccess) -> Response:
    """Submit a picture, as a form with `image` and fields, or as JSON. The answer means: it is stored, and will run."""

    def submit(submission: Submission) -> tuple[Versioned[Job], SerializedJob]:
        created = context.services.submitter.submit(submission)
        return created, context.serialize(created.record)

    async with AsyncExitStack() as files:
        submission = await read_submission(context, files)
        if isinstance(submission.source, SentImage):  # its bytes are still to be written: nobody should wait for those
            created, seen = await context.run(submit, submission)
        else:
            created, seen = await context.services.group_commits.run(partial(submit, submission))
    wait_s = preferred_wait_s(context.request)
    if wait_s is None:
        return seen.accepted()
    ended = await wait_for_end(context, created, wait_s=wait_s)
    seen = await context.run(context.serialize, ended.record)
    return seen.accepted(**{"Preference-Applied": f"wait={wait_s}"})


@router.get("", response_model=JobPage)
async def list_jobs(
    context: ReadAccess,
    status: Annotated[Status | None, Query(description="Only jobs in this status.")] = None,
    batch: Annotated[str | None, Query(max_length=64, description="Only jobs of this batch.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most so many.")] = 20,
    after: Annotated[
        str, Query(max_length=64, pattern=keys.CURSOR, description="The `next_cursor` of the page before.")
    ] = "",
) -> Response:
    """List your jobs, newest first."""

    def wanted(job: Job) -> bool:
        return (status is None or job.status is status) and (batch is None or job.batch_id == batch)

    def listed() -> bytes:
        found = context.services.jobs.list(context.caller, limit=limit, after=after, wanted=wanted)
        return serialize_page(found.jobs, found.next_cursor, context.services.estimates, context.base_url)

    return Response(await context.run(listed), media_type=JSON)


@router.get("/{job_id}", response_model=JobBody)
async def read_job(
    context: ReadAccess,
    job_id: JobId,
    wait: Annotated[
        int | None, Query(ge=0, le=MAX_WAIT_S, description="Answer when it ends, or after so long.")
    ] = None,
) -> Response:
    """Read a job. With `If-None-Match` an unchanged one costs hardly anything."""

    def read() -> tuple[Versioned[Job], SerializedJob]:
        found = context.require_job(job_id)
        return found, context.serialize(found.record)

    found, seen = await context.run(read)
    preferred_s = preferred_wait_s(context.request)
    wait_s = preferred_s if wait is None else wait
    if wait_s and not found.record.status.is_terminal:
        ended = await wait_for_end(context, found, wait_s=wait_s)
        seen = await context.run(context.serialize, ended.record)
    applied = {} if preferred_s is None else {"Preference-Applied": f"wait={wait_s}"}
    return seen.conditional(context.request, **applied)


@router.post("/{job_id}/cancel", response_model=JobBody)
async def cancel_job(context: WriteAccess, job_id: JobId) -> Response:
    """Cancel a job. One that has ended stays as it is, and is no error."""

    def cancel() -> SerializedJob:
        context.require_job(job_id)
        return context.serialize(context.services.jobs.cancel(job_id).record)

    return (await context.run(cancel)).ok()


@router.post("/{job_id}/retry", status_code=202, response_model=JobBody)
async def retry_job(context: WriteAccess, job_id: JobId) -> Response:
    """Run a failed, canceled or expired job again, under its id."""

    def retry() -> SerializedJob:
        if context.require_job(job_id).record.batch_id:
            raise TransitionRefused("a batch's jobs are retried with their batch")
        queued = context.services.jobs.retry(job_id).record
        context.services.submitter.enqueue(queued)
        return context.serialize(queued)

    return (await context.run(retry)).accepted()


@router.delete("/{job_id}", status_code=204)
async def delete_job(context: WriteAccess, job_id: JobId) -> Response:
    """Delete a job with its picture and its results, canceling it first if need be."""

    def delete() -> None:
        context.require_job(job_id)
        context.services.jobs.purge(job_id)

    await context.run(delete)
    return Response(status_code=204)
