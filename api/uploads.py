"""Uploads: a signed form that takes a picture past the gateway into the store."""

from datetime import timedelta

from fastapi import APIRouter, Request, Response

from api import answers
from api.auth import Writer
from api.bodies import UploadBody
from api.deps import TheGateway
from shared import keys
from shared.contract import MAX_PICTURE_BYTES

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

SIGNED_S = 3_600


@router.post("", status_code=201, response_model=UploadBody)
async def create_upload(request: Request, gateway: TheGateway, caller: Writer) -> Response:
    """Get a form to send one picture with; its `upload_id` then stands for the picture in POST /v1/jobs."""

    def signed() -> UploadBody:
        now = gateway.store.now()
        upload_id = keys.new_id("up", now)
        form = gateway.store.sign_post(
            keys.upload(caller.name, upload_id), max_bytes=MAX_PICTURE_BYTES, expires_s=SIGNED_S
        )
        return UploadBody(
            upload_id=upload_id,
            url=answers.absolute(answers.base_url(request, gateway), form.url),
            fields=dict(form.fields),
            max_bytes=MAX_PICTURE_BYTES,
            expires_at=now + timedelta(seconds=SIGNED_S),
        )

    body = (await gateway.run(signed)).model_dump_json()
    return Response(body, 201, {"Cache-Control": "no-store"}, answers.JSON)
