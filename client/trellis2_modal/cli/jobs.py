"""The commands on jobs that exist: list, cancel, retry, delete."""

import argparse
from collections.abc import Callable
from itertools import islice

from trellis2_modal.cli.exits import Exit
from trellis2_modal.cli.session import Session, Subparsers, command_parser
from trellis2_modal.errors import TrellisError
from trellis2_modal.handle import JobHandle
from trellis2_modal.job import Job, Sampled, Status


def add_list(subparsers: Subparsers, session: Session) -> None:
    """`trellis2 list --status failed`."""
    parser = command_parser(subparsers, "list", "List your jobs, newest first.")
    parser.add_argument("--status", choices=[str(status) for status in Status])
    parser.add_argument("--limit", type=int, default=20, help="at most this many (20)")
    parser.set_defaults(run=session.guarded(lambda args: _list(args, session)))


def add_cancel(subparsers: Subparsers, session: Session) -> None:
    """`trellis2 cancel JOB`."""
    _add_change(subparsers, session, "cancel", "Stop jobs; those that have ended stay as they are.", JobHandle.cancel)


def add_retry(subparsers: Subparsers, session: Session) -> None:
    """`trellis2 retry JOB`."""
    _add_change(subparsers, session, "retry", "Run failed, canceled or expired jobs again.", JobHandle.retry)


def add_delete(subparsers: Subparsers, session: Session) -> None:
    """`trellis2 delete JOB`."""
    _add_change(subparsers, session, "delete", "Remove jobs, their pictures and their results.", JobHandle.delete)


def _add_change(
    subparsers: Subparsers, session: Session, name: str, sentence: str, change: Callable[[JobHandle], object]
) -> None:
    parser = command_parser(subparsers, name, sentence)
    parser.add_argument("jobs", nargs="+", metavar="JOB")
    parser.set_defaults(run=session.guarded(lambda args: _change(args, session, change)))


def _list(args: argparse.Namespace, session: Session) -> int:
    with session.client(args) as client:
        for handle in islice(client.list(status=args.status), args.limit):
            if args.json:
                session.say_json(handle.job.raw)
            else:
                session.say(_row(handle.job))
    return Exit.DONE


def _change(args: argparse.Namespace, session: Session, change: Callable[[JobHandle], object]) -> int:
    exits: list[Exit] = []
    with session.client(args) as client:
        for job_id in args.jobs:
            try:
                handle = client.get(job_id)
                changed = change(handle)
            except TrellisError as error:
                exits.append(session.report(error, args))
                continue
            if args.json:
                session.say_json(handle.job.raw if changed else {"id": job_id, "deleted": True})
            else:
                session.say(f"{job_id} {handle.status if changed else 'deleted'}")
    return next((code for code in exits if code), Exit.DONE)


def describe(job: Job) -> str:
    """A job for a person."""
    lines = {
        "job": job.id,
        "status": _standing(job),
        "created": f"{job.created_at:%Y-%m-%d %H:%M:%S %Z}",
        "seed": job.seed,
        "sampled": _sampled(job.sampled) if job.sampled else None,
        "preset": job.preset,
        "your name": job.custom_id,
        "error": f"{job.error.code}: {job.error.detail}" if job.error else None,
        "results": ", ".join(job.artifacts) or None,
        "cost": f"${job.cost_usd:.4f}" if job.cost_usd else None,
    }
    return "\n".join(f"{name:<10}{value}" for name, value in lines.items() if value is not None)


def _sampled(sampled: Sampled) -> str:
    return f"{sampled.pipeline_type}, {sampled.resolution} voxels a side, with seed {sampled.seed}"


def _row(job: Job) -> str:
    label = job.custom_id or job.preset or ""
    return f"{job.id}  {job.created_at:%Y-%m-%d %H:%M}  {_standing(job):<28}  {label}".rstrip()


def _standing(job: Job) -> str:
    if job.status is Status.RUNNING:
        return f"running, {job.stage or 'starting'}, {job.progress:.0%}"
    return str(job.status)
