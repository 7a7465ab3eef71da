"""Routes of batches: submit a catalog, confirm its plan, read rows and results."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from api.context.dependencies import ReadAccess, RequestContext, WriteAccess
from api.http.responses import JSON
from api.openapi.examples import batches as examples
from api.openapi.responses import (
    AUTH_ERRORS,
    BODY_ERRORS,
    Responses,
    links,
    next_page_link,
    problems,
    request_docs,
    success,
)
from api.requests.batch_request import read_batch_submission
from api.requests.job_request import parse_json
from api.results.zip_stream import stream_zip
from api.schemas.batches import (
    BatchForm,
    BatchPage,
    BatchRequest,
    BatchResponse,
    RetryRequest,
    RowPage,
    RowStatus,
    batch_response,
)
from shared import errors
from shared.domain import batch as transitions
from shared.domain.batch import Batch
from shared.errors import BatchNotFound
from shared.storage import keys

router = APIRouter(prefix="/v1/batches", tags=["batches"])

BatchId = Annotated[str, InPath(description="The batch's id.")]
MAX_PAGE = 100
SCANNED_ROWS = 10_000  # rows that one page may scan: a listing of their markers for each 250
POLL_S = 5
PART_BYTES = 65_536  # size of the parts of a download
BATCH_ERRORS = (*AUTH_ERRORS, errors.BatchNotFound)


def _changed(description: str) -> Responses:
    """Declare the responses of a route that changes a batch."""
    changed = success(200, description, examples.RUNNING_BATCH, headers=("Retry-After",))
    return changed | problems(*BATCH_ERRORS, errors.TransitionRefused)


def _report(media_type: str, description: str, example: str) -> Responses:
    """Declare the responses of a download."""
    return success(200, description, example, media_type=media_type) | problems(*BATCH_ERRORS)


def _require_batch(context: RequestContext, batch_id: str) -> Batch:
    """Return a batch of the caller; raise BatchNotFound if it does not exist or belongs to another caller."""
    batch = context.services.batches.find(batch_id) if keys.is_id(batch_id, "batch") else None
    if batch is None or batch.caller != context.caller:
        raise BatchNotFound("no such batch")
    return batch


async def _read_batch(context: ReadAccess, batch_id: BatchId) -> Batch:
    return await context.run(_require_batch, context, batch_id)


CallersBatch = Annotated[Batch, Depends(_read_batch)]


@router.post(
    "",
    status_code=202,
    response_model=BatchResponse,
    responses=success(
        202,
        "Stored; will be planned.",
        examples.NEW_BATCH,
        headers=("Location", "Retry-After"),
        links=links(
            "batch_id",
            "read_batch",
            "list_rows",
            "confirm_batch",
            "pause_batch",
            "resume_batch",
            "cancel_batch",
            "retry_batch",
        ),
    )
    | problems(
        *AUTH_ERRORS,
        *BODY_ERRORS,
        errors.MediaTypeUnsupported,
        errors.UrlUnreachable,
        errors.UploadNotFound,
        errors.IdempotencyMismatch,
    ),
    openapi_extra=request_docs(
        {
            "application/json": (BatchRequest, examples.BATCH_REQUEST),
            "multipart/form-data": (BatchForm, examples.BATCH_FORM),
        },
        required=True,
        headers=("Idempotency-Key",),
    ),
)
async def create_batch(context: WriteAccess) -> Response:
    """Submit a catalog, as a form with the file `manifest`, or as JSON. It is planned, then waits for confirmation."""
    async with AsyncExitStack() as files:
        submission = await read_batch_submission(context, files)
        batch = await context.run(context.services.batch_submitter.submit, submission)
    await context.run(context.services.deps.batches_changed)
    return await _answer(context, batch, 202)


@router.get(
    "",
    response_model=BatchPage,
    responses=success(200, "A page, newest first.", examples.BATCHES, links=next_page_link("list_batches"))
    | problems(*AUTH_ERRORS, errors.ParameterInvalid),
)
async def list_batches(
    context: ReadAccess,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Maximum number of batches.")] = 20,
    after: Annotated[
        str, Query(max_length=64, pattern=keys.BATCH_CURSOR, description="The `next_cursor` of the previous page.")
    ] = "",
) -> Response:
    """List your batches, newest first."""

    def read_page() -> bytes:
        entries = list(islice(context.services.batches.of(context.caller, after=after), limit + 1))
        batches = [batch for _, batch in entries[:limit]]
        bodies = list(context.services.results.readers.map(lambda batch: _body(context, batch), batches))
        cursor = entries[limit - 1][0] if len(entries) > limit else None
        return BatchPage(data=bodies, next_cursor=cursor).model_dump_json().encode()

    return Response(await context.run(read_page), media_type=JSON)


@router.get(
    "/{batch_id}",
    response_model=BatchResponse,
    responses=success(200, "The current state of the batch.", examples.RUNNING_BATCH, headers=("Retry-After",))
    | problems(*BATCH_ERRORS),
)
async def read_batch(context: ReadAccess, batch: CallersBatch) -> Response:
    """Read a batch: its plan, how many rows have each status, its cost."""
    return await _answer(context, batch)


@router.get(
    "/{batch_id}/items",
    response_model=RowPage,
    responses=success(200, "A page, in the catalog's order.", examples.ROWS)
    | problems(*BATCH_ERRORS, errors.ParameterInvalid),
)
async def list_rows(
    context: ReadAccess,
    batch_id: BatchId,
    status: Annotated[RowStatus | None, Query(description="Only rows in this status.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Maximum number of rows.")] = 20,
    after: Annotated[
        str, Query(max_length=6, pattern=r"^[0-9]{0,6}$", description="The `next_cursor` of the previous page.")
    ] = "",
) -> Response:
    """List a batch's rows, in the catalog's order."""

    def read_page() -> bytes:
        batch = _require_batch(context, batch_id)
        first = int(after) + 1 if after else 0
        end = min(first + (limit if status is None else SCANNED_ROWS), batch.planned)
        rows = list(
            islice(context.services.results.rows(batch, context.base_url, first=first, end=end, status=status), limit)
        )
        last = rows[-1].row if len(rows) == limit else end - 1
        cursor = str(last) if last + 1 < batch.planned else None
        return RowPage(data=rows, next_cursor=cursor).model_dump_json().encode()

    return Response(await context.run(read_page), media_type=JSON)


@router.get(
    "/{batch_id}/results.jsonl",
    response_class=StreamingResponse,
    responses=_report("application/jsonl", "Row by row.", examples.RESULTS_JSONL),
)
async def read_results_jsonl(context: ReadAccess, batch: CallersBatch) -> Response:
    """Download every row with its result so far, one JSON object per line."""
    lines = context.services.results.as_jsonl(batch, context.base_url)
    return _download(context, lines, "application/jsonl", f"{batch.id}-results.jsonl")


@router.get(
    "/{batch_id}/results.csv",
    response_class=StreamingResponse,
    responses=_report("text/csv", "Row by row.", examples.RESULTS_CSV),
)
async def read_results_csv(context: ReadAccess, batch: CallersBatch) -> Response:
    """Download the catalog's own columns with each row's result so far."""
    lines = context.services.results.as_csv(batch, context.base_url)
    return _download(context, lines, "text/csv; charset=utf-8", f"{batch.id}-results.csv")


@router.get(
    "/{batch_id}/errors.csv",
    response_class=StreamingResponse,
    responses=_report("text/csv", "Error by error.", examples.ERRORS_CSV),
)
async def read_errors_csv(context: ReadAccess, batch: CallersBatch) -> Response:
    """Download the errors of rows, with line and column of the catalog."""
    lines = context.services.results.errors_as_csv(batch, context.base_url)
    return _download(context, lines, "text/csv; charset=utf-8", f"{batch.id}-errors.csv")


@router.get(
    "/{batch_id}/results.zip",
    response_class=StreamingResponse,
    responses=_report("application/zip", "File by file.", "(a zip)"),
)
async def read_results_zip(context: ReadAccess, batch: CallersBatch) -> Response:
    """Download all finished files so far, named by the ids of their rows, with results.csv."""
    results = context.services.results
    parts = stream_zip(
        context.services.jobs, results.rows(batch, context.base_url), results.as_csv(batch, context.base_url)
    )
    return _download(context, parts, "application/zip", f"{batch.id}.zip")


@router.post("/{batch_id}/confirm", response_model=BatchResponse, responses=_changed("The batch, running."))
async def confirm_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Confirm a planned batch: its rows start to run."""
    return await _change(context, batch_id, lambda batch: transitions.confirm(batch, context.services.batches.now()))


