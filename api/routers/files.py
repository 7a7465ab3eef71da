"""Routes of files that bypass the gateway: signed forms for uploads, signed URLs of artifacts."""

import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Response
from fastapi import Path as InPath
from fastapi.responses import RedirectResponse

from api.context.dependencies import ReadAccess, WriteAccess
from api.http.responses import JSON
from api.openapi.examples import jobs as examples
from api.openapi.responses import AUTH_ERRORS, BODY_ERRORS, problems, request_docs, success
from api.requests.job_request import parse_json
from api.routers.jobs import JOB_ERRORS, JobId
from api.schemas.jobs import UploadRequest, UploadResponse
from shared import errors
from shared.domain.job import Artifact, Job
from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.errors import ArtifactNotFound
from shared.manifest.row import MAX_MANIFEST_BYTES
from shared.manifest.zip_format import MAX_ZIP_BYTES
from shared.storage import keys

router = APIRouter(prefix="/v1")

UPLOAD_TTL_S = 3_600
ARTIFACT_URL_TTL_S = 900
MAX_BYTES = {"image": MAX_IMAGE_BYTES, "manifest": MAX_MANIFEST_BYTES, "images": MAX_ZIP_BYTES}


@router.post(
    "/uploads",
    tags=["uploads"],
    status_code=201,
    response_model=UploadResponse,
    responses=success(
        201,
        "A form for one file.",
        examples.UPLOAD,
        links={
            "submit_job": {
                "operationId": "submit_job",
                "requestBody": {"image": {"upload_id": "$response.body#/upload_id"}},
                "description": "After the image was sent to `url`.",
            }
        },
    )
    | problems(*AUTH_ERRORS, *BODY_ERRORS),
    openapi_extra=request_docs({"application/json": (UploadRequest, examples.UPLOAD_REQUEST)}),
)
async def create_upload(context: WriteAccess) -> Response:
    """Get a form to upload one file; POST /v1/jobs and POST /v1/batches then accept its `upload_id`."""
    max_bytes = MAX_BYTES[parse_json(UploadRequest, await context.request.body() or b"{}").purpose]

    def sign() -> UploadResponse:
        store = context.services.store
        now = store.now()
        upload_id = keys.new_id("up", now)
        form = store.sign_post(keys.upload(context.caller, upload_id), max_bytes=max_bytes, expires_s=UPLOAD_TTL_S)
        return UploadResponse(
            upload_id=upload_id,
            url=context.absolute(form.url),
            fields=dict(form.fields),
            max_bytes=max_bytes,
            expires_at=now + timedelta(seconds=UPLOAD_TTL_S),
        )

    body = (await context.run(sign)).model_dump_json()
    return Response(body, 201, {"Cache-Control": "no-store"}, JSON)


@router.get(
    "/jobs/{job_id}/artifacts/{name}",
    tags=["jobs"],
    status_code=307,
    response_class=RedirectResponse,
    responses=success(307, "Redirect to the bytes.", examples.ARTIFACT_URL, headers=("Location",))
    | problems(*JOB_ERRORS, errors.ArtifactNotFound),
)
async def read_artifact(
    context: ReadAccess,
    job_id: JobId,
    name: Annotated[str, InPath(description="`model`, `usdz`, `meshopt`, `state` or `poster`.")],
) -> Response:
    """Redirect to the bytes of a result, by a signed URL that is valid for 15 minutes."""

    def sign() -> str:
        job = context.require_job(job_id).record
        artifact = job.artifacts.get(name)
        if artifact is None:
            raise ArtifactNotFound("the job has no such artifact, or does not have it yet")
        return context.services.store.sign_get(
            artifact.key, expires_s=ARTIFACT_URL_TTL_S, filename=_filename(job, artifact)
        )

    url = context.absolute(await context.run(sign))
    return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})


def _filename(job: Job, artifact: Artifact) -> str:
    """Return the file name that a browser saves: the caller's `custom_id` in portable characters, or the job's id."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", job.custom_id or "").strip("-") or job.id
    return stem + "".join(PurePosixPath(artifact.key).suffixes)
