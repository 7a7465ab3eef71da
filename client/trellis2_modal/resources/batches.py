"""The handle of one batch."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import httpx

from trellis2_modal._download import download
from trellis2_modal._http import Connection, Request, json_content
from trellis2_modal._sse import LineReader
from trellis2_modal._sync import SyncFacade, sync_iterator, sync_method
from trellis2_modal.errors import NotReachable, WaitTimedOut
from trellis2_modal.types.batch import Batch, BatchStatus, Row

POLL_S = 2.0
DOWNLOAD_TIMEOUT_S = 300.0


class AsyncBatchHandle:
    """One batch and its operations. `batch` is the latest snapshot; only the methods of this handle update it."""

    def __init__(self, connection: Connection, batch: Batch, *, clock: Callable[[], float]) -> None:
        self.batch = batch
        self._connection = connection
        self._clock = clock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @property
    def id(self) -> str:
        """The batch's id, for `client.get_batch`."""
        return self.batch.id

    @property
    def status(self) -> BatchStatus:
        """The status in the latest snapshot."""
        return self.batch.status

    async def refresh(self) -> Batch:
        """Fetch the batch's record."""
        return await self._update("GET")

    async def wait_until_planned(self, timeout_s: float | None = None) -> Batch:
        """Wait until all rows were validated, at most `timeout_s`."""
        async with aclosing(self.snapshots(timeout_s)) as snapshots:
            async for batch in snapshots:
                if batch.status is not BatchStatus.PLANNING:
                    break
        return self.batch

    async def wait(self, timeout_s: float | None = None) -> Batch:
        """Wait until the batch has ended in any status, at most `timeout_s`. It does not end before it is confirmed."""
        async for _ in self.snapshots(timeout_s):
            pass
        return self.batch

    async def snapshots(self, timeout_s: float | None = None) -> AsyncGenerator[Batch, None]:
        """Iterate over snapshots: the present one, then one every POLL_S seconds, until the batch has ended.

        Raises:
            WaitTimedOut: the batch has not ended after `timeout_s`.
        """
        ends_at = None if timeout_s is None else self._clock() + timeout_s
        while True:
            yield self.batch
            if self.status.is_terminal:
                return
            if ends_at is not None and self._clock() >= ends_at:
                raise WaitTimedOut(self.batch, timeout_s or 0.0)
            await self._connection.transport.pause(POLL_S)
            await self.refresh()

    async def confirm(self) -> Batch:
        """Confirm the plan: the rows start to run."""
        return await self._update("POST", "/confirm")

    async def pause(self) -> Batch:
        """Start no further rows."""
        return await self._update("POST", "/pause")

    async def resume(self) -> Batch:
        """Start rows again after `pause`."""
        return await self._update("POST", "/resume")

    async def cancel(self) -> Batch:
        """Cancel every row that has not ended."""
        return await self._update("POST", "/cancel")

    async def retry(self, *, max_cost_usd: float | None = None, max_failures: int | None = None) -> Batch:
        """Run the rows that did not succeed again, with new limits if given.

        Raises:
            Conflict: the batch has not ended, or no row is left to run.
        """
        limits = {"max_cost_usd": max_cost_usd, "max_failures": max_failures}
        content = json_content({name: value for name, value in limits.items() if value is not None})
        request = Request("POST", self._path("/retry"), content=content, repeatable=False)
        self.batch = await self._connection.fetch(request, Batch.from_json)
        return self.batch

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Iterate over all rows with their results so far, in the catalog's order.

        Raises:
            NotReachable: the connection broke off.
        """
        request = Request("GET", self._path("/results.jsonl"), read_timeout_s=DOWNLOAD_TIMEOUT_S)
        lines = LineReader()
        async with self._connection.stream(request) as response:
            try:
                async for chunk in self._connection.transport.iter_bytes(response):
                    for line in lines.feed(chunk):
                        yield Row.from_json(json.loads(line))
            except httpx.TransportError as error:
                raise NotReachable("the results broke off") from error

    async def save(self, name: str, path: Path) -> Path:
        """Save the present `results.csv`, `results.jsonl`, `errors.csv` or `results.zip`.

        Raises:
            NotReachable: the connection broke off; no file is left under `path`.
        """
        part = path.with_name(f".{path.name}.part")
        request = Request("GET", self._path(f"/{name}"), read_timeout_s=DOWNLOAD_TIMEOUT_S)
        try:
            with part.open("wb") as file:
                async with self._connection.stream(request) as response:
                    async for chunk in self._connection.transport.iter_bytes(response):
                        await self._connection.transport.run_blocking(partial(file.write, chunk))
            part.replace(path)
        except httpx.TransportError as error:
            raise NotReachable(f"the download of {path.name} broke off") from error
        finally:
            part.unlink(missing_ok=True)
        return path

    async def download(self, row: Row, name: str, path: Path) -> Path:
        """Save an artifact (`model`, `poster`, `usdz`) of a succeeded row and check its sha256."""
        await download(self._connection, f"v1/jobs/{row.job_id}/artifacts/{name}", row.artifacts[name], path)
        return path

    def _path(self, suffix: str = "") -> str:
        return f"v1/batches/{self.id}{suffix}"

    async def _update(self, method: str, suffix: str = "") -> Batch:
        self.batch = await self._connection.fetch(Request(method, self._path(suffix)), Batch.from_json)
        return self.batch


class BatchHandle(SyncFacade[AsyncBatchHandle]):
    """One batch and its operations. `batch` is the latest snapshot; only the methods of this handle update it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @property
    def batch(self) -> Batch:
        """The latest snapshot."""
        return self._async.batch

    @property
    def id(self) -> str:
        """The batch's id, for `client.get_batch`."""
        return self._async.id

    @property
    def status(self) -> BatchStatus:
        """The status in the latest snapshot."""
        return self._async.status

    refresh = sync_method(AsyncBatchHandle.refresh)
    wait_until_planned = sync_method(AsyncBatchHandle.wait_until_planned)
    wait = sync_method(AsyncBatchHandle.wait)
    snapshots = sync_iterator(AsyncBatchHandle.snapshots)
    confirm = sync_method(AsyncBatchHandle.confirm)
    pause = sync_method(AsyncBatchHandle.pause)
    resume = sync_method(AsyncBatchHandle.resume)
    cancel = sync_method(AsyncBatchHandle.cancel)
    retry = sync_method(AsyncBatchHandle.retry)
    rows = sync_iterator(AsyncBatchHandle.rows)
    save = sync_method(AsyncBatchHandle.save)
    download = sync_method(AsyncBatchHandle.download)
