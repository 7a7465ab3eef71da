"""The handle of one job."""

import os
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

from trellis2_modal._download import download
from trellis2_modal._http import Connection, Request, json_content
from trellis2_modal._sync import SyncFacade, sync_iterator, sync_method, sync_method_as
from trellis2_modal._transport import TIMEOUT_S
from trellis2_modal.errors import JobCanceled, JobExpired, JobFailed, JobUnsuccessful, NotFound, WaitTimedOut
from trellis2_modal.resources.events import JobEvent, follow, stream_events
from trellis2_modal.types.job import Job, Status

LONGEST_WAIT_S = 30
Parameter = str | int | float | bool | Sequence[str] | Mapping[str, str | float]

_ERRORS: dict[Status, type[JobUnsuccessful]] = {
    Status.FAILED: JobFailed,
    Status.CANCELED: JobCanceled,
    Status.EXPIRED: JobExpired,
}


class AsyncJobHandle:
    """One job and its operations. `job` is the latest snapshot; only the methods of this handle update it."""

    def __init__(self, connection: Connection, job: Job, *, clock: Callable[[], float]) -> None:
        self.job = job
        self._connection = connection
        self._clock = clock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @property
    def id(self) -> str:
        """The job's id, for `client.get`."""
        return self.job.id

    @property
    def status(self) -> Status:
        """The status in the latest snapshot."""
        return self.job.status

    async def refresh(self) -> Job:
        """Fetch the job's record."""
        return await self._update(Request("GET", self._path()))

    async def wait(self, timeout_s: float | None = None) -> Job:
        """Wait until the job has succeeded, at most `timeout_s`; its record lists the artifacts.

        Raises:
            JobFailed, JobCanceled, JobExpired: the job ended without results.
            WaitTimedOut: the job has not ended yet.
        """
        ends_at = None if timeout_s is None else self._clock() + timeout_s
        while not self.status.is_terminal:
            left_s = LONGEST_WAIT_S if ends_at is None else ends_at - self._clock()
            if left_s <= 0:
                raise WaitTimedOut(self.job, timeout_s or 0.0)
            wait_s = max(1, min(LONGEST_WAIT_S, int(left_s)))
            started_at = self._clock()
            await self._update(
                Request("GET", self._path(), query={"wait": str(wait_s)}, read_timeout_s=wait_s + TIMEOUT_S)
            )
            if not self.status.is_terminal and self._clock() - started_at < wait_s / 2:
                await self._connection.transport.pause(1.0)  # the service did not wait: limit the polling rate
        if error := _ERRORS.get(self.status):
            raise error(self.job)
        return self.job

    async def events(self) -> AsyncGenerator[Job, None]:
        """Iterate over snapshots: the present one, then one for each change, until the job has ended.

        Streams where the service supports it, resumes a broken stream, and polls where there is no stream.
        """
        async with aclosing(follow(self._connection, self.job)) as snapshots:
            async for snapshot in snapshots:
                self.job = snapshot
                yield snapshot

    async def stream(self, last_event_id: str = "") -> AsyncGenerator[JobEvent, None]:
        """Iterate over the service's events, with previews, from the first that it keeps or after `last_event_id`.

        Resumes a broken stream. Keep the last event's `id`, and another process can continue after it.

        Raises:
            NoStream: the service, or a proxy before it, does not stream; `events` works without a stream.
            NotFound, NotReachable: see the error tree.
        """
        async with aclosing(stream_events(self._connection, self.id, last_event_id)) as events:
            async for event in events:
                # A replayed event of the past does not replace a terminal snapshot.
                if event.job.status.is_terminal or not self.status.is_terminal:
                    self.job = event.job
                yield event

    async def download(self, name: str, path: str | os.PathLike[str], *, keep_partial: bool = False) -> Path:
        """Save an artifact of a succeeded job under `path` and check its sha256. Resumes lost connections.

        name: `model`, `usdz`, `meshopt`, `poster` or `state`. keep_partial: keep the bytes of a failed download, so
        that the next call resumes it.

        Raises:
            JobUnsuccessful: the job ended without results.
            KeyError: the job has no such artifact, or has not ended; `wait` first.
            IntegrityError: the bytes do not match the job record.
            NotReachable: the connection broke off repeatedly.
        """
        if name not in self.job.artifacts and (error := _ERRORS.get(self.status)):
            raise error(self.job)
        target = Path(path)
        url = self._path(f"/artifacts/{name}")
        await download(self._connection, url, self.job.artifacts[name], target, keep_partial=keep_partial)
        return target

    async def cancel(self) -> Job:
        """Cancel the job; a job that has ended does not change."""
        return await self._update(Request("POST", self._path("/cancel")))

    async def retry(self) -> Job:
        """Run a failed, canceled or expired job again, under the same id.

        Raises:
            Conflict: the job has not ended, or has succeeded.
        """
        return await self._update(Request("POST", self._path("/retry"), repeatable=False))

    async def delete(self) -> None:
        """Delete the job, its image and its results; a job that does not exist is no error."""
        with suppress(NotFound):
            await self._connection.send(Request("DELETE", self._path()))

    async def export(
        self, /, *, preset: str | None = None, idempotency_key: str | None = None, **parameters: Parameter
    ) -> "AsyncJobHandle":
        """Submit a new job that exports the same shape with another preset or other extraction parameters."""
        request = Request(
            "POST",
            self._path("/exports"),
            headers={"Idempotency-Key": idempotency_key or secrets.token_hex(16)},
            content=json_content({**({"preset": preset} if preset else {}), **parameters}),
        )
        job = await self._connection.fetch(request, Job.from_json)
        return AsyncJobHandle(self._connection, job, clock=self._clock)

    def _path(self, suffix: str = "") -> str:
        return f"v1/jobs/{self.id}{suffix}"

    async def _update(self, request: Request) -> Job:
        self.job = await self._connection.fetch(request, Job.from_json)
        return self.job


def _wrap(handle: AsyncJobHandle) -> "JobHandle":
    return JobHandle(handle)


class JobHandle(SyncFacade[AsyncJobHandle]):
    """One job and its operations. `job` is the latest snapshot; only the methods of this handle update it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @property
    def job(self) -> Job:
        """The latest snapshot."""
        return self._async.job

    @property
    def id(self) -> str:
        """The job's id, for `client.get`."""
        return self._async.id

    @property
    def status(self) -> Status:
        """The status in the latest snapshot."""
        return self._async.status

    refresh = sync_method(AsyncJobHandle.refresh)
    wait = sync_method(AsyncJobHandle.wait)
    events = sync_iterator(AsyncJobHandle.events)
    stream = sync_iterator(AsyncJobHandle.stream)
    download = sync_method(AsyncJobHandle.download)
    cancel = sync_method(AsyncJobHandle.cancel)
    retry = sync_method(AsyncJobHandle.retry)
    delete = sync_method(AsyncJobHandle.delete)
    export = sync_method_as(_wrap, AsyncJobHandle.export)
