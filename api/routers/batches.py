"""Batches: a catalog goes in, assets come out."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from api.context.dependencies import ReadAccess, RequestContext, WriteAccess
from api.http.responses import JSON
from api.requests.batch_request import read_batch_submission
from api.requests.job_request import parse_json
from api.results.zip_stream import stream_zip
from api.schemas.batches import BatchPage, BatchResponse, RetryRequest, RowPage, RowStatus, batch_response
from shared.domain import batch as transitions
from shared.domain.batch import Batch
from shared.errors import BatchNotFound
from shared.storage import keys

router = APIRouter(prefix="/v1/batches", tags=["batches"])

BatchId = Annotated[str, InPath(description="The batch's id.")]
MAX_PAGE = 100
SCANNED_ROWS = 10_000  # rows that one page may look at: a listing of their marks for each 250
POLL_S = 5
PART_BYTES = 65_536  # of a download, sent at once


@router.post("", status_code=202, response_model=BatchResponse)
async def create_batch(context: WriteAccess) -> Response:
    """Submit a catalog, as a form with the file `manifest`, or as JSON. It is planned first, and waits for a yes."""
    async with AsyncExitStack() as files:
        submission = await read_batch_submission(context, files)
        batch = await context.run(context.services.batch_submitter.submit, submission)
    await context.run(context.services.deps.batches_changed)
    return await _answer(context, batch, 202)


@router.get("", response_model=BatchPage)
async def list_batches(
    context: ReadAccess,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most so many.")] = 20,
    after: Annotated[
        str, Query(max_length=64, pattern=keys.BATCH_CURSOR, description="The `next_cursor` of the page before.")
    ] = "",
) -> Response:
    """List your batches, newest first."""

    def listed() -> bytes:
        found = list(islice(context.services.batches.of(context.caller, after=after), limit + 1))
        bodies = list(context.services.results.readers.map(lambda one: _body(context, one[1]), found[:limit]))
        cursor = found[limit - 1][0] if len(found) > limit else None
        return BatchPage(data=bodies, next_cursor=cursor).model_dump_json().encode()

    return Response(await context.run(listed), media_type=JSON)


@router.get("/{batch_id}", response_model=BatchResponse)
async def read_batch(context: ReadAccess, batch_id: BatchId) -> Response:
    """Read a batch: how its rows stand, what was found, what it has cost."""
    return await _answer(context, await context.run(_own, context, batch_id))


@router.get("/{batch_id}/items", response_model=RowPage)
async def list_rows(
    context: ReadAccess,
    batch_id: BatchId,
    status: Annotated[RowStatus | None, Query(description="Only rows that stand so.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most so many.")] = 20,
    after: Annotated[
        str, Query(max_length=6, pattern=r"^[0-9]{0,6}$", description="The `next_cursor` of the page before.")
    ] = "",
) -> Response:
    """List a batch's rows, in the catalog's order."""

    def listed() -> bytes:
        batch = _own(context, batch_id)
        first = int(after) + 1 if after else 0
        end = min(first + (limit if status is None else SCANNED_ROWS), batch.planned)
        found = list(
            islice(context.services.results.rows(batch, context.base_url, first=first, end=end, status=status), limit)
        )
        last = found[-1].row if len(found) == limit else end - 1
        cursor = str(last) if last + 1 < batch.planned else None
        return RowPage(data=found, next_cursor=cursor).model_dump_json().encode()

    return Response(await context.run(listed), media_type=JSON)


@router.get("/{batch_id}/results.jsonl", response_class=StreamingResponse)
async def read_results_jsonl(context: ReadAccess, batch_id: BatchId) -> Response:
    """Every row and what has come of it so far, one JSON object a line."""
    batch = await context.run(_own, context, batch_id)
    lines = context.services.results.as_jsonl(batch, context.base_url)
    return _download(context, lines, "application/jsonl", f"{batch_id}-results.jsonl")


@router.get("/{batch_id}/results.csv", response_class=StreamingResponse)
async def read_results_csv(context: ReadAccess, batch_id: BatchId) -> Response:
    """The catalog's own columns and what has come of each row so far."""
    batch = await context.run(_own, context, batch_id)
    return _download(
        context,
        context.services.results.as_csv(batch, context.base_url),
        "text/csv; charset=utf-8",
        f"{batch_id}-results.csv",
    )


