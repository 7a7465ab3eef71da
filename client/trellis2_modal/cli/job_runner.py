"""Seeing jobs through to files on disk, several side by side."""

import argparse
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from trellis2_modal.cli.context import Session
from trellis2_modal.cli.exit_codes import Exit, worst
from trellis2_modal.cli.output.progress import Progress
from trellis2_modal.cli.thread_pool import DaemonPool
from trellis2_modal.errors import JobCanceled, NotAllowed, NotReachable, TrellisError
from trellis2_modal.resources.jobs import JobHandle
from trellis2_modal.types.job import Artifact, Job

PATIENCE_S = 10.0  # what is on its way when Ctrl-C comes has so long to arrive
SHOWN_NAMES = 5
_HOPELESS = (Exit.UNREACHABLE, Exit.NOT_ALLOWED)


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A job in hand, what to call it, and which artifact goes where.

    item: what the command was given, as it was given. more: what the job's JSON says beside the job.
    """

    handle: JobHandle
    item: str
    label: str
    files: Mapping[str, Path]
    more: Mapping[str, str] = field(default_factory=dict)


class JobRunner:
    """The jobs of one command, each followed to its end; its methods may be called from several threads."""

    def __init__(self, args: argparse.Namespace, session: Session, *, is_ours: bool = True) -> None:
        """is_ours: the command made the jobs, so Ctrl-C cancels them."""
        self._args = args
        self._session = session
        self._is_ours = is_ours
        self._progress = None if args.quiet else Progress.on(session.err, session.width, session.clock, session.height)
        self._orders: list[PendingJob] = []
        self._is_stopped = False
        self._told: set[str] = set()
        self._lock = Lock()

    def run(self, work: Callable[[str], Exit], items: Sequence[str], at_once: int, name: Callable[[str], str]) -> Exit:
        """Do the work on all items, side by side; the worst of what came of them.

        Where the service does not answer at all, or does not know the key, no further ones are begun. Ctrl-C cancels
        what goes on, and CANCELED is what comes of it.
        """
        ends: dict[str, Exit] = {}

        def noted(item: str) -> Exit:
            end = ends[item] = work(item)  # here, where no Ctrl-C can come between
            if end in _HOPELESS:
                crew.settle_rest(end)
            return end

        crew = DaemonPool(noted, items, at_once)
        with self._progress.ticking() if self._progress else nullcontext():
            try:
                self._count(ends, items)
                for item, end in crew.results():
                    ends.setdefault(item, end)
                    self._count(ends, items)
            except KeyboardInterrupt:
                self._clear()
                crew.settle_rest(Exit.CANCELED)
                self._cancel()
                crew.join(PATIENCE_S)
                ends = dict.fromkeys(items, Exit.CANCELED) | ends
            self._clear()
        self._sum_up(ends, name)
        return Exit.CANCELED if self._is_stopped else worst(ends.values())

    def begin(self, item: str, label: str) -> None:
        """Show that one was begun."""
        if self._progress:
            self._progress.begin(item, label, "sending")

    def announce(self, order: PendingJob, text: str) -> Exit:
        """Tell of a job that is left to itself."""
        self._leave(order.item)
        with self._above():
            if self._args.json:
                self._session.say_json({**order.handle.job.raw, **order.more})
            else:
                self._session.say(text)
        return Exit.DONE

    def finish(self, order: PendingJob) -> Exit:
        """Follow a job, save its results, tell of them."""
        with self._lock:
            self._orders.append(order)
            is_late = self._is_stopped
        try:
            if is_late:
                order.handle.cancel()
            for job in order.handle.events():
                if self._progress and not self._is_stopped:
                    self._progress.show(order.label, job, order.item)
            order.handle.wait()
            self._save(order)
        except (TrellisError, OSError) as error:
            return self.report(error, order.item, order.label if order.label != order.handle.id else "", order.more)
        self._leave(order.item)
        with self._above():
            self._tell(order)
        return Exit.DONE

    def report(self, error: Exception, item: str, label: str, more: Mapping[str, str]) -> Exit:
        """Tell of an error that befell one of the items; of one that befalls them all, once."""
        self._leave(item)
        is_everybodys = isinstance(error, NotAllowed | NotReachable)
        with self._above():
            is_old_news = (is_everybodys and str(error) in self._told) or (
                self._is_stopped and isinstance(error, JobCanceled)
            )
            self._told.add(str(error))
            about = "" if is_everybodys else label
            return self._session.report(error, self._args, about, is_told=is_old_news, **more)

    def _save(self, order: PendingJob) -> None:
        job = order.handle.job
        if lacking := order.files.keys() - job.artifacts.keys():
            names = ", ".join(sorted(lacking))
            raise FileNotFoundError(f"{job.id} has no {names}: `trellis2 export {job.id}` with --{names} makes it")
        for name, path in order.files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                order.handle.download(name, path)
            except OSError as error:
                mend = f"`trellis2 get {job.id} -o FOLDER` saves it elsewhere"
                raise OSError(f"{path} cannot be written: {error.strerror or error}; {mend}") from error

    def _cancel(self) -> None:
        """Stop what is still going on."""
        with self._lock:
            self._is_stopped = True
            going_on = [order for order in self._orders if not order.handle.status.is_terminal]
        what = _listed(f"{order.label} ({order.handle.id})" for order in going_on)
        if not (self._is_ours and going_on):
            self._session.complain("interrupted" + (f"; {what} goes on" if what else ""))
            return
        it = "it" if len(going_on) == 1 else "them"
        self._session.complain(f"canceling {what}; Ctrl-C again lets {it} run")
        for order in going_on:
            try:
                order.handle.cancel()
            except TrellisError as error:
                self._session.complain(f"{order.label}: not canceled: {error}")

    def _count(self, ends: Mapping[str, Exit], items: Sequence[str]) -> None:
        if self._progress and len(items) > 1:
            bad = sum(end is not Exit.DONE for end in ends.values())
            self._progress.footer = f"{len(ends) - bad} of {len(items)} done" + (f", {bad} failed" if bad else "")

    def _sum_up(self, ends: Mapping[str, Exit], name: Callable[[str], str]) -> None:
        if len(ends) < 2 or not self._progress:
            return
        bad = [name(item) for item, end in ends.items() if end is not Exit.DONE]
        text = f"{len(ends) - len(bad)} of {len(ends)} done"
        self._session.complain(text + (f"; not done: {_listed(bad)}" if bad else ""))

    def _clear(self) -> None:
        if self._progress:
            self._progress.clear()

    def _leave(self, item: str) -> None:
        if self._progress:
            self._progress.leave(item)

    def _above(self) -> AbstractContextManager[object]:
        return self._progress.above() if self._progress else self._lock

    def _tell(self, order: PendingJob) -> None:
        job = order.handle.job
        if self._args.json:
            files = {name: str(path) for name, path in order.files.items()}
            self._session.say_json({**job.raw, "files": files, **order.more})
            return
        for name, path in order.files.items():
            self._session.say(f"{path}  {_measures(job.artifacts[name])}")
        for sentence in _shortcomings(job):
            self._session.complain(f"{order.label}: {sentence}")
        if self._progress and job.timings:
            stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in job.timings.items())
            self._session.complain(f"{order.label}: {stages}; {sum(job.timings.values()):.1f} s in all")


def make_folders(files: Iterable[Path]) -> None:
    """Make the folders that files will be written to: before a job is paid for, not after.

    Raises:
        OSError: one cannot be made, or not be written to.
    """
    for folder in {file.parent for file in files}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; choose another folder with -o", str(folder)) from error


def _listed(names: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    every = list(names)
    rest = f" and {len(every) - SHOWN_NAMES} more" if len(every) > SHOWN_NAMES else ""
    return ", ".join(every[:SHOWN_NAMES]) + rest


def _measures(artifact: Artifact) -> str:
    parts = [size(artifact.bytes)]
    if artifact.triangles:
        parts.append(f"{artifact.triangles:,} triangles")
    if artifact.texture_px:
        parts.append(f"{artifact.texture_px} px")
    return "  ".join(parts)


def _shortcomings(job: Job) -> Iterator[str]:
    """What the model is not that it was to be: a sentence each."""
    model = job.artifacts.get("model")
    for one in model.lowered if model else ():
        yield f"{one.name} was lowered from {one.wanted} to {one.made}, so that it fits"
    for check in job.checks:
        if not check.passed:
            yield f"{check.name} is {check.measured}, the limit {check.limit}"


def size(size_bytes: int) -> str:
    """A length in the unit that suits it."""
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1_000:.0f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"
