"""What went wrong, as an exit code and as JSON."""

from enum import IntEnum
from typing import Any

from trellis2_modal.errors import (
    ApiError,
    IntegrityError,
    JobCanceled,
    JobUnsuccessful,
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
]


def exit_of(error: Exception) -> Exit:
    """The exit code that an error stands for."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.REFUSED)


def error_body(error: Exception) -> dict[str, Any]:
    """An error for scripts: `code`, `detail`, `retryable`, and `errors` where fields are named."""
    code = error.code if isinstance(error, TrellisError) else "file_error"
    body: dict[str, Any] = {"code": code, "detail": str(error), "retryable": getattr(error, "retryable", False)}
    if isinstance(error, ApiError):
        fields = [{"pointer": one.pointer, "detail": one.detail} for one in error.errors]
        body |= {"detail": error.detail, "status": error.status, "errors": fields}
    return body
