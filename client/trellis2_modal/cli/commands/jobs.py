"""The commands on jobs that exist: jobs, cancel, retry, delete."""

import argparse
from collections.abc import Callable, Iterator
from datetime import datetime
from heapq import merge
from itertools import islice

from trellis2_modal.cli.context import Session, Subparsers, columns, command_parser
from trellis2_modal.cli.exit_codes import Exit, worst
from trellis2_modal.cli.options import whole
from trellis2_modal.client import Client
from trellis2_modal.errors import TrellisError
from trellis2_modal.resources.jobs import JobHandle
from trellis2_modal.types.job import Job, SamplingResult, Status

SHOWN = 20
MOST = 1_000_000
UNFINISHED = (Status.QUEUED, Status.RUNNING)
_HEAD = ("JOB", "AGE", "STATUS", "COST", "PRESET", "NAME")
_WIDTHS = (30, 6, 30, 7, 11, 0)
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def add_jobs(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 jobs --status failed`."""
    parser = command_parser(subparsers, "jobs", sentence, aliases=["list"])
    parser.add_argument(
        "--status",
        action="append",
        choices=[*map(str, Status), "unfinished"],
        metavar="STATUS",
        help=f"only these: {', '.join(Status)}, or unfinished; may be given more than once",
    )
    parser.add_argument("--batch", metavar="BATCH", help="only the jobs of this batch")
    parser.add_argument("--limit", type=whole(1, MOST), default=SHOWN, metavar="N", help=f"at most this many ({SHOWN})")
    parser.add_argument("--all", action="store_const", const=MOST, dest="limit", help="every one")
    parser.set_defaults(run=session.guarded(lambda args: _list(args, session)))


def add_cancel(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 cancel JOB`."""
    _add_change(subparsers, session, "cancel", sentence, JobHandle.cancel)


def add_retry(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 retry JOB`."""
    _add_change(subparsers, session, "retry", sentence, JobHandle.retry)


def add_delete(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 delete JOB`."""
    _add_change(subparsers, session, "delete", sentence, JobHandle.delete)


def found(
    client: Client, statuses: tuple[Status, ...] = (), batch: str | None = None, page_limit: int = 100
) -> Iterator[JobHandle]:
    """Jobs in one of these statuses, or in any where there are none, newest first."""
    lists = [client.list(status=status, batch=batch, page_limit=page_limit) for status in statuses or (None,)]
    return merge(*lists, key=lambda handle: handle.job.created_at, reverse=True)


def _add_change(
    subparsers: Subparsers, session: Session, name: str, sentence: str, change: Callable[[JobHandle], object]
) -> None:
    parser = command_parser(subparsers, name, sentence)
    parser.add_argument("jobs", nargs="+", metavar="JOB")
    parser.set_defaults(run=session.guarded(lambda args: _change(args, session, change)))


def _list(args: argparse.Namespace, session: Session) -> int:
    asked = args.status or []
    statuses = tuple(status for status in Status if status in asked or (status in UNFINISHED and "unfinished" in asked))
    is_table = session.out.isatty() and not args.json
    with session.client(args) as client:
        handles = found(client, statuses, args.batch, min(100, args.limit + 1))
        shown = 0
        for shown, handle in enumerate(islice(handles, args.limit), 1):
            if is_table and shown == 1:
                session.say(columns(_HEAD, _WIDTHS))
            _tell(handle, args, session, is_table=is_table)
        if is_table and not shown:
            session.complain("no such jobs")
        elif is_table and next(handles, None):
            session.complain("there are more: --limit N or --all shows them")
    return Exit.DONE


def _tell(handle: JobHandle, args: argparse.Namespace, session: Session, *, is_table: bool) -> None:
    job = handle.job
    labels = (job.preset or "", job.custom_id or "")
    if args.json:
        session.say_json(job.raw)
    elif is_table:
        cost = f"${job.cost_usd:.3f}" if job.cost_usd else ""
        cells = (job.id, age(job.created_at, session.now()), standing(job), cost, *labels)
        session.say(columns(cells, _WIDTHS))
    else:  # for awk and cut
        fields = (job.id, f"{job.created_at:%Y-%m-%dT%H:%M:%SZ}", str(job.status), job.stage or "")
        session.say("\t".join((*fields, f"{job.cost_usd:.4f}", *labels)))


def _change(args: argparse.Namespace, session: Session, change: Callable[[JobHandle], object]) -> int:
    exits: list[Exit] = []
    with session.client(args) as client:
        for job_id in args.jobs:
            try:
                handle = client.get(job_id)
                changed = change(handle)
            except TrellisError as error:
                exits.append(session.report(error, args, job_id if len(args.jobs) > 1 else ""))
                continue
            if args.json:
                session.say_json(handle.job.raw if changed else {"id": job_id, "deleted": True})
            else:
                session.say(f"{job_id} {handle.status if changed else 'deleted'}")
    return worst(exits)


def describe(job: Job) -> str:
    """A job for a person."""
    took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
    lines = {
        "job": job.id,
        "status": standing(job),
        "created": f"{job.created_at:%Y-%m-%d %H:%M:%S %Z}",
        "took": f"{took:.1f} s" if took is not None else None,
        "seed": job.seed,
        "sampled": _sampled(job.sampled) if job.sampled else None,
        "preset": job.preset,
        "your name": job.custom_id,
        "batch": job.batch_id,
        "error": f"{job.error.code}: {job.error.detail}" if job.error else None,
        "results": ", ".join(job.artifacts) or None,
        "cost": f"${job.cost_usd:.4f}" if job.cost_usd else None,
    }
    return "\n".join(f"{name:<10}{value}" for name, value in lines.items() if value is not None)


def standing(job: Job) -> str:
    """A job's status, and of a running one how far it is."""
    if job.status is Status.RUNNING:
        return f"running, {job.stage or 'starting'}, {job.progress:.0%}"
    return str(job.status)


def age(then: datetime, now: datetime) -> str:
    """How long ago something was, in one unit."""
    seconds = max(0.0, (now - then).total_seconds())
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "now"


def _sampled(sampled: SamplingResult) -> str:
    return f"{sampled.pipeline_type}, {sampled.resolution} voxels a side, with seed {sampled.seed}"
