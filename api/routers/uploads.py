"""Uploads: a signed form that takes a file past the gateway into the store."""

from datetime import timedelta

from fastapi import APIRouter, Response

from api.context.dependencies import WriteAccess
from api.http.responses import JSON
from api.requests.job_request import parse_json
from api.schemas.jobs import UploadRequest, UploadResponse
from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.manifest.row import MAX_MANIFEST_BYTES
from shared.manifest.zip_format import MAX_ZIP_BYTES
from shared.storage import keys

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

SIGNED_S = 3_600
MAX_BYTES = {"image": MAX_IMAGE_BYTES, "manifest": MAX_MANIFEST_BYTES, "images": MAX_ZIP_BYTES}


@router.post("", status_code=201, response_model=UploadResponse)
async def create_upload(context: WriteAccess) -> Response:
    """Get a form to send one file with; its `upload_id` then stands for it in POST /v1/jobs or POST /v1/batches."""
    max_bytes = MAX_BYTES[parse_json(UploadRequest, await context.request.body() or b"{}").purpose]

    def signed() -> UploadResponse:
        store = context.services.store
        now = store.now()
        upload_id = keys.new_id("up", now)
        form = store.sign_post(keys.upload(context.caller, upload_id), max_bytes=max_bytes, expires_s=SIGNED_S)
        return UploadResponse(
            upload_id=upload_id,
            url=context.absolute(form.url),
            fields=dict(form.fields),
            max_bytes=max_bytes,
            expires_at=now + timedelta(seconds=SIGNED_S),
        )

    body = (await context.run(signed)).model_dump_json()
    return Response(body, 201, {"Cache-Control": "no-store"}, JSON)
