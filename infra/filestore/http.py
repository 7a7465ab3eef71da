"""Serves the file store's signed URLs and takes its signed forms, as S3 does for its own."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.http.problem_details import error_response, problem_response
from infra.filestore.signing import FILES_PATH
from infra.filestore.staging import Draft
from infra.filestore.store import FileStore
from infra.filestore.upload_form import FormReader, Sink, boundary_of
from shared.errors import BodyMalformed, BodyTooLarge, ObjectNotFound, ServiceError, SignatureInvalid

# Never HTML or SVG: what a caller uploaded must not run as a page of ours.
CONTENT_TYPES = {
    ".csv": "text/csv",
    ".glb": "model/gltf-binary",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".png": "image/png",
    ".usdz": "model/vnd.usdz+zip",
    ".webp": "image/webp",
}


def files_router(store: FileStore) -> APIRouter:
    """Routes for `store.sign_get` and `store.sign_post`; how long an upload may take is the gateway's to say."""
    router = APIRouter(include_in_schema=False)

    @router.api_route(FILES_PATH + "/{key:path}", methods=["GET", "HEAD"])
    def read(key: str, request: Request) -> Response:
        try:
            return _read(store, key, request)
        except ServiceError as error:
            return _problem(error)

    @router.post(FILES_PATH)
    async def receive(request: Request) -> Response:
        try:
            etag = await _receive(store, request)
        except ServiceError as error:
            return _problem(error)
        return Response(status_code=204, headers={"ETag": f'"{etag}"'})

    return router


def _problem(error: ServiceError) -> Response:
    """As everywhere in the API; only here a missing object and a bad signature are the client's doing."""
    if isinstance(error, SignatureInvalid):
        return problem_response(403, "Not allowed", code=error.code, detail=str(error))
    if isinstance(error, ObjectNotFound):
        return problem_response(404, "Not found", code=error.code, detail="there is no such object")
    return error_response(error)


def _read(store: FileStore, key: str, request: Request) -> Response:
    query = dict(request.query_params)
    if not store.signer.allows_get(key, query, now=store.now()):
        raise SignatureInvalid("the URL is not signed by this service, or has expired")
    found = store.look(key)
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
            raise BodyMalformed(str(error)) from error
        if not form.is_complete:
            raise BodyMalformed("the form ends before its file does")
        return await run_in_threadpool(store.place, draft, signed["key"])


def _checked_fields(store: FileStore, fields: Mapping[str, str]) -> Mapping[str, str]:
    """The fields, if they are ours and nothing else: S3 refuses what its policy does not name, too."""
    known = {"key", "expires", "max_bytes", "signature"}
    if set(fields) != known or not store.signer.allows_post(fields, now=store.now()):
        raise SignatureInvalid("the form is not signed by this service, or has expired")
    return fields


def _bounded(draft: Draft, max_bytes: int) -> Sink:
    def write(chunk: bytes) -> None:
        if draft.size_bytes + len(chunk) > max_bytes:
            raise BodyTooLarge(f"the file is larger than {max_bytes} bytes")
        draft.write(chunk)

    return write
