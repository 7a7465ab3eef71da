"""Every error that the client raises on purpose, in one tree.

    TrellisError
    ├── ApiError                the service responded with an error
    │   ├── InputRejected           400, 413, 415, 422: change the request; `errors` names the fields
    │   ├── NotAllowed              401, 403: the API key is missing, invalid, or lacks a scope
    │   ├── NotFound                404, 410: no such job, or another caller's
    │   ├── Conflict                409, 412: the job's status does not allow it
    │   ├── RateLimited             429, after every retry
    │   └── ServiceFailed           5xx, after every retry
    ├── NotReachable            no response, or not the service's, after every retry
    ├── NoStream                the service, or a proxy before it, does not stream; `events` and `wait` work without
    ├── UrlInvalid              the service's URL is not an http or https URL
    ├── KeyUnusable             the API key has characters that cannot be sent
    ├── WaitTimedOut            the job has not ended within the timeout
    ├── JobUnsuccessful         the job ended without a result
    │   ├── JobFailed
    │   ├── JobCanceled
    │   └── JobExpired
    └── IntegrityError          the download does not match the job record, after every retry

`code` is stable: match on it. `retryable`: the same call may succeed later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trellis2_modal.types.batch import Batch
    from trellis2_modal.types.job import Job


class TrellisError(Exception):
    """Base of the tree. `str(error)` is a sentence for the user."""

    code: str = "client_error"
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class FieldError:
    """The error of one field; `pointer` is its JSON pointer (`/decimation_target`)."""

    pointer: str
    detail: str


class ApiError(TrellisError):
    """A problem (RFC 9457) from the service. retry_after_s: the wait that it asks for, if any."""

    def __init__(self, status: int, body: Mapping[str, Any], retry_after_s: float | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        self.code = str(body.get("code") or f"http_{status}")
        self.detail = str(body.get("detail") or body.get("title") or f"the service responded {status}")
        self.errors = [
            FieldError(str(error.get("pointer", "")), str(error.get("detail", "")))
            for error in body.get("errors") or []
        ]
        fields = "".join(f"\n  {error.pointer}: {error.detail}" for error in self.errors)
        super().__init__(self.detail + fields)


class InputRejected(ApiError):
    """The request is invalid; `errors` names the fields."""


class NotAllowed(ApiError):
    """The API key is missing, invalid, or lacks the scope."""


class NotFound(ApiError):
    """The object does not exist, or is another caller's; the service does not say which."""


class Conflict(ApiError):
    """The job's status does not allow the operation."""


class RateLimited(ApiError):
    """Too many requests, even after waiting as Retry-After asked."""

    retryable = True


class ServiceFailed(ApiError):
    """The service failed to respond."""

    retryable = True


_FAMILIES: dict[int, type[ApiError]] = {
    **dict.fromkeys((400, 413, 415, 422), InputRejected),
    **dict.fromkeys((401, 403), NotAllowed),
    **dict.fromkeys((404, 410), NotFound),
    **dict.fromkeys((409, 412), Conflict),
    429: RateLimited,
}


def api_error(status: int, body: Mapping[str, Any], retry_after_s: float | None = None) -> ApiError:
    family = _FAMILIES.get(status, ServiceFailed if status >= 500 else ApiError)
    return family(status, body, retry_after_s)


class NotReachable(TrellisError):
    """Nothing responded at the service's URL."""

    code = "not_reachable"
    retryable = True


class NoStream(TrellisError):
    """There is no event stream; `events` and `wait` work without one."""

    code = "no_stream"
    retryable = True


class UrlInvalid(TrellisError):
    """The service's URL is not an http or https URL."""

    code = "url_invalid"


class KeyUnusable(TrellisError):
    """A key or token has a character that no key can have, such as a line break; the message does not show the key."""

    code = "key_unusable"


class WaitTimedOut(TrellisError):
    """The job or the batch has not ended within the timeout, and continues. `job` is the latest snapshot."""

    code = "wait_timed_out"
    retryable = True

    def __init__(self, job: "Job | Batch", timeout_s: float) -> None:
        super().__init__(f"{job.id} is still {job.status} after {timeout_s:g} s")
        self.job = job


class JobUnsuccessful(TrellisError):
    """The job ended without a result. `job` is its record."""

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
    """The job was canceled."""

    code = "job_canceled"


class JobExpired(JobUnsuccessful):
    """No worker ran the job in time."""

    code = "job_expired"
    retryable = True


class IntegrityError(TrellisError):
    """A download does not match the sha256 in the job record."""

    code = "integrity_error"
    retryable = True
