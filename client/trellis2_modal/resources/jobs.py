"""A job in hand."""

import os
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

from trellis2_modal._download import download
from trellis2_modal._http import Connection, Request, json_content
from trellis2_modal._sync import SyncFacade, blocking, blocking_as, iterating
from trellis2_modal._transport import TIMEOUT_S
from trellis2_modal.errors import JobCanceled, JobExpired, JobFailed, JobUnsuccessful, NotFound, WaitTimedOut
from trellis2_modal.resources.events import JobEvent, follow
from trellis2_modal.resources.events import stream as told_by
from trellis2_modal.types.job import Job, Status

LONGEST_WAIT_S = 30
Parameter = str | int | float | bool | Sequence[str] | Mapping[str, str | float]

_ENDINGS: dict[Status, type[JobUnsuccessful]] = {
    Status.FAILED: JobFailed,
    Status.CANCELED: JobCanceled,
    Status.EXPIRED: JobExpired,
}


class AsyncJobHandle:
    """One job and what can be done with it. `job` is the latest snapshot; only the methods here renew it."""

    def __init__(self, connection: Connection, job: Job, *, clock: Callable[[], float]) -> None:
        self.job = job
        self._connection = connection
        self._clock = clock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @property
    def id(self) -> str:
        """The job's id; `client.get` takes it."""
        return self.job.id

    @property
    def status(self) -> Status:
        """Where the job stood at the latest snapshot."""
        return self.job.status

    async def refresh(self) -> Job:
        """Ask how the job stands now."""
        return await self._took(Request("GET", self._path()))

    async def wait(self, timeout_s: float | None = None) -> Job:
        """Wait until the job has succeeded, `timeout_s` at most; its record names the artifacts.

        Raises:
            JobFailed, JobCanceled, JobExpired: it ended otherwise.
            WaitTimedOut: it goes on.
        """
        ends_at = None if timeout_s is None else self._clock() + timeout_s
        while not self.status.is_terminal:
            left_s = LONGEST_WAIT_S if ends_at is None else ends_at - self._clock()
            if left_s <= 0:
                raise WaitTimedOut(self.job, timeout_s or 0.0)
            wait_s = max(1, min(LONGEST_WAIT_S, int(left_s)))
            before = self._clock()
            await self._took(
                Request("GET", self._path(), query={"wait": str(wait_s)}, read_timeout_s=wait_s + TIMEOUT_S)
            )
            if not self.status.is_terminal and self._clock() - before < wait_s / 2:
                await self._connection.wire.pause(1.0)  # the service did not wait: do not hammer it
        if ending := _ENDINGS.get(self.status):
            raise ending(self.job)
        return self.job

    async def events(self) -> AsyncGenerator[Job, None]:
        """Snapshots: the present one, then one whenever anything changes, until the job has ended.

        It streams where the service does, goes on where a stream broke, and polls where there is none.
        """
        async with aclosing(follow(self._connection, self.job)) as snapshots:
            async for snapshot in snapshots:
                self.job = snapshot
                yield snapshot

    async def stream(self, last_event_id: str = "") -> AsyncGenerator[JobEvent, None]:
        """The service's own events, previews among them, from the first one that it remembers or after `last_event_id`.

        Lost connections are taken up where they broke. Keep the last event's `id`, and another process goes on from
        there.

        Raises:
            NoStream: the service, or a proxy before it, does not stream; `events` does without.
            NotFound, NotReachable: see the error tree.
        """
        async with aclosing(told_by(self._connection, self.id, last_event_id)) as told:
            async for event in told:
                if event.job.status.is_terminal or not self.status.is_terminal:  # no replay takes an end back
                    self.job = event.job
                yield event

    async def download(self, name: str, path: str | os.PathLike[str], *, keep_partial: bool = False) -> Path:
        """Save an artifact of a succeeded job under `path`, checked by its sha256.

        name: `model`, `usdz`, `meshopt`, `poster` or `state`. keep_partial: leave what has come, where the rest does
        not, so that the next call goes on from there; a lost connection is taken up where it broke in any case.

        Raises:
            JobUnsuccessful: the job ended without results.
            KeyError: it has no such artifact, or has not ended; `wait` first.
            IntegrityError: what arrived is not what the record says.
            NotReachable: it broke off again and again.
        """
        if name not in self.job.artifacts and (ending := _ENDINGS.get(self.status)):
            raise ending(self.job)
        target = Path(path)
        url = self._path(f"/artifacts/{name}")
        await download(self._connection, url, self.job.artifacts[name], target, keep_partial=keep_partial)
        return target

    async def cancel(self) -> Job:
        """Stop the job; one that has ended stays as it is."""
        return await self._took(Request("POST", self._path("/cancel")))

    async def retry(self) -> Job:
        """Run a failed, canceled or expired job again, under the same id.

        Raises:
            Conflict: it has not ended, or has succeeded.
        """
        return await self._took(Request("POST", self._path("/retry"), repeatable=False))

    async def delete(self) -> None:
        """Remove the job, its picture and its results; one that is gone already is no error."""
        with suppress(NotFound):
            await self._connection.send(Request("DELETE", self._path()))

    async def export(
        self, /, *, preset: str | None = None, idempotency_key: str | None = None, **parameters: Parameter
    ) -> "AsyncJobHandle":
        """Make another GLB of the same shape, with another preset or other extraction parameters: a job of its own."""
        call = Request(
            "POST",
            self._path("/exports"),
            headers={"Idempotency-Key": idempotency_key or secrets.token_hex(16)},
            content=json_content({**({"preset": preset} if preset else {}), **parameters}),
        )
        job = await self._connection.ask(call, Job.from_wire)
        return AsyncJobHandle(self._connection, job, clock=self._clock)

    def _path(self, below: str = "") -> str:
        return f"v1/jobs/{self.id}{below}"

    async def _took(self, call: Request) -> Job:
        self.job = await self._connection.ask(call, Job.from_wire)
        return self.job


def _plain(twin: AsyncJobHandle) -> "JobHandle":
    return JobHandle(twin)


class JobHandle(SyncFacade[AsyncJobHandle]):
    """One job and what can be done with it. `job` is the latest snapshot; only the methods here renew it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.status}>"

    @property
    def job(self) -> Job:
        """The latest snapshot."""
        return self._twin.job

    @property
    def id(self) -> str:
        """The job's id; `client.get` takes it."""
        return self._twin.id

    @property
    def status(self) -> Status:
        """Where the job stood at the latest snapshot."""
        return self._twin.status

    refresh = blocking(AsyncJobHandle.refresh)
    wait = blocking(AsyncJobHandle.wait)
    events = iterating(AsyncJobHandle.events)
    stream = iterating(AsyncJobHandle.stream)
    download = blocking(AsyncJobHandle.download)
    cancel = blocking(AsyncJobHandle.cancel)
    retry = blocking(AsyncJobHandle.retry)
    delete = blocking(AsyncJobHandle.delete)
    export = blocking_as(_plain, AsyncJobHandle.export)
