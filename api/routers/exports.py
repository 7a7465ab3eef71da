"""Exports: a stored state extracted again, as a job of its own."""

from fastapi import APIRouter, Response

from api.context.dependencies import WriteAccess
from api.http.responses import JobResponse
from api.requests.job_request import export_of
from api.routers.jobs import JobId
from api.schemas.jobs import JobBody
from api.submission.submitter import Submission

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/{job_id}/exports", status_code=202, response_model=JobBody)
async def export_job(call: WriteAccess, job_id: JobId) -> Response:
    """Extract a succeeded job's stored state again with other options: a new job, without sampling."""

    def submit(wish: Submission) -> JobResponse:
        return call.view(call.services.submitter.submit(wish).record)

    source = await call.run(call.require_job, job_id)
    return (await call.run(submit, await export_of(call, source.record))).accepted()
