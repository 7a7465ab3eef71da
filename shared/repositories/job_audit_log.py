"""Tells of the changes that happen to a job from outside: by a cancel, by time, by the end of a silent worker's lease.

What a worker does with its own job it tells itself.
"""

from shared.domain.job import Job, Status
from shared.log import log


def log_change(before: Job, after: Job) -> None:
    """The events of one change that was written, if it has any."""
    if before.status is after.status and before.crashes == after.crashes:
        return
    if after.crashes > before.crashes:
        log("lease.over", job_id=after.id, attempt=before.attempt, crashes=after.crashes, worker=before.worker)
        if after.status is Status.FAILED and after.error is not None:
            log("job.failed", job_id=after.id, attempt=after.attempt, code=after.error.code)
    elif after.status is Status.CANCELED:
        log("job.canceled", job_id=after.id, attempt=after.attempt)
    elif after.status is Status.EXPIRED:
        log("job.expired", job_id=after.id, attempt=after.attempt)
