"""Waiting for a job to change, on behalf of clients that would rather not poll."""

import re

from fastapi import Request

from api.context.dependencies import RequestContext
from shared.domain.job import Job
from shared.storage.versioned_records import Versioned

MAX_WAIT_S = 60
MIN_POLL_S = 0.2
MAX_POLL_S = 1.0
POLL_GROWTH = 1.5
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", re.IGNORECASE)


def preferred_wait_s(request: Request) -> int | None:
    """N of `Prefer: wait=N` (RFC 7240, 4.3), MAX_WAIT_S at most; None where it is not asked for."""
    match = _WAIT.search(request.headers.get("prefer", ""))
    return min(int(match[1]), MAX_WAIT_S) if match else None


async def wait_for_end(context: RequestContext, first: Versioned[Job], *, wait_s: float) -> Versioned[Job]:
    """The job once it has ended, or as it stands when the time is up.

    Raises:
        JobNotFound: it was deleted meanwhile.
    """
    deps = context.services.deps
    ends_at = deps.monotonic() + wait_s
    current, pause_s = first, MIN_POLL_S
    while not current.record.status.is_terminal and (left_s := ends_at - deps.monotonic()) > 0:
        await deps.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * POLL_GROWTH, MAX_POLL_S)
        current = await context.run(context.require_job, first.record.id)
    return current
