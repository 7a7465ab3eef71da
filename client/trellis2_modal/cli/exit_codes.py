"""What went wrong: as an exit code, as one line with what mends it, and as JSON."""

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from trellis2_modal.errors import (
    ApiError,
    IntegrityError,
    JobCanceled,
    JobUnsuccessful,
    KeyUnusable,
    NotAllowed,
    NotReachable,
    RateLimited,
    ServiceFailed,
    TrellisError,
)


class Exit(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    UNREACHABLE = 3
    CANCELED = 4
    NOT_ALLOWED = 5


# The first that fits; what fits none (bad input, a wrong id, a file that cannot be read) is REFUSED.
_CODES: list[tuple[type[TrellisError], Exit]] = [
    (JobCanceled, Exit.CANCELED),
    (JobUnsuccessful, Exit.FAILED),
    (IntegrityError, Exit.FAILED),
    (NotReachable, Exit.UNREACHABLE),
    (RateLimited, Exit.UNREACHABLE),
    (ServiceFailed, Exit.UNREACHABLE),
    (NotAllowed, Exit.NOT_ALLOWED),
    (KeyUnusable, Exit.NOT_ALLOWED),
]


_FROM_LEAST_TO_WORST = (
    Exit.DONE, Exit.CANCELED, Exit.FAILED, Exit.REFUSED, Exit.UNREACHABLE, Exit.NOT_ALLOWED
)  # fmt: skip

_LISTED_BY = {
    "job_not_found": "trellis2 jobs",
    "batch_not_found": "trellis2 batch list",
    "endpoint_not_found": "trellis2 webhooks list",
    "delivery_not_found": "trellis2 webhooks deliveries",
}
_ERRNO = re.compile(r"\[Errno -?\d+\] ")


def exit_of(error: Exception) -> Exit:
    """The exit code that an error stands for."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.REFUSED)


def worst(exits: Iterable[Exit]) -> Exit:
    """The exit code of a command that did several things."""
    return max(exits, key=_FROM_LEAST_TO_WORST.index, default=Exit.DONE)


def sentence(error: Exception) -> str:
    """An error in one line, with what mends it where that is known."""
    mend = _mend(error)
    return _ERRNO.sub("", " ".join(_said(error).split())) + (f"; {mend}" if mend else "")


def _said(error: Exception) -> str:
    if isinstance(error, ApiError) and error.errors:
        return "; ".join(
            one.detail if one.detail == error.detail else f"{one.pointer.lstrip('/')}: {one.detail}"
            for one in error.errors
        )
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _mend(error: Exception) -> str:
    """What the person can do, if the error does not say so itself."""
    import httpx  # whoever has such an error has loaded it

    mend = ""
    match error:
        case NotReachable() if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
            mend = "--url or TRELLIS2_URL says where the service is, `trellis2 serve` starts one here"
        case NotAllowed() if error.status == 401:
            mend = "give a key as TRELLIS2_API_KEY; on the service's machine `trellis2 keys create NAME` makes one"
        case RateLimited() if error.retry_after_s:
            mend = f"try again in {error.retry_after_s:.0f} s"
        case ApiError() if error.code in _LISTED_BY:
            mend = f"`{_LISTED_BY[error.code]}` shows yours"
        case JobUnsuccessful() if error.retryable and not isinstance(error, JobCanceled):
            mend = f"`trellis2 retry {error.job.id}` runs it again"
    return mend


def error_body(error: Exception) -> dict[str, Any]:
    """An error for scripts: `code`, `detail`, `retryable`, and `errors` where fields are named."""
    code = error.code if isinstance(error, TrellisError) else "file_error"
    body: dict[str, Any] = {"code": code, "detail": str(error), "retryable": getattr(error, "retryable", False)}
    if isinstance(error, ApiError):
        fields = [{"pointer": one.pointer, "detail": one.detail} for one in error.errors]
        body |= {"detail": error.detail, "status": error.status, "errors": fields}
    return body
