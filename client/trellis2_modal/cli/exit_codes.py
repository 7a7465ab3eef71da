"""Describes errors: as an exit code, as one line with a hint, and as JSON."""

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
    DONE = 0
    FAILED = 1
    REFUSED = 2
    UNREACHABLE = 3
    CANCELED = 4
    NOT_ALLOWED = 5


# The first match counts; all other errors (bad input, an unknown id, an unreadable file) are REFUSED.
_EXITS = {
    Exit.CANCELED: (JobCanceled,),
    Exit.FAILED: (JobUnsuccessful, IntegrityError),
    Exit.UNREACHABLE: (NotReachable, RateLimited, ServiceFailed),
    Exit.NOT_ALLOWED: (NotAllowed, KeyUnusable),
}
_SEVERITY = (Exit.DONE, Exit.CANCELED, Exit.FAILED, Exit.REFUSED, Exit.UNREACHABLE, Exit.NOT_ALLOWED)
_LIST_COMMANDS = {
    "job_not_found": "trellis2 jobs",
    "batch_not_found": "trellis2 batch list",
    "endpoint_not_found": "trellis2 webhooks list",
    "delivery_not_found": "trellis2 webhooks deliveries",
}
_ERRNO = re.compile(r"\[Errno -?\d+\] ")


def exit_of(error: Exception) -> Exit:
    return next((code for code, kinds in _EXITS.items() if isinstance(error, kinds)), Exit.REFUSED)


def worst(exits: Iterable[Exit]) -> Exit:
    """Return the exit code of a command that did several things."""
    return max(exits, key=_SEVERITY.index, default=Exit.DONE)


def describe_error(error: Exception) -> str:
    """Describe an error in one line, with a hint if there is one."""
    hint = _hint(error)
    return _ERRNO.sub("", " ".join(_message(error).split())) + (f"; {hint}" if hint else "")


def _message(error: Exception) -> str:
    if isinstance(error, ApiError) and error.errors:
        return "; ".join(
            field.detail if field.detail == error.detail else f"{field.pointer.lstrip('/')}: {field.detail}"
            for field in error.errors
        )
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _hint(error: Exception) -> str:
    """Suggest what the user can do, unless the error's text does."""
    import httpx  # an error that needs it has loaded it already

    match error:
        case NotReachable() if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
            return "set the service's URL with --url or TRELLIS2_URL, or start one here with `trellis2 serve`"
        case NotAllowed() if error.status == 401:
            return "set TRELLIS2_API_KEY; `trellis2 keys create NAME` on the service's machine creates a key"
        case RateLimited() if error.retry_after_s:
            return f"try again in {error.retry_after_s:.0f} s"
        case ApiError() if error.code in _LIST_COMMANDS:
            return f"`{_LIST_COMMANDS[error.code]}` lists yours"
        case JobUnsuccessful() if error.retryable and not isinstance(error, JobCanceled):
            return f"`trellis2 retry {error.job.id}` runs it again"
    return ""


def error_body(error: Exception) -> dict[str, Any]:
    """Describe an error as JSON: `code`, `detail`, `retryable`, and `errors` by field."""
    code = error.code if isinstance(error, TrellisError) else "file_error"
    body: dict[str, Any] = {"code": code, "detail": str(error), "retryable": getattr(error, "retryable", False)}
    if isinstance(error, ApiError):
        fields = [{"pointer": field.pointer, "detail": field.detail} for field in error.errors]
        body |= {"detail": error.detail, "status": error.status, "errors": fields}
    return body
