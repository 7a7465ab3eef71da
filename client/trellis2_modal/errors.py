"""Everything the client raises on purpose, in one tree.

    TrellisError
    ├── ApiError                the service answered with a problem
    │   ├── InputRejected           400, 413, 415, 422: change the request; `errors` names the fields
    │   ├── NotAllowed              401, 403: the API key is missing, wrong, or not enough
    │   ├── NotFound                404, 410: no such job, or not yours
    │   ├── Conflict                409, 412: the job's status does not allow it
    │   ├── RateLimited             429, after every retry
    │   └── ServiceFailed           5xx, after every retry
    ├── NotReachable            no answer, or not the service's, after every retry
    ├── NoStream                the service, or a proxy before it, does not stream; `events` and `wait` do without
    ├── UrlInvalid              the service's URL is none
    ├── KeyUnusable             the API key cannot even be sent
    ├── WaitTimedOut            the job goes on, the waiting ended
    ├── JobUnsuccessful         the job ended without a result
    │   ├── JobFailed
    │   ├── JobCanceled
    │   └── JobExpired
    └── IntegrityError          what was downloaded is not what the job record says, after every retry

`code` is stable: match on it. `retryable` says whether the same call may succeed later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trellis2_modal.types.batch import Batch
    from trellis2_modal.types.job import Job


class TrellisError(Exception):
    """Base of the tree. `str(error)` is a sentence for the person who must act."""

    code: str = "client_error"
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field; `pointer` is its JSON pointer (`/decimation_target`)."""

    pointer: str
    detail: str


class ApiError(TrellisError):
    """A problem (RFC 9457) that the service answered with. retry_after_s: when to ask again, where it says so."""

    def __init__(self, status: int, body: Mapping[str, Any], retry_after_s: float | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        self.code = str(body.get("code") or f"http_{status}")
        self.detail = str(body.get("detail") or body.get("title") or f"the service answered {status}")
        self.errors = [
            FieldError(str(error.get("pointer", "")), str(error.get("detail", "")))
            for error in body.get("errors") or []
        ]
        fields = "".join(f"\n  {error.pointer}: {error.detail}" for error in self.errors)
        super().__init__(self.detail + fields)


class InputRejected(ApiError):
    """The request must change; `errors` says where."""


class NotAllowed(ApiError):
    """The API key is missing, wrong, or not enough for this."""


class NotFound(ApiError):
    """There is no such thing, or it belongs to somebody else; the two look alike."""


class Conflict(ApiError):
    """The job's status does not allow what was asked."""


class RateLimited(ApiError):
    """Too many requests, and waiting as told did not help."""

    retryable = True


class ServiceFailed(ApiError):
    """The service could not answer."""

    retryable = True


_FAMILIES: dict[int, type[ApiError]] = {
    **dict.fromkeys((400, 413, 415, 422), InputRejected),
    **dict.fromkeys((401, 403), NotAllowed),
    **dict.fromkeys((404, 410), NotFound),
    **dict.fromkeys((409, 412), Conflict),
    429: RateLimited,
}


def api_error(status: int, body: Mapping[str, Any], retry_after_s: float | None = None) -> ApiError:
    """The error of the family that a status belongs to."""
    family = _FAMILIES.get(status, ServiceFailed if status >= 500 else ApiError)
    return family(status, body, retry_after_s)


class NotReachable(TrellisError):
    """Nothing answered at the service's URL."""

    code = "not_reachable"
    retryable = True


class NoStream(TrellisError):
    """No stream of events is to be had; following by `events` or `wait` works all the same."""

    code = "no_stream"
    retryable = True


class UrlInvalid(TrellisError):
    """What was given as the service's URL is not an http or https URL."""

    code = "url_invalid"


class KeyUnusable(TrellisError):
    """A key or token holds what none can hold, such as a line's end; the text itself is not shown."""

    code = "key_unusable"


class WaitTimedOut(TrellisError):
    """The job, or the batch, has not ended within the time given; it goes on. `job` is how it stood last."""

    code = "wait_timed_out"
    retryable = True

    def __init__(self, job: "Job | Batch", timeout_s: float) -> None:
        super().__init__(f"{job.id} is still {job.status} after {timeout_s:g} s")
        self.job = job


class JobUnsuccessful(TrellisError):
    """The job ended, but not with a result. `job` is its record."""

    code = "job_unsuccessful"

    def __init__(self, job: "Job") -> None:
        super().__init__(f"job {job.id} {job.status}" + (f": {job.error.detail}" if job.error else ""))
        self.job = job
        if job.error:
            self.code, self.retryable = job.error.code, job.error.retryable


class JobFailed(JobUnsuccessful):
    """The job failed; `code` is the job's error code."""

    code = "job_failed"


class JobCanceled(JobUnsuccessful):
    """Somebody canceled the job."""

    code = "job_canceled"


class JobExpired(JobUnsuccessful):
    """No worker could take the job in time."""

    code = "job_expired"
    retryable = True


class IntegrityError(TrellisError):
    """A download does not match the sha256 in the job record."""

    code = "integrity_error"
    retryable = True
