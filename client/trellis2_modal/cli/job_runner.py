"""Follows several jobs at once until their results are saved."""

import argparse
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from trellis2_modal.cli.context import Session
from trellis2_modal.cli.exit_codes import Exit, worst
from trellis2_modal.cli.progress import Progress
from trellis2_modal.cli.thread_pool import DaemonPool
from trellis2_modal.errors import JobCanceled, NotAllowed, NotReachable, TrellisError
from trellis2_modal.resources.jobs import JobHandle
from trellis2_modal.types.job import Artifact, Job

INTERRUPT_TIMEOUT_S = 10.0  # after Ctrl-C, for requests that are already running
MAX_LISTED = 5
_FATAL = (Exit.UNREACHABLE, Exit.NOT_ALLOWED)


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A submitted job, its label in messages, and the target file of each artifact.

    item: the command's argument for it. more: extra fields of the job's JSON.
    """

    handle: JobHandle
    item: str
    label: str
    files: Mapping[str, Path]
    more: Mapping[str, str] = field(default_factory=dict)


class JobRunner:
    """Runs the jobs of one command, each to its end. The methods are safe from several threads."""

    def __init__(self, args: argparse.Namespace, session: Session, *, is_owner: bool = True) -> None:
        """is_owner: the command submitted the jobs, so Ctrl-C cancels them."""
        self._args = args
        self._session = session
        self._is_owner = is_owner
        stream = None if args.quiet else session.err
        self._progress = Progress(stream, session.width, session.clock, session.height)
        self._jobs: list[PendingJob] = []
        self._is_stopped = False
        self._reported: set[str] = set()
        self._lock = Lock()

    def run(
        self, work: Callable[[str], Exit], items: Sequence[str], at_once: int, label_of: Callable[[str], str]
    ) -> Exit:
        """Run `work` on all items, `at_once` in parallel, and return the worst exit code.

        If the service is not reachable or rejects the key, no further items start. Ctrl-C cancels the running jobs.
        """
        exits: dict[str, Exit] = {}

        def run_item(item: str) -> Exit:
            code = exits[item] = work(item)  # recorded in the thread, where Ctrl-C cannot interrupt
            if code in _FATAL:
                pool.skip_rest(code)
            return code

        pool = DaemonPool(run_item, items, at_once)
        with self._progress.ticking():
            try:
                self._show_count(exits, items)
                for item, code in pool.results():
                    exits.setdefault(item, code)
                    self._show_count(exits, items)
            except KeyboardInterrupt:
                self._progress.clear()
                pool.skip_rest(Exit.CANCELED)
                self._cancel()
                pool.join(INTERRUPT_TIMEOUT_S)
                exits = dict.fromkeys(items, Exit.CANCELED) | exits
            self._progress.clear()
        self._print_summary(exits, label_of)
        return Exit.CANCELED if self._is_stopped else worst(exits.values())

    def begin(self, item: str, label: str) -> None:
        """Show that an item is being sent."""
        self._progress.begin(item, label, "sending")

    def print_submitted(self, job: PendingJob, text: str) -> Exit:
        """Print a job without following it."""
        self._progress.remove(job.item)
        with self._progress.above():
            self._session.print_result(self._args, {**job.handle.job.raw, **job.more}, text)
        return Exit.DONE

    def finish(self, job: PendingJob) -> Exit:
        """Follow a job, save its results, and print them."""
        with self._lock:
            self._jobs.append(job)
            is_late = self._is_stopped
        try:
            if is_late and self._is_owner:
                job.handle.cancel()
            for snapshot in job.handle.events():
                if not self._is_stopped:
                    self._progress.show(job.label, snapshot, job.item)
            job.handle.wait()
            self._save(job)
        except (TrellisError, OSError) as error:
            return self.report(error, job.item, job.label if job.label != job.handle.id else "", job.more)
        self._progress.remove(job.item)
        with self._progress.above():
            self._print_results(job)
        return Exit.DONE

    def report(self, error: Exception, item: str, label: str, more: Mapping[str, str]) -> Exit:
        """Report an item's error; an error that concerns all items is printed once."""
        self._progress.remove(item)
        concerns_all = isinstance(error, NotAllowed | NotReachable)
        with self._progress.above():
            is_known = (concerns_all and str(error) in self._reported) or (
                self._is_stopped and isinstance(error, JobCanceled)
            )
            self._reported.add(str(error))
            subject = "" if concerns_all else label
            return self._session.report(error, self._args, subject, is_known=is_known, **more)

    def _save(self, job: PendingJob) -> None:
        record = job.handle.job
        if missing := job.files.keys() - record.artifacts.keys():
            names = ", ".join(sorted(missing))
            hint = f"`trellis2 export {record.id}` with --{names} creates it"
            raise FileNotFoundError(f"{record.id} has no {names}: {hint}")
        for name, path in job.files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                job.handle.download(name, path)
            except OSError as error:
                hint = f"`trellis2 get {record.id} -o FOLDER` saves it elsewhere"
                raise OSError(f"{path} cannot be written: {error.strerror or error}; {hint}") from error

    def _cancel(self) -> None:
        """Cancel the running jobs after Ctrl-C."""
        with self._lock:
            self._is_stopped = True
            running = [job for job in self._jobs if not job.handle.status.is_terminal]
        names = _list_names(f"{job.label} ({job.handle.id})" for job in running)
        if not (self._is_owner and running):
            verb = "continues" if len(running) == 1 else "continue"
            self._session.print_error("interrupted" + (f"; {names} {verb}" if names else ""))
            return
        pronoun = "it" if len(running) == 1 else "them"
        self._session.print_error(f"canceling {names}; press Ctrl-C again to let {pronoun} run")
        for job in running:
            try:
                job.handle.cancel()
            except TrellisError as error:
                self._session.print_error(f"{job.label}: not canceled: {error}")

    def _show_count(self, exits: Mapping[str, Exit], items: Sequence[str]) -> None:
        if len(items) > 1:
            failed = sum(code is not Exit.DONE for code in exits.values())
            text = f"{len(exits) - failed} of {len(items)} done"
            self._progress.footer = text + (f", {failed} failed" if failed else "")

    def _print_summary(self, exits: Mapping[str, Exit], label_of: Callable[[str], str]) -> None:
        if len(exits) < 2 or self._args.quiet:
            return
        failed = [label_of(item) for item, code in exits.items() if code is not Exit.DONE]
        text = f"{len(exits) - len(failed)} of {len(exits)} done"
        self._session.print_error(text + (f"; not done: {_list_names(failed)}" if failed else ""))

    def _print_results(self, job: PendingJob) -> None:
        record = job.handle.job
        if self._args.json:
            files = {name: str(path) for name, path in job.files.items()}
            self._session.print_json({**record.raw, "files": files, **job.more})
            return
        for name, path in job.files.items():
            self._session.print(f"{path}  {_describe_artifact(record.artifacts[name])}")
        for warning in _warnings(record):
            self._session.print_error(f"{job.label}: {warning}")
        if record.timings and not self._args.quiet:
            stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in record.timings.items())
            self._session.print_error(f"{job.label}: {stages}; {sum(record.timings.values()):.1f} s in total")