@router.get("/{batch_id}/errors.csv", response_class=StreamingResponse)
async def read_errors_csv(context: ReadAccess, batch_id: BatchId) -> Response:
    """What is wrong with rows, or went wrong with them, with line and column of the catalog."""
    batch = await context.run(_own, context, batch_id)
    lines = context.services.results.errors_as_csv(batch, context.base_url)
    return _download(context, lines, "text/csv; charset=utf-8", f"{batch_id}-errors.csv")


@router.get("/{batch_id}/results.zip", response_class=StreamingResponse)
async def read_results_zip(context: ReadAccess, batch_id: BatchId) -> Response:
    """All finished files so far, named by the ids of their rows, with results.csv."""
    batch = await context.run(_own, context, batch_id)
    results = context.services.results
    parts = stream_zip(
        context.services.jobs, results.rows(batch, context.base_url), results.as_csv(batch, context.base_url)
    )
    return _download(context, parts, "application/zip", f"{batch_id}.zip")


@router.post("/{batch_id}/confirm", response_model=BatchResponse)
async def confirm_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Say yes to a planned batch: its rows begin to run."""
    return await _change(context, batch_id, lambda batch: transitions.confirm(batch, context.services.batches.now()))


@router.post("/{batch_id}/pause", response_model=BatchResponse)
async def pause_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Begin no further rows until it is resumed. Those that are jobs already go on."""
    return await _change(context, batch_id, transitions.pause)


@router.post("/{batch_id}/resume", response_model=BatchResponse)
async def resume_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Go on with a paused batch."""
    return await _change(context, batch_id, transitions.resume)


@router.post("/{batch_id}/cancel", response_model=BatchResponse)
async def cancel_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Cancel every row that has not ended. A batch that has ended stays as it is."""
    return await _change(context, batch_id, lambda batch: transitions.cancel(batch, context.services.batches.now()))


@router.post("/{batch_id}/retry", status_code=202, response_model=BatchResponse)
async def retry_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Run an ended batch's failed, canceled and skipped rows again, in new bounds if some are given."""
    request = parse_json(RetryRequest, await context.request.body() or b"{}")
    changes = request.model_dump(exclude_none=True)

    def retried(batch: Batch) -> dict[str, Any]:
        fields = transitions.retry(batch, context.services.batches.now(), batch.limits.model_copy(update=changes))
        context.services.batches.reopen(batch)
        return fields

    return await _change(context, batch_id, retried, 202)


def _own(context: RequestContext, batch_id: str) -> Batch:
    """A batch of this caller's. Raises BatchNotFound: there is none, or it is another caller's."""
    found = context.services.batches.find(batch_id) if keys.is_id(batch_id, "batch") else None
    if found is None or found.caller != context.caller:
        raise BatchNotFound("no such batch")
    return found


async def _change(
    context: RequestContext, batch_id: str, fields: Callable[[Batch], dict[str, Any] | None], status: int = 200
) -> Response:
    def change() -> Batch:
        own = _own(context, batch_id)
        return context.services.batches.change(own.id, fields) or own

    changed = await context.run(change)
    await context.run(context.services.deps.batches_changed)
    return await _answer(context, changed, status)


def _body(context: RequestContext, batch: Batch) -> BatchResponse:
    return batch_response(batch, context.services.row_statuses.counts(batch), context.base_url)


async def _answer(context: RequestContext, batch: Batch, status: int = 200) -> Response:
    body = await context.run(_body, context, batch)
    headers = {} if batch.status.is_terminal else {"Retry-After": str(POLL_S)}
    if status == 202:
        headers["Location"] = body.status_url
    return Response(body.model_dump_json(), status, headers, JSON)


def _download(context: RequestContext, parts: Iterator[bytes], media_type: str, filename: str) -> StreamingResponse:
    """An answer that is made while it is sent; `parts` are made in the gateway's threads."""

    async def sent() -> AsyncIterator[bytes]:
        while part := await context.run(_next_part, parts):
            yield part

    headers = {"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"}
    return StreamingResponse(sent(), media_type=media_type, headers=headers)


def _next_part(parts: Iterator[bytes]) -> bytes:
    part = bytearray()
    for piece in parts:
        part += piece
        if len(part) >= PART_BYTES:
            break
    return bytes(part)
