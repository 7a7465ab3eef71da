"""A batch in hand."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from trellis2_modal.batch import Batch, BatchStatus, Row
from trellis2_modal.connection import Call, Connection, json_content
from trellis2_modal.download import download
from trellis2_modal.errors import NotReachable, WaitTimedOut

POLL_S = 2.0
DOWNLOAD_TIMEOUT_S = 300.0


class BatchHandle:
    """One batch and what can be done with it. `batch` is the latest snapshot; only the methods here renew it."""

    def __init__(
        self, connection: Connection, batch: Batch, *, clock: Callable[[], float], pause: Callable[[float], None]
    ) -> None:
        self.batch = batch
        self._connection = connection
        self._clock = clock
        self._pause = pause

    def __repr__(self) -> str:
        return f"<BatchHandle {self.id} {self.status}>"

    @property
    def id(self) -> str:
        """The batch's id; `client.get_batch` takes it."""
        return self.batch.id

    @property
    def status(self) -> BatchStatus:
        """Where the batch stood at the latest snapshot."""
        return self.batch.status

    def refresh(self) -> Batch:
        """Ask how the batch stands now."""
        return self._took(Call("GET", self._path()))

    def wait_until_planned(self, timeout_s: float | None = None) -> Batch:
        """Wait until its rows were looked at, `timeout_s` at most."""
        for batch in self.snapshots(timeout_s):
            if batch.status is not BatchStatus.PLANNING:
                break
        return self.batch

    def wait(self, timeout_s: float | None = None) -> Batch:
        """Wait until the batch has ended, however; `timeout_s` at most. A batch that needs a yes does not end."""
        for _ in self.snapshots(timeout_s):
            pass
        return self.batch

    def snapshots(self, timeout_s: float | None = None) -> Iterator[Batch]:
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
            self._pause(POLL_S)
            self.refresh()

    def confirm(self) -> Batch:
        """Say yes: its rows begin to run."""
        return self._took(Call("POST", self._path("/confirm")))

    def pause(self) -> Batch:
        """Begin no further rows."""
        return self._took(Call("POST", self._path("/pause")))

    def resume(self) -> Batch:
        """Go on."""
        return self._took(Call("POST", self._path("/resume")))

    def cancel(self) -> Batch:
        """Cancel every row that has not ended."""
        return self._took(Call("POST", self._path("/cancel")))

    def retry(self, *, max_cost_usd: float | None = None, max_failures: int | None = None) -> Batch:
        """Run what did not succeed again, in new bounds if some are given.

        Raises:
            Conflict: the batch has not ended, or nothing is left to run.
        """
        bounds = {"max_cost_usd": max_cost_usd, "max_failures": max_failures}
        content = json_content({name: value for name, value in bounds.items() if value is not None})
        return self._took(Call("POST", self._path("/retry"), content=content, repeatable=False))

    def rows(self) -> Iterator[Row]:
        """Every row, in the catalog's order, and what has come of it so far.

        Raises:
            NotReachable: the answer broke off.
        """
        call = Call("GET", self._path("/results.jsonl"), read_timeout_s=DOWNLOAD_TIMEOUT_S)
        with self._connection.stream(call) as response:
            try:
                for line in response.iter_lines():
                    yield Row.from_wire(json.loads(line))
            except httpx.TransportError as error:
                raise NotReachable("the results broke off") from error

    def save(self, name: str, path: Path) -> Path:
        """Save `results.csv`, `results.jsonl`, `errors.csv` or `results.zip` as it is now.

        Raises:
            NotReachable: the answer broke off; nothing is left under `path`.
        """
        partial = path.with_name(f".{path.name}.part")
        call = Call("GET", self._path(f"/{name}"), read_timeout_s=DOWNLOAD_TIMEOUT_S)
        try:
            with self._connection.stream(call) as response, partial.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
            partial.replace(path)
        except httpx.TransportError as error:
            raise NotReachable(f"the download of {path.name} broke off") from error
        finally:
            partial.unlink(missing_ok=True)
        return path

    def download(self, row: Row, name: str, path: Path) -> Path:
        """Save a file (`model`, `poster`, `usdz`) of a row that succeeded, checked by its sha256."""
        download(self._connection, f"v1/jobs/{row.job_id}/artifacts/{name}", row.artifacts[name], path)
        return path

    def _path(self, below: str = "") -> str:
        return f"v1/batches/{self.id}{below}"

    def _took(self, call: Call) -> Batch:
        self.batch = self._connection.ask(call, Batch.from_wire)
        return self.batch
