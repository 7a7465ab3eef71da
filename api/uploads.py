"""Uploads: a signed form that takes a picture past the gateway into the store."""

from datetime import timedelta

from fastapi import APIRouter, Response

from api.answers import JSON
from api.bodies import UploadBody
from api.call import Writing
from shared import keys
from shared.contract import MAX_PICTURE_BYTES

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

SIGNED_S = 3_600


@router.post("", status_code=201, response_model=UploadBody)
async def create_upload(call: Writing) -> Response:
    """Get a form to send one picture with; its `upload_id` then stands for the picture in POST /v1/jobs."""

    def signed() -> UploadBody:
        store = call.gateway.store
        now = store.now()
        upload_id = keys.new_id("up", now)
        form = store.sign_post(keys.upload(call.caller, upload_id), max_bytes=MAX_PICTURE_BYTES, expires_s=SIGNED_S)
        return UploadBody(
            upload_id=upload_id,
            url=call.absolute(form.url),
            fields=dict(form.fields),
            max_bytes=MAX_PICTURE_BYTES,
            expires_at=now + timedelta(seconds=SIGNED_S),
        )

    body = (await call.run(signed)).model_dump_json()
    return Response(body, 201, {"Cache-Control": "no-store"}, JSON)
