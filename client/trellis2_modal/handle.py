"""A job in hand."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from trellis2_modal.connection import TIMEOUT_S, Call, Connection, json_content
from trellis2_modal.download import download
from trellis2_modal.errors import JobCanceled, JobExpired, JobFailed, JobUnsuccessful, NotFound, WaitTimedOut
from trellis2_modal.events import follow
from trellis2_modal.job import Job, Status

LONGEST_WAIT_S = 30
Parameter = str | int | float | bool | Sequence[str] | Mapping[str, str | float]

_ENDINGS: dict[Status, type[JobUnsuccessful]] = {
    Status.FAILED: JobFailed,
    Status.CANCELED: JobCanceled,
    Status.EXPIRED: JobExpired,
}


class JobHandle:
    """One job and what can be done with it. `job` is the latest snapshot; only the methods here renew it."""

    def __init__(
        self, connection: Connection, job: Job, *, clock: Callable[[], float], pause: Callable[[float], None]
    ) -> None:
        self.job = job
        self._connection = connection
        self._clock = clock
        self._pause = pause

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} {self.status}>"

    @property
    def id(self) -> str:
        """The job's id; `client.get` takes it."""
        return self.job.id

    @property
    def status(self) -> Status:
        """Where the job stood at the latest snapshot."""
        return self.job.status

    def refresh(self) -> Job:
        """Ask how the job stands now."""
        return self._took(Call("GET", self._path()))

    def wait(self, timeout_s: float | None = None) -> Job:
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
            self._took(Call("GET", self._path(), query={"wait": str(wait_s)}, read_timeout_s=wait_s + TIMEOUT_S))
            if not self.status.is_terminal and self._clock() - before < wait_s / 2:
                self._pause(1.0)  # the service did not wait: do not hammer it
        if ending := _ENDINGS.get(self.status):
            raise ending(self.job)
        return self.job

    def events(self) -> Iterator[Job]:
        """Snapshots: the present one, then one whenever anything changes, until the job has ended."""
        for snapshot in follow(self._connection, self.job, self._pause):
            self.job = snapshot
            yield snapshot

    def download(self, name: str, path: str | os.PathLike[str]) -> Path:
        """Save an artifact of a succeeded job under `path`, checked by its sha256.

        name: `model`, `usdz`, `meshopt`, `poster` or `state`.

        Raises:
            JobUnsuccessful: the job ended without results.
            KeyError: it has no such artifact, or has not ended; `wait` first.
            IntegrityError: what arrived is not what the record says.
        """
        if name not in self.job.artifacts and (ending := _ENDINGS.get(self.status)):
            raise ending(self.job)
        target = Path(path)
        download(self._connection, self._path(f"/artifacts/{name}"), self.job.artifacts[name], target)
        return target

    def cancel(self) -> Job:
        """Stop the job; one that has ended stays as it is."""
        return self._took(Call("POST", self._path("/cancel")))

    def retry(self) -> Job:
        """Run a failed, canceled or expired job again, under the same id.

        Raises:
            Conflict: it has not ended, or has succeeded.
        """
        return self._took(Call("POST", self._path("/retry"), repeatable=False))

    def delete(self) -> None:
        """Remove the job, its picture and its results; one that is gone already is no error."""
        with suppress(NotFound):
            self._connection.send(Call("DELETE", self._path()))

    def export(
        self, *, preset: str | None = None, idempotency_key: str | None = None, **parameters: Parameter
    ) -> "JobHandle":
        """Make another GLB of the same shape, with another preset or other extraction parameters: a job of its own."""
        call = Call(
            "POST",
            self._path("/exports"),
            headers={"Idempotency-Key": idempotency_key or secrets.token_hex(16)},
            content=json_content({**({"preset": preset} if preset else {}), **parameters}),
        )
        job = self._connection.ask(call, Job.from_wire)
        return JobHandle(self._connection, job, clock=self._clock, pause=self._pause)

    def _path(self, below: str = "") -> str:
        return f"v1/jobs/{self.id}{below}"

    def _took(self, call: Call) -> Job:
        self.job = self._connection.ask(call, Job.from_wire)
        return self.job
