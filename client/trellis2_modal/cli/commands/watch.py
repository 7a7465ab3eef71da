"""The command `trellis2 watch`: jobs and batches, followed live to their ends."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice

from trellis2_modal._http import TRIES
from trellis2_modal.cli.commands.batch import counts_line, exit_of_batch
from trellis2_modal.cli.commands.jobs import UNFINISHED, found
from trellis2_modal.cli.context import Session, Subparsers, command_parser
from trellis2_modal.cli.exit_codes import Exit, worst
from trellis2_modal.cli.output.progress import Line, Progress
from trellis2_modal.cli.thread_pool import DaemonPool
from trellis2_modal.client import Client
from trellis2_modal.errors import NoStream, TrellisError
from trellis2_modal.resources.events import JobEvent
from trellis2_modal.resources.jobs import JobHandle
from trellis2_modal.types.batch import Batch, BatchStatus
from trellis2_modal.types.job import Status

AT_ONCE = 32
MOST = 1_000
BATCH = "batch_"


def add_watch(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 watch JOB`."""
    parser = command_parser(subparsers, "watch", sentence)
    parser.add_argument("ids", nargs="*", metavar="JOB", help="a job or a batch; without any, all of yours that go on")
    parser.add_argument("--after", default="", metavar="EVENT", help="go on after this event of the one job, by its id")
    parser.set_defaults(run=session.guarded(lambda args: _watch(args, session, parser)))


def _watch(args: argparse.Namespace, session: Session, parser: argparse.ArgumentParser) -> int:
    if args.after and len(args.ids) != 1:
        parser.error("--after goes with one job")
    with session.client(args, TRIES) as client:
        ids = list(dict.fromkeys(args.ids or islice(_going_on(client), MOST)))
        if not ids:
            session.complain("nothing goes on")
        watch = Watch(client, args, session)
        try:
            return worst(watch.follow(ids))
        except KeyboardInterrupt:
            watch.progress.clear()
            session.complain("interrupted; what was watched goes on")
            return Exit.CANCELED


def _going_on(client: Client) -> Iterator[str]:
    """Batches that run, and jobs that are not theirs."""
    for batch in islice(client.list_batches(), MOST):
        if not batch.status.is_terminal and batch.status is not BatchStatus.AWAITING_CONFIRMATION:
            yield batch.id
    for handle in found(client, UNFINISHED):
        if not handle.job.batch_id:
            yield handle.id


class Watch:
    """What is followed, and where it is shown: drawn on a terminal, a line for each news in a pipe or as JSON."""

    def __init__(self, client: Client, args: argparse.Namespace, session: Session) -> None:
        self._client = client
        self._args = args
        self._session = session
        self._draws = session.out.isatty() and session.err.isatty() and not args.json
        stream = session.err if self._draws else session.out
        self.progress = Progress.on(stream, session.width, session.clock, session.height)

    def follow(self, ids: list[str]) -> Iterator[Exit]:
        """How each of them ended, as it ends."""
        crew = DaemonPool(self._one, ids, AT_ONCE)
        with self.progress.ticking() if self._draws else nullcontext():
            for _, end in crew.results():
                yield end
        self.progress.clear()

    def _one(self, name: str) -> Exit:
        follow: Callable[[str], Exit] = self._batch if name.startswith(BATCH) else self._job
        try:
            return follow(name)
        except TrellisError as error:
            self.progress.leave(name)
            with self.progress.above():
                return self._session.report(error, self._args, name)

    def _job(self, job_id: str) -> Exit:
        handle = self._client.get(job_id)
        for event in _events(handle, self._args.after):
            if not self._args.json:
                self.progress.show(job_id, event.job)
                continue
            job = {name: value for name, value in event.job.raw.items() if name != "preview"}
            more = {"preview": event.preview} if event.preview else {}
            with self.progress.above():
                self._session.say_json({"event": event.id, "type": event.type, "job": job, **more})
        return self._ended(job_id, _end_of(handle.status), _sentence(handle))

    def _batch(self, batch_id: str) -> Exit:
        handle = self._client.get_batch(batch_id)
        before: Batch | None = None
        for batch in handle.snapshots():
            if before is None or batch.raw != before.raw:
                self._tell_batch(batch, before)
            before = batch
        return self._ended(batch_id, exit_of_batch(handle.batch), counts_line(handle.batch))

    def _tell_batch(self, batch: Batch, before: Batch | None) -> None:
        if self._args.json:
            with self.progress.above():
                self._session.say_json({"event": None, "type": f"batch.{batch.status}", "batch": batch.raw})
        else:
            counts = batch.counts
            ended = counts.total - counts.queued - counts.running
            short = f"{ended:,} of {counts.total:,}" + (f", {counts.failed:,} failed" if counts.failed else "")
            phase = short if self._draws else counts_line(batch)
            self.progress.show_line(batch.id, Line(batch.id, phase, ended / (counts.total or 1), batch.eta_seconds))
        waits = batch.status is BatchStatus.AWAITING_CONFIRMATION
        if waits and (before is None or before.status is not batch.status):
            with self.progress.above():
                self._session.complain(f"{batch.id} waits for a yes: trellis2 batch confirm {batch.id}")

    def _ended(self, name: str, end: Exit, text: str) -> Exit:
        """Tell of an end where the events did not, and of a bad one in any case."""
        self.progress.leave(name)
        with self.progress.above():
            if self._draws:
                self._session.say(f"{name}  {text}")
            elif end is not Exit.DONE:
                self._session.complain(f"{name}: {text}")
        return end


def _events(handle: JobHandle, after: str) -> Iterator[JobEvent]:
    """A job's events from the stream; where there is none, from asking again and again."""
    try:
        yield from handle.stream(after)
    except NoStream:
        for job in handle.events():
            yield JobEvent("", "progress" if job.status is Status.RUNNING else job.status, job)


def _end_of(status: Status) -> Exit:
    if status is Status.CANCELED:
        return Exit.CANCELED
    return Exit.DONE if status is Status.SUCCEEDED else Exit.FAILED


def _sentence(handle: JobHandle) -> str:
    job = handle.job
    took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
    parts = [
        str(job.status),
        f"{took:.1f} s" if took is not None else "",
        f"${job.cost_usd:.4f}" if job.cost_usd else "",
    ]
    return ", ".join(filter(None, parts)) + (f": {job.error.detail}" if job.error else "")
