"""The command `trellis2 watch`: follow jobs and batches live until they end."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice

from trellis2_modal._http import TRIES
from trellis2_modal.cli.commands.batch import counts_line, exit_of_batch
from trellis2_modal.cli.commands.jobs import UNFINISHED, duration_s, find_jobs
from trellis2_modal.cli.context import Session
from trellis2_modal.cli.exit_codes import Exit, worst
from trellis2_modal.cli.parsers import Subparsers, WrongUsage, command_parser
from trellis2_modal.cli.progress import Line, Progress
from trellis2_modal.cli.thread_pool import DaemonPool
from trellis2_modal.client import Client
from trellis2_modal.errors import NoStream, TrellisError
from trellis2_modal.resources.events import JobEvent
from trellis2_modal.resources.jobs import JobHandle
from trellis2_modal.types.batch import Batch, BatchStatus
from trellis2_modal.types.job import Job, Status

AT_ONCE = 32
MOST = 1_000
BATCH_PREFIX = "batch_"


def add_watch(subparsers: Subparsers, session: Session, name: str, help: str) -> None:
    """`trellis2 watch JOB`."""
    parser = command_parser(subparsers, session, name, help, _watch)
    parser.add_argument(
        "ids", nargs="*", metavar="JOB", help="a job or a batch; default: all of yours that have not ended"
    )
    parser.add_argument("--after", default="", metavar="EVENT", help="continue after this event id of the one job")


def _watch(args: argparse.Namespace, session: Session) -> int:
    if args.after and len(args.ids) != 1:
        raise WrongUsage("--after needs exactly one job")
    with session.client(args, TRIES) as client:
        ids = list(dict.fromkeys(args.ids or islice(_find_unfinished(client), MOST)))
        if not ids:
            session.print_error("no unfinished jobs or batches")
        watcher = Watcher(client, args, session)
        try:
            return worst(watcher.follow(ids))
        except KeyboardInterrupt:
            watcher.progress.clear()
            session.print_error("interrupted; the jobs continue")
            return Exit.CANCELED


def _find_unfinished(client: Client) -> Iterator[str]:
    """Iterate over the ids of running batches, then of unfinished jobs without a batch."""
    for batch in islice(client.list_batches(), MOST):
        if not batch.status.is_terminal and batch.status is not BatchStatus.AWAITING_CONFIRMATION:
            yield batch.id
    for handle in find_jobs(client, UNFINISHED):
        if not handle.job.batch_id:
            yield handle.id


class Watcher:
    """Follows jobs and batches, drawn on a terminal; in a pipe or as JSON it prints a line for each change."""

    def __init__(self, client: Client, args: argparse.Namespace, session: Session) -> None:
        self._client = client
        self._args = args
        self._session = session
        self._draws = session.out.isatty() and session.err.isatty() and not args.json
        stream = session.err if self._draws else session.out
        self.progress = Progress(stream, session.width, session.clock, session.height)

    def follow(self, ids: list[str]) -> Iterator[Exit]:
        """Follow all of them at once and yield the exit code of each as it ends."""
        pool = DaemonPool(self._follow_one, ids, AT_ONCE)
        with self.progress.ticking() if self._draws else nullcontext():
            for _, code in pool.results():
                yield code
        self.progress.clear()

    def _follow_one(self, name: str) -> Exit:
        follow: Callable[[str], Exit] = self._follow_batch if name.startswith(BATCH_PREFIX) else self._follow_job
        try:
            return follow(name)
        except TrellisError as error:
            self.progress.remove(name)
            with self.progress.above():
                return self._session.report(error, self._args, name)

    def _follow_job(self, job_id: str) -> Exit:
        handle = self._client.get(job_id)
        for event in _read_events(handle, self._args.after):
            if not self._args.json:
                self.progress.show(job_id, event.job)
                continue
            job = {name: value for name, value in event.job.raw.items() if name != "preview"}
            more = {"preview": event.preview} if event.preview else {}
            with self.progress.above():
                self._session.print_json({"event": event.id, "type": event.type, "job": job, **more})
        return self._end(job_id, _exit_of_status(handle.status), _describe_end(handle.job))

    def _follow_batch(self, batch_id: str) -> Exit:
        handle = self._client.get_batch(batch_id)
        previous: Batch | None = None
        for batch in handle.snapshots():
            if previous is None or batch.raw != previous.raw:
                self._show_batch(batch, previous)
            previous = batch
        return self._end(batch_id, exit_of_batch(handle.batch), counts_line(handle.batch))

    def _show_batch(self, batch: Batch, previous: Batch | None) -> None:
        if self._args.json:
            with self.progress.above():
                self._session.print_json({"event": None, "type": f"batch.{batch.status}", "batch": batch.raw})
        else:
            counts = batch.counts
            ended = counts.total - counts.queued - counts.running
            short = f"{ended:,} of {counts.total:,}" + (f", {counts.failed:,} failed" if counts.failed else "")
            phase = short if self._draws else counts_line(batch)
            self.progress.show_line(batch.id, Line(batch.id, phase, ended / (counts.total or 1), batch.eta_seconds))
        needs_confirmation = batch.status is BatchStatus.AWAITING_CONFIRMATION
        if needs_confirmation and (previous is None or previous.status is not batch.status):
            with self.progress.above():
                self._session.print_error(f"{batch.id} waits for confirmation: trellis2 batch confirm {batch.id}")

    def _end(self, name: str, code: Exit, text: str) -> Exit:
        """Print the end of a job or batch, unless it is a success that its last event has shown."""
        self.progress.remove(name)
        with self.progress.above():
            if self._draws:
                self._session.print(f"{name}  {text}")
            elif code is not Exit.DONE:
                self._session.print_error(f"{name}: {text}")
        return code


def _read_events(handle: JobHandle, after: str) -> Iterator[JobEvent]:
    """Iterate over a job's events: from its stream, or by polling if there is no stream."""
    try:
        yield from handle.stream(after)
    except NoStream:
        for job in handle.events():
            yield JobEvent("", "progress" if job.status is Status.RUNNING else job.status, job)


def _exit_of_status(status: Status) -> Exit:
    if status is Status.CANCELED:
        return Exit.CANCELED
    return Exit.DONE if status is Status.SUCCEEDED else Exit.FAILED


def _describe_end(job: Job) -> str:
    took = duration_s(job)
    time = f", {took:.1f} s" if took is not None else ""
    cost = f", ${job.cost_usd:.4f}" if job.cost_usd else ""
    return f"{job.status}{time}{cost}" + (f": {job.error.detail}" if job.error else "")
