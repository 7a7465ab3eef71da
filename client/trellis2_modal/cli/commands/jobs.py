"""The commands on existing jobs: jobs, cancel, retry, delete."""

import argparse
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from heapq import merge
from itertools import islice

from trellis2_modal.cli.context import Result, Session, format_columns, operation_parser
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.options import integer
from trellis2_modal.cli.parsers import Subparsers, command_parser
from trellis2_modal.client import Client
from trellis2_modal.resources.jobs import JobHandle
from trellis2_modal.types.job import Job, Status

SHOWN = 20
MOST = 1_000_000
UNFINISHED = (Status.QUEUED, Status.RUNNING)
_OPERATIONS: dict[str, Callable[[JobHandle], object]] = {
    "cancel": JobHandle.cancel,
    "retry": JobHandle.retry,
    "delete": JobHandle.delete,
}
_HEADER = ("JOB", "AGE", "STATUS", "COST", "PRESET", "NAME")
_WIDTHS = (30, 6, 30, 7, 11, 0)
_AGE_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def add_jobs(subparsers: Subparsers, session: Session, name: str, help: str) -> None:
    """`trellis2 jobs --status failed`."""
    parser = command_parser(subparsers, session, name, help, _list, aliases=["list"])
    parser.add_argument(
        "--status",
        action="append",
        choices=[*map(str, Status), "unfinished"],
        metavar="STATUS",
        help=f"only jobs with this status: {', '.join(Status)}, or unfinished; may be repeated",
    )
    parser.add_argument("--batch", metavar="BATCH", help="only the jobs of this batch")
    add_limit(parser)
    parser.add_argument("--all", action="store_const", const=MOST, dest="limit", help="list every job")


def add_limit(parser: argparse.ArgumentParser) -> None:
    meaning = f"at most this many ({SHOWN})"
    parser.add_argument("--limit", type=integer(1, MOST), default=SHOWN, metavar="N", help=meaning)


def add_operation(subparsers: Subparsers, session: Session, name: str, help: str) -> None:
    """`trellis2 cancel JOB`, or another of `_OPERATIONS`."""
    operation_parser(subparsers, session, name, help, partial(_apply, _OPERATIONS[name]), "JOB")


def find_jobs(
    client: Client, statuses: tuple[Status, ...] = (), batch: str | None = None, page_limit: int = 100
) -> Iterator[JobHandle]:
    """Iterate over jobs with one of the statuses (any by default), newest first."""
    lists = [client.list(status=status, batch=batch, page_limit=page_limit) for status in statuses or (None,)]
    return merge(*lists, key=lambda handle: handle.job.created_at, reverse=True)


def _list(args: argparse.Namespace, session: Session) -> int:
    asked = args.status or []
    statuses = tuple(status for status in Status if status in asked or (status in UNFINISHED and "unfinished" in asked))
    is_table = session.out.isatty() and not args.json
    with session.client(args) as client:
        handles = find_jobs(client, statuses, args.batch, min(100, args.limit + 1))
        count = 0
        for count, handle in enumerate(islice(handles, args.limit), 1):
            if is_table and count == 1:
                session.print(format_columns(_HEADER, _WIDTHS))
            session.print_result(args, handle.job.raw, _format_job(handle.job, session, is_table=is_table))
        if is_table and not count:
            session.print_error("no such jobs")
        elif is_table and next(handles, None):
            session.print_error("there are more: list them with --limit N or --all")
    return Exit.DONE


def _format_job(job: Job, session: Session, *, is_table: bool) -> str:
    labels = (job.preset or "", job.custom_id or "")
    if is_table:
        cost = f"${job.cost_usd:.3f}" if job.cost_usd else ""
        return format_columns(
            (job.id, format_age(job.created_at, session.now()), status_text(job), cost, *labels), _WIDTHS
        )
    fields = (job.id, f"{job.created_at:%Y-%m-%dT%H:%M:%SZ}", str(job.status), job.stage or "")
    return "\t".join((*fields, f"{job.cost_usd:.4f}", *labels))  # for awk and cut


def _apply(operation: Callable[[JobHandle], object], client: Client, job_id: str, _args: argparse.Namespace) -> Result:
    handle = client.get(job_id)
    if operation(handle):
        return handle.job.raw, f"{job_id} {handle.status}"
    return {"id": job_id, "deleted": True}, f"{job_id} deleted"


def describe(job: Job) -> str:
    """Describe a job in several lines."""
    took = duration_s(job)
    sampled = job.sampled
    lines = {
        "job": job.id,
        "status": status_text(job),
        "created": f"{job.created_at:%Y-%m-%d %H:%M:%S %Z}",
        "took": f"{took:.1f} s" if took is not None else None,
        "seed": job.seed,
        "sampled": sampled and f"{sampled.pipeline_type}, {sampled.resolution} voxels a side, with seed {sampled.seed}",
        "preset": job.preset,
        "your name": job.custom_id,
        "batch": job.batch_id,
        "error": f"{job.error.code}: {job.error.detail}" if job.error else None,
        "results": ", ".join(job.artifacts) or None,
        "cost": f"${job.cost_usd:.4f}" if job.cost_usd else None,
    }
    return "\n".join(f"{name:<10}{value}" for name, value in lines.items() if value is not None)


def duration_s(job: Job) -> float | None:
    """Return the seconds from a job's start to its end, or None if it has not ended."""
    return (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None


def status_text(job: Job) -> str:
    """Describe a job's status; for a running job also stage and progress."""
    if job.status is Status.RUNNING:
        return f"running, {job.stage or 'starting'}, {job.progress:.0%}"
    return str(job.status)


def format_age(then: datetime, now: datetime) -> str:
    """Format the time since `then` in one unit."""
    seconds = max(0.0, (now - then).total_seconds())
    for length, unit in _AGE_UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "now"