@router.post("/{batch_id}/pause", response_model=BatchResponse, responses=_changed("The batch, paused."))
async def pause_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Start no more rows until the batch is resumed. Rows that are already jobs continue."""
    return await _change(context, batch_id, transitions.pause)


@router.post("/{batch_id}/resume", response_model=BatchResponse, responses=_changed("The batch, running."))
async def resume_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Continue a paused batch."""
    return await _change(context, batch_id, transitions.resume)


@router.post(
    "/{batch_id}/cancel",
    response_model=BatchResponse,
    responses=_changed("The batch: being canceled, or ended before."),
)
async def cancel_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Cancel every row that has not ended. A batch that has ended stays unchanged."""
    return await _change(context, batch_id, lambda batch: transitions.cancel(batch, context.services.batches.now()))


@router.post(
    "/{batch_id}/retry",
    status_code=202,
    response_model=BatchResponse,
    responses=success(202, "Runs again.", examples.RUNNING_BATCH, headers=("Location", "Retry-After"))
    | problems(*BATCH_ERRORS, *BODY_ERRORS, errors.TransitionRefused),
    openapi_extra=request_docs({"application/json": (RetryRequest, examples.RETRY)}),
)
async def retry_batch(context: WriteAccess, batch_id: BatchId) -> Response:
    """Run an ended batch's failed, canceled and skipped rows again, optionally with new limits."""
    request = parse_json(RetryRequest, await context.request.body() or b"{}")
    changes = request.model_dump(exclude_none=True)

    def reopen(batch: Batch) -> dict[str, Any]:
        fields = transitions.retry(batch, context.services.batches.now(), batch.limits.model_copy(update=changes))
        context.services.batches.reopen(batch)
        return fields

    return await _change(context, batch_id, reopen, 202)


async def _change(
    context: RequestContext, batch_id: str, fields: Callable[[Batch], dict[str, Any] | None], status: int = 200
) -> Response:
    def change() -> Batch:
        batch = _require_batch(context, batch_id)
        return context.services.batches.change(batch.id, fields) or batch

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
    """Stream a body while it is generated; `parts` runs in the gateway's threads."""

    async def stream() -> AsyncIterator[bytes]:
        while part := await context.run(_next_part, parts):
            yield part

    headers = {"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"}
    return StreamingResponse(stream(), media_type=media_type, headers=headers)


def _next_part(parts: Iterator[bytes]) -> bytes:
    part = bytearray()
    for piece in parts:
        part += piece
        if len(part) >= PART_BYTES:
            break
    return bytes(part)
