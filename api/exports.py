"""Exports: a stored state extracted again, as a job of its own."""

from fastapi import APIRouter, Request, Response

from api import answers
from api.auth import Writer
from api.bodies import JobBody
from api.deps import TheGateway
from api.intake import export_of
from api.jobs import JobId, own
from api.submit import Submission

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/{job_id}/exports", status_code=202, response_model=JobBody)
async def export_job(request: Request, gateway: TheGateway, caller: Writer, job_id: JobId) -> Response:
    """Extract a succeeded job's stored state again with other options: a new job, without sampling."""
    base = answers.base_url(request, gateway)
    source = await gateway.run(own, gateway, caller, job_id)
    wish = await export_of(request, caller, source.job)

    def submit(wish: Submission) -> answers.JobView:
        return answers.view(gateway.submitter.submit(wish).job, gateway, base)

    return (await gateway.run(submit, wish)).accepted(base)
