"""The command `trellis2 batch`: a catalog in, assets out."""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

from trellis2_modal.cli.context import Session, Subparsers, command_parser
from trellis2_modal.cli.exit_codes import Exit, worst
from trellis2_modal.cli.job_runner import make_folders
from trellis2_modal.cli.options import GENERATE, add_parameters, given, whole
from trellis2_modal.cli.output.batch_output import save_results
from trellis2_modal.errors import TrellisError
from trellis2_modal.resources.batches import BatchHandle
from trellis2_modal.types.batch import Batch, BatchStatus

SHOWN_ERRORS = 5
_CATALOGS = {".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".xml"}


def add_batch(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 batch run catalog.csv --preset shopify --max-cost 50`."""
    parser = subparsers.add_parser("batch", help=sentence, description=sentence, allow_abbrev=False)
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(verbs, session)
    _add_verb(verbs, session, "status", "Show how batches stand.", None)
    _add_verb(verbs, session, "confirm", "Let planned batches run.", BatchHandle.confirm)
    _add_verb(verbs, session, "pause", "Begin no further rows.", BatchHandle.pause)
    _add_verb(verbs, session, "resume", "Go on with paused batches.", BatchHandle.resume)
    _add_verb(verbs, session, "cancel", "Cancel every row that has not ended.", BatchHandle.cancel)
    _add_retry(verbs, session)
    _add_results(verbs, session)
    listing = command_parser(verbs, "list", "List your batches, newest first.")
    listing.add_argument("--limit", type=whole(1, 1_000_000), default=20, metavar="N", help="at most this many (20)")
    listing.set_defaults(run=session.guarded(lambda args: _list(args, session)))


def _add_run(verbs: Subparsers, session: Session) -> None:
    parser = command_parser(verbs, "run", "Submit a catalog, show what was found and what it costs, and run it.")
    parser.add_argument("catalog", metavar="CATALOG", help="CSV, JSON lines, a zip or a folder of images")
    parser.add_argument("--images", metavar="PATH", help="a folder or zip of images named by the ids of the rows")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="save assets and reports there")
    parser.add_argument("-y", "--yes", action="store_true", help="run without asking")
    parser.add_argument("--no-wait", action="store_true", help="leave once it runs")
    parser.add_argument("--rerun", action="store_true", help="run rows, too, that were made just so before")
    parser.add_argument("--deliver-to", metavar="URL", help="PUT finished files under this URL")
    parser.add_argument("--engine", help="what makes the assets; else the service's own choice")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    _add_bounds(parser)
    add_parameters(parser, GENERATE)
    parser.set_defaults(run=session.guarded(lambda args: _run(args, session)))


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-cost", type=float, metavar="USD", help="stop before it costs more")
    parser.add_argument("--max-failures", type=int, metavar="N", help="stop once so many rows have failed")


def _add_verb(
    verbs: Subparsers, session: Session, name: str, sentence: str, change: Callable[[BatchHandle], Batch] | None
) -> None:
    parser = command_parser(verbs, name, sentence)
    parser.add_argument("batches", nargs="+", metavar="BATCH")
    parser.set_defaults(run=session.guarded(lambda args: _change(args, session, change)))


def _add_retry(verbs: Subparsers, session: Session) -> None:
    parser = command_parser(verbs, "retry", "Run what did not succeed again.")
    parser.add_argument("batches", nargs="+", metavar="BATCH")
    _add_bounds(parser)

    def run(args: argparse.Namespace) -> int:
        again = partial(BatchHandle.retry, max_cost_usd=args.max_cost, max_failures=args.max_failures)
        return _change(args, session, again)

    parser.set_defaults(run=session.guarded(run))


def _add_results(verbs: Subparsers, session: Session) -> None:
    parser = command_parser(verbs, "results", "Save what there is so far: assets named by their ids, and reports.")
    parser.add_argument("batch", metavar="BATCH")
    parser.add_argument("-o", "--output", metavar="FOLDER", default=".", help="where; else here")
    parser.add_argument("--reports-only", action="store_true", help="results.csv and errors.csv alone")

    def run(args: argparse.Namespace) -> int:
        with session.client(args) as client:
            handle = client.get_batch(args.batch)
            return _save(handle, Path(args.output), args, session, with_files=not args.reports_only)

    parser.set_defaults(run=session.guarded(run))


def _run(args: argparse.Namespace, session: Session) -> int:
    catalog = Path(args.catalog)
    if args.output:
        make_folders([Path(args.output) / "results.csv"])
    is_catalog = catalog.is_file() and catalog.suffix.lower() in _CATALOGS
    with session.client(args) as client:
        handle = client.submit_batch(
            catalog if is_catalog else None,
            images=args.images if is_catalog else catalog,
            preset=args.preset,
            engine=args.engine,
            max_cost_usd=args.max_cost,
            max_failures=args.max_failures,
            rerun=args.rerun or None,
            deliver_to=args.deliver_to,
            **given(args, GENERATE),
        )
        try:
            handle.wait_until_planned()
            if (ended := _confirmed(handle, args, session)) is not None:
                return ended
            return _followed(handle, args, session)
        except KeyboardInterrupt:
            session.complain(f"it goes on without you; stop it with: trellis2 batch cancel {handle.id}")
            raise


def _confirmed(handle: BatchHandle, args: argparse.Namespace, session: Session) -> Exit | None:
    """Show the plan and have it confirmed; an exit where it is not to run."""
    _tell_plan(handle, session)
    if handle.status is BatchStatus.FAILED:
        session.complain((handle.batch.error or {}).get("detail", "the catalog cannot be read"))
        _tell(handle, args, session)
        return Exit.REFUSED
    plan = handle.batch.plan
    if plan and plan.to_run and not args.yes:
        answer = session.ask(f"Run {plan.to_run:,} rows?")
        if not answer:
            if answer is None:
                session.complain(f"nobody to ask; run it with: trellis2 batch confirm {handle.id}")
            _tell(handle, args, session)
            return Exit.DONE if answer is None else Exit.CANCELED
    handle.confirm()
    return None


def _followed(handle: BatchHandle, args: argparse.Namespace, session: Session) -> int:
    if args.no_wait:
        _tell(handle, args, session)
        return Exit.DONE
    last = ""
    for batch in handle.snapshots():
        line = counts_line(batch)
        if line != last and not args.quiet:
            session.complain(line)
        last = line
    saved = _save(handle, Path(args.output), args, session) if args.output else Exit.DONE
    _tell(handle, args, session)
    return saved or exit_of_batch(handle.batch)


def _tell_plan(handle: BatchHandle, session: Session) -> None:
    """What was found, what it will cost, and the first rows that cannot run."""
    plan = handle.batch.plan
    if plan is None:
        return
    parts = [
        f"{plan.rows:,} rows",
        f"{plan.to_run:,} to run",
        f"{plan.reused:,} made before",
        f"{plan.invalid:,} wrong",
    ]
    session.complain(", ".join(parts))
    if plan.seconds is not None and plan.to_run:
        needs = [f"about {_duration(plan.seconds)}"]
        needs += [f"{plan.gpu_seconds:,.0f} s of a GPU"] if plan.gpu_seconds else []
        needs += [f"${plan.cost_usd:,.2f}"] if plan.cost_usd else []
        session.complain("it will need " + ", ".join(needs))
    if plan.invalid:
        wrong = (row for row in handle.rows() if row.errors)
        for row in islice(wrong, SHOWN_ERRORS):
            for error in row.errors[:1]:
                place = f"line {error['line']}" + (f", column {error['column']}" if error.get("column") else "")
                session.complain(f"  {place}: {error['detail']}")
        if plan.invalid > SHOWN_ERRORS:
            session.complain(f"  all of them: trellis2 batch results {handle.id} --reports-only")


def _save(
    handle: BatchHandle, folder: Path, args: argparse.Namespace, session: Session, *, with_files: bool = True
) -> Exit:
    report = partial(session.report, args=args)
    failed = save_results(handle, folder, with_files=with_files, failed=report)
    if not args.json:
        session.say(f"{folder / 'results.csv'}")
    return failed


def _change(args: argparse.Namespace, session: Session, change: Callable[[BatchHandle], Batch] | None) -> int:
    exits: list[Exit] = []
    with session.client(args) as client:
        for batch_id in args.batches:
            try:
                handle = client.get_batch(batch_id)
                if change:
                    change(handle)
            except TrellisError as error:
                exits.append(session.report(error, args, batch_id if len(args.batches) > 1 else ""))
                continue
            _tell(handle, args, session)
    return worst(exits)


def _list(args: argparse.Namespace, session: Session) -> int:
    with session.client(args) as client:
        for handle in islice(client.list_batches(), args.limit):
            _tell(handle, args, session)
    return Exit.DONE


def _tell(handle: BatchHandle, args: argparse.Namespace, session: Session) -> None:
    if args.json:
        session.say_json(handle.batch.raw)
    else:
        session.say(f"{handle.id}  {counts_line(handle.batch)}")


def counts_line(batch: Batch) -> str:
    """A batch in a line: its status, and how its rows stand."""
    counts = batch.counts
    words = ("succeeded", "running", "queued", "failed", "canceled", "skipped")
    shown = [f"{getattr(counts, word):,} {word}" for word in words if getattr(counts, word)]
    why = f" ({batch.stop_reason})" if batch.stop_reason and batch.status is not BatchStatus.CANCELED else ""
    cost = f", ${batch.cost_usd:,.2f}" if batch.cost_usd else ""
    return f"{batch.status.replace('_', ' ')}{why}: {', '.join(shown) or 'no rows yet'} of {counts.total:,}{cost}"


def exit_of_batch(batch: Batch) -> Exit:
    """The exit code of a batch that has ended."""
    if batch.status is BatchStatus.CANCELED:
        return Exit.CANCELED
    counts = batch.counts
    return Exit.FAILED if counts.failed or counts.skipped or counts.canceled else Exit.DONE


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
