"""Exports: a stored state extracted again, as a job of its own."""

from fastapi import APIRouter, Response

from api.context.dependencies import WriteAccess
from api.http.responses import SerializedJob
from api.requests.job_request import read_export
from api.routers.jobs import JobId
from api.submission.submitter import Submission
from shared.domain.job_schema import JobBody

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/{job_id}/exports", status_code=202, response_model=JobBody)
async def export_job(context: WriteAccess, job_id: JobId) -> Response:
    """Extract a succeeded job's stored state again with other options: a new job, without sampling."""

    def submit(submission: Submission) -> SerializedJob:
        return context.serialize(context.services.submitter.submit(submission).record)

    source = await context.run(context.require_job, job_id)
    return (await context.run(submit, await read_export(context, source.record))).accepted()
