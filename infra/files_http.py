"""Serves the file store's signed URLs and takes its signed forms, as S3 does for its own."""

import asyncio
from collections.abc import Mapping
from pathlib import PurePosixPath

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from infra.files import FileStore
from infra.files_draft import Draft
from infra.files_form import FormReader, Sink, boundary_of
from infra.files_signing import FILES_PATH
from shared.errors import ObjectNotFound

UPLOAD_TIMEOUT_S = 300.0
# Never HTML or SVG: what a caller uploaded must not run as a page of ours.
CONTENT_TYPES = {
    ".csv": "text/csv",
    ".glb": "model/gltf-binary",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".png": "image/png",
    ".webp": "image/webp",
}


class _Refusal(Exception):
    """An answer that is a problem."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code

    def response(self) -> Response:
        """As RFC 9457 has it. The connection ends: nobody reads what is left of a refused upload."""
        body = {
            "type": "about:blank",
            "title": self.code,
            "status": self.status,
            "detail": str(self),
            "code": self.code,
        }
        return JSONResponse(body, self.status, {"Connection": "close"}, media_type="application/problem+json")


def files_router(store: FileStore, *, upload_timeout_s: float = UPLOAD_TIMEOUT_S) -> APIRouter:
    """Routes for `store.sign_get` and `store.sign_post`; an upload may take `upload_timeout_s` in all."""
    router = APIRouter(include_in_schema=False)

    @router.api_route(FILES_PATH + "/{key:path}", methods=["GET", "HEAD"])
    def read(key: str, request: Request) -> Response:
        try:
            return _read(store, key, request)
        except _Refusal as refusal:
            return refusal.response()

    @router.post(FILES_PATH)
    async def receive(request: Request) -> Response:
        try:
            async with asyncio.timeout(upload_timeout_s):
                etag = await _receive(store, request)
        except TimeoutError:
            return _Refusal(408, "upload_too_slow", f"not complete within {upload_timeout_s:g} s").response()
        except _Refusal as refusal:
            return refusal.response()
        return Response(status_code=204, headers={"ETag": f'"{etag}"'})

    return router


def _read(store: FileStore, key: str, request: Request) -> Response:
    query = dict(request.query_params)
    if not store.signer.allows_get(key, query, now=store.now()):
        raise _Refusal(403, "signature_invalid", "the URL is not signed by this service, or has expired")
    try:
        found = store.look(key)
    except ObjectNotFound as error:
        raise _Refusal(404, "object_not_found", "there is no such object") from error
    headers = {
        "ETag": f'"{found.etag}"',
        "Cache-Control": f"private, max-age={int(query['expires']) - int(store.now().timestamp())}, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    if _is_known(found.etag, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return FileResponse(
        found.path,
        headers=headers,
        media_type=CONTENT_TYPES.get(PurePosixPath(key).suffix, "application/octet-stream"),
        filename=query.get("filename") or None,
        stat_result=found.status,
    )


def _is_known(etag: str, if_none_match: str) -> bool:
    known = [tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(",")]
    return etag in known or known == ["*"]


async def _receive(store: FileStore, request: Request) -> str:
    """Stream a form to the disk, one chunk in memory at a time; return the object's ETag."""
    with store.draft() as draft:
        signed: dict[str, str] = {}

        def begin(fields: Mapping[str, str]) -> Sink:
            signed.update(_checked_fields(store, fields))
            return _bounded(draft, int(signed["max_bytes"]))

        try:
            form = FormReader(boundary_of(request.headers.get("content-type", "")), begin)
            async for chunk in request.stream():
                await run_in_threadpool(form.feed, chunk)
        except (ValueError, ClientDisconnect) as error:
            raise _Refusal(400, "form_invalid", str(error)) from error
        if not form.is_complete:
            raise _Refusal(400, "form_invalid", "the form ends before its file does")
        return await run_in_threadpool(store.place, draft, signed["key"])


def _checked_fields(store: FileStore, fields: Mapping[str, str]) -> Mapping[str, str]:
    """The fields, if they are ours and nothing else: S3 refuses what its policy does not name, too."""
    known = {"key", "expires", "max_bytes", "signature"}
    if set(fields) != known or not store.signer.allows_post(fields, now=store.now()):
        raise _Refusal(403, "signature_invalid", "the form is not signed by this service, or has expired")
    return fields


def _bounded(draft: Draft, max_bytes: int) -> Sink:
    def write(chunk: bytes) -> None:
        if draft.size_bytes + len(chunk) > max_bytes:
            raise _Refusal(413, "upload_too_large", f"the file is larger than {max_bytes} bytes")
        draft.write(chunk)

    return write
