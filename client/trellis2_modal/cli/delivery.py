"""Seeing jobs through to files on disk."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from trellis2_modal.cli.exits import Exit
from trellis2_modal.cli.progress import Progress
from trellis2_modal.cli.session import Session
from trellis2_modal.errors import TrellisError
from trellis2_modal.handle import JobHandle
from trellis2_modal.job import Artifact, Job


@dataclass(frozen=True, slots=True)
class Order:
    """A job in hand, what to call it, and which artifact goes where."""

    handle: JobHandle
    label: str
    files: dict[str, Path]


class Delivery:
    """The jobs of one command, each followed to its end."""

    def __init__(self, args: argparse.Namespace, session: Session) -> None:
        self.orders: list[Order] = []
        self._args = args
        self._session = session
        self._progress = None if args.quiet else Progress.on(session.err, session.width, session.clock)

    def announce(self, order: Order) -> Exit:
        """Tell of a job that is left to itself."""
        if self._args.json:
            self._session.say_json(order.handle.job.raw)
        else:
            self._session.say(order.handle.id)
        return Exit.DONE

    def finish(self, order: Order) -> Exit:
        """Follow a job, save its results, tell of them."""
        try:
            self._follow(order)
            order.handle.wait()
            if lacking := order.files.keys() - order.handle.job.artifacts.keys():
                raise FileNotFoundError(f"{order.handle.id} has no {', '.join(sorted(lacking))}: export it with that")
            for name, path in order.files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                order.handle.download(name, path)
        except (TrellisError, OSError) as error:
            self.clear()
            return self._session.report(error, self._args)
        self._tell(order)
        return Exit.DONE

    def cancel(self) -> None:
        """Stop what is still going on."""
        for order in self.orders:
            if not order.handle.status.is_terminal:
                self._session.complain(f"canceling {order.label} ({order.handle.id}); Ctrl-C again lets it run")
                order.handle.cancel()

    def clear(self) -> None:
        """Make room for a line of text."""
        if self._progress:
            self._progress.clear()

    def _follow(self, order: Order) -> None:
        progress = self._progress
        with progress.ticking() if progress else nullcontext():
            for job in order.handle.events():
                if progress:
                    progress.show(order.label, job)
        self.clear()

    def _tell(self, order: Order) -> None:
        job = order.handle.job
        if self._args.json:
            self._session.say_json({**job.raw, "files": {name: str(path) for name, path in order.files.items()}})
            return
        for name, path in order.files.items():
            self._session.say(f"{path}  {_measures(job.artifacts[name])}")
        for sentence in _shortcomings(job):
            self._session.complain(f"{order.label}: {sentence}")
        if self._progress and job.timings:
            stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in job.timings.items())
            self._session.complain(f"{order.label}: {stages}; {sum(job.timings.values()):.1f} s in all")


@contextmanager
def delivering(args: argparse.Namespace, session: Session) -> Iterator[Delivery]:
    """A Delivery whose unfinished jobs are canceled when the person at the keyboard gives up."""
    delivery = Delivery(args, session)
    try:
        yield delivery
    except KeyboardInterrupt:
        delivery.clear()
        delivery.cancel()
        raise


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
