"""A batch in hand."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial as bound
from pathlib import Path

import httpx

from trellis2_modal._download import download
from trellis2_modal._http import Connection, Request, json_content
from trellis2_modal._sse import LineReader
from trellis2_modal._sync import SyncFacade, blocking, iterating
from trellis2_modal.errors import NotReachable, WaitTimedOut
from trellis2_modal.types.batch import Batch, BatchStatus, Row

POLL_S = 2.0
DOWNLOAD_TIMEOUT_S = 300.0


class AsyncBatchHandle:
    """One batch and what can be done with it. `batch` is the latest snapshot; only the methods here renew it."""

    def __init__(self, connection: Connection, batch: Batch, *, clock: Callable[[], float]) -> None:
        self.batch = batch
        self._connection = connection
        self._clock = clock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @property
    def id(self) -> str:
        """The batch's id; `client.get_batch` takes it."""
        return self.batch.id

    @property
    def status(self) -> BatchStatus:
        """Where the batch stood at the latest snapshot."""
        return self.batch.status

    async def refresh(self) -> Batch:
        """Ask how the batch stands now."""
        return await self._took(Request("GET", self._path()))

    async def wait_until_planned(self, timeout_s: float | None = None) -> Batch:
        """Wait until its rows were looked at, `timeout_s` at most."""
        async with aclosing(self.snapshots(timeout_s)) as snapshots:
            async for batch in snapshots:
                if batch.status is not BatchStatus.PLANNING:
                    break
        return self.batch

    async def wait(self, timeout_s: float | None = None) -> Batch:
        """Wait until the batch has ended, however; `timeout_s` at most. A batch that needs a yes does not end."""
        async for _ in self.snapshots(timeout_s):
            pass
        return self.batch

    async def snapshots(self, timeout_s: float | None = None) -> AsyncGenerator[Batch, None]:
        """The present snapshot, then one every POLL_S seconds, until the batch has ended.

        Raises:
            WaitTimedOut: it goes on after `timeout_s`.
        """
        ends_at = None if timeout_s is None else self._clock() + timeout_s
        while True:
            yield self.batch
            if self.status.is_terminal:
                return
            if ends_at is not None and self._clock() >= ends_at:
                raise WaitTimedOut(self.batch, timeout_s or 0.0)
            await self._connection.wire.pause(POLL_S)
            await self.refresh()

    async def confirm(self) -> Batch:
        """Say yes: its rows begin to run."""
        return await self._took(Request("POST", self._path("/confirm")))

    async def pause(self) -> Batch:
        """Begin no further rows."""
        return await self._took(Request("POST", self._path("/pause")))

    async def resume(self) -> Batch:
        """Go on."""
        return await self._took(Request("POST", self._path("/resume")))

    async def cancel(self) -> Batch:
        """Cancel every row that has not ended."""
        return await self._took(Request("POST", self._path("/cancel")))

    async def retry(self, *, max_cost_usd: float | None = None, max_failures: int | None = None) -> Batch:
        """Run what did not succeed again, in new bounds if some are given.

        Raises:
            Conflict: the batch has not ended, or nothing is left to run.
        """
        bounds = {"max_cost_usd": max_cost_usd, "max_failures": max_failures}
        content = json_content({name: value for name, value in bounds.items() if value is not None})
        return await self._took(Request("POST", self._path("/retry"), content=content, repeatable=False))

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Every row, in the catalog's order, and what has come of it so far.

        Raises:
            NotReachable: the answer broke off.
        """
        call = Request("GET", self._path("/results.jsonl"), read_timeout_s=DOWNLOAD_TIMEOUT_S)
        lines = LineReader()
        async with self._connection.stream(call) as answer:
            try:
                async for chunk in answer.chunks:
                    for line in lines.feed(chunk):
                        yield Row.from_wire(json.loads(line))
            except httpx.TransportError as error:
                raise NotReachable("the results broke off") from error

    async def save(self, name: str, path: Path) -> Path:
        """Save `results.csv`, `results.jsonl`, `errors.csv` or `results.zip` as it is now.

        Raises:
            NotReachable: the answer broke off; nothing is left under `path`.
        """
        partial = path.with_name(f".{path.name}.part")
        call = Request("GET", self._path(f"/{name}"), read_timeout_s=DOWNLOAD_TIMEOUT_S)
        try:
            with partial.open("wb") as file:
                async with self._connection.stream(call) as answer:
                    async for chunk in answer.chunks:
                        await self._connection.wire.aside(bound(file.write, chunk))
            partial.replace(path)
        except httpx.TransportError as error:
            raise NotReachable(f"the download of {path.name} broke off") from error
        finally:
            partial.unlink(missing_ok=True)
        return path

    async def download(self, row: Row, name: str, path: Path) -> Path:
        """Save a file (`model`, `poster`, `usdz`) of a row that succeeded, checked by its sha256."""
        await download(self._connection, f"v1/jobs/{row.job_id}/artifacts/{name}", row.artifacts[name], path)
        return path

    def _path(self, below: str = "") -> str:
        return f"v1/batches/{self.id}{below}"

    async def _took(self, call: Request) -> Batch:
        self.batch = await self._connection.ask(call, Batch.from_wire)
        return self.batch


class BatchHandle(SyncFacade[AsyncBatchHandle]):
    """One batch and what can be done with it. `batch` is the latest snapshot; only the methods here renew it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @property
    def batch(self) -> Batch:
        """The latest snapshot."""
        return self._twin.batch

    @property
    def id(self) -> str:
        """The batch's id; `client.get_batch` takes it."""
        return self._twin.id

    @property
    def status(self) -> BatchStatus:
        """Where the batch stood at the latest snapshot."""
        return self._twin.status

    refresh = blocking(AsyncBatchHandle.refresh)
    wait_until_planned = blocking(AsyncBatchHandle.wait_until_planned)
    wait = blocking(AsyncBatchHandle.wait)
    snapshots = iterating(AsyncBatchHandle.snapshots)
    confirm = blocking(AsyncBatchHandle.confirm)
    pause = blocking(AsyncBatchHandle.pause)
    resume = blocking(AsyncBatchHandle.resume)
    cancel = blocking(AsyncBatchHandle.cancel)
    retry = blocking(AsyncBatchHandle.retry)
    rows = iterating(AsyncBatchHandle.rows)
    save = blocking(AsyncBatchHandle.save)
    download = blocking(AsyncBatchHandle.download)