def make_folders(files: Iterable[Path]) -> None:
    """Create the folders of the target files before a job is paid for.

    Raises:
        OSError: a folder cannot be created or written to.
    """
    for folder in {file.parent for file in files}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; choose another folder with -o", str(folder)) from error


def _list_names(names: Iterable[str]) -> str:
    """List the first MAX_LISTED names, and the number of the rest."""
    every = list(names)
    rest = f" and {len(every) - MAX_LISTED} more" if len(every) > MAX_LISTED else ""
    return ", ".join(every[:MAX_LISTED]) + rest


def _describe_artifact(artifact: Artifact) -> str:
    parts = [_format_size(artifact.bytes)]
    if artifact.triangles:
        parts.append(f"{artifact.triangles:,} triangles")
    if artifact.texture_px:
        parts.append(f"{artifact.texture_px} px")
    return "  ".join(parts)


def _warnings(job: Job) -> Iterator[str]:
    """Describe each lowered setting and each failed check of a model."""
    model = job.artifacts.get("model")
    for setting in model.lowered if model else ():
        yield f"{setting.name} was lowered from {setting.requested} to {setting.actual}, so that the file fits"
    for check in job.checks:
        if not check.passed:
            yield f"{check.name} is {check.measured}; the limit is {check.limit}"


def _format_size(size_bytes: int) -> str:
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1_000:.0f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"
