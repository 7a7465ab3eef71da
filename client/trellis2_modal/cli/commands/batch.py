"""The command `trellis2 batch`: a catalog in, assets out."""

import argparse
import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from trellis2_modal.cli.context import Result, Session, operation_parser
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.files import SUFFIXES
from trellis2_modal.cli.job_runner import make_folders
from trellis2_modal.cli.options import GENERATE, add_parameters, given_parameters, integer
from trellis2_modal.cli.parsers import Subparsers, command_group, command_parser
from trellis2_modal.client import Client
from trellis2_modal.errors import TrellisError
from trellis2_modal.resources.batches import BatchHandle
from trellis2_modal.types.batch import Batch, BatchStatus, Row

SHOWN_ERRORS = 5
DOWNLOADS_AT_ONCE = 8
REPORTS = ("results.csv", "errors.csv")
_CATALOG_SUFFIXES = {".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".xml"}
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9._ -]+")


def add_batch(subparsers: Subparsers, session: Session, name: str, help: str) -> None:
    """`trellis2 batch run catalog.csv --preset shopify --max-cost 50`."""
    commands = command_group(subparsers, name, help)
    _add_run(commands, session)
    for verb, sentence, operation in (
        ("status", "Show the status of batches.", None),
        ("confirm", "Confirm planned batches, so that they run.", BatchHandle.confirm),
        ("pause", "Start no further rows.", BatchHandle.pause),
        ("resume", "Resume paused batches.", BatchHandle.resume),
        ("cancel", "Cancel every row that has not ended.", BatchHandle.cancel),
        ("retry", "Run rows that did not succeed again.", BatchHandle.retry),
    ):
        parser = operation_parser(commands, session, verb, sentence, partial(_apply, operation), "BATCH")
        if verb == "retry":
            _add_limits(parser)
    results = command_parser(commands, session, "results", "Save present assets, named by id, and reports.", _results)
    results.add_argument("batch", metavar="BATCH")
    results.add_argument("-o", "--output", metavar="FOLDER", default=".", help="default: the current folder")
    results.add_argument("--reports-only", action="store_true", help="save only results.csv and errors.csv")
    listing = command_parser(commands, session, "list", "List your batches, newest first.", _list)
    listing.add_argument("--limit", type=integer(1, 1_000_000), default=20, metavar="N", help="at most this many (20)")


def _add_run(commands: Subparsers, session: Session) -> None:
    parser = command_parser(commands, session, "run", "Submit a catalog, show its plan and cost, and run it.", _run)
    parser.add_argument("catalog", metavar="CATALOG", help="CSV, JSON lines, a zip or a folder of images")
    parser.add_argument("--images", metavar="PATH", help="a folder or zip of images named by the ids of the rows")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="save assets and reports there")
    parser.add_argument("-y", "--yes", action="store_true", help="run without asking for confirmation")
    parser.add_argument("--no-wait", action="store_true", help="exit once the batch runs")
    parser.add_argument(
        "--rerun", action="store_true", help="run also rows whose result of an earlier batch is reusable"
    )
    parser.add_argument("--deliver-to", metavar="URL", help="PUT finished files under this URL")
    parser.add_argument("--engine", help="the engine that creates the assets; default: the service's")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    _add_limits(parser)
    add_parameters(parser, GENERATE)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-cost", type=float, metavar="USD", help="stop before the batch costs more")
    parser.add_argument("--max-failures", type=int, metavar="N", help="stop after this many failed rows")


def _run(args: argparse.Namespace, session: Session) -> int:
    catalog = Path(args.catalog)
    if args.output:
        make_folders([Path(args.output) / "results.csv"])
    is_catalog = catalog.is_file() and catalog.suffix.lower() in _CATALOG_SUFFIXES
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
            **given_parameters(args, GENERATE),
        )
        try:
            handle.wait_until_planned()
            if (refusal := _confirm(handle, args, session)) is not None:
                return refusal
            return _follow(handle, args, session)
        except KeyboardInterrupt:
            session.print_error(f"the batch continues; stop it with: trellis2 batch cancel {handle.id}")
            raise


def _confirm(handle: BatchHandle, args: argparse.Namespace, session: Session) -> Exit | None:
    """Show the plan and ask for confirmation; return an exit code if the batch does not run."""
    _print_plan(handle, session)
    if handle.status is BatchStatus.FAILED:
        session.print_error((handle.batch.error or {}).get("detail", "the catalog cannot be read"))
        session.print_result(args, *_describe(handle))
        return Exit.REFUSED
    plan = handle.batch.plan
    if plan and plan.to_run and not args.yes:
        answer = session.ask(f"Run {plan.to_run:,} rows?")
        if not answer:
            if answer is None:
                session.print_error(f"no terminal to ask on; run it with: trellis2 batch confirm {handle.id}")
            session.print_result(args, *_describe(handle))
            return Exit.DONE if answer is None else Exit.CANCELED
    handle.confirm()
    return None


def _follow(handle: BatchHandle, args: argparse.Namespace, session: Session) -> int:
    if args.no_wait:
        session.print_result(args, *_describe(handle))
        return Exit.DONE
    last = ""
    for batch in handle.snapshots():
        line = counts_line(batch)
        if line != last and not args.quiet:
            session.print_error(line)
        last = line
    saved = _save(handle, Path(args.output), args, session) if args.output else Exit.DONE
    session.print_result(args, *_describe(handle))
    return saved or exit_of_batch(handle.batch)


def _print_plan(handle: BatchHandle, session: Session) -> None:
    """Print the number of rows, the estimate, and the first invalid rows."""
    plan = handle.batch.plan
    if plan is None:
        return
    counts = f"{plan.rows:,} rows, {plan.to_run:,} to run, {plan.reused:,} reused, {plan.invalid:,} invalid"
    session.print_error(counts)
    if plan.seconds is not None and plan.to_run:
        estimates = [f"about {_format_duration(plan.seconds)}"]
        estimates += [f"{plan.gpu_seconds:,.0f} s of GPU time"] if plan.gpu_seconds else []
        estimates += [f"${plan.cost_usd:,.2f}"] if plan.cost_usd else []
        session.print_error("estimate: " + ", ".join(estimates))
    if plan.invalid:
        for row in islice((row for row in handle.rows() if row.errors), SHOWN_ERRORS):
            error = row.errors[0]
            position = f"line {error['line']}" + (f", column {error['column']}" if error.get("column") else "")
            session.print_error(f"  {position}: {error['detail']}")
        if plan.invalid > SHOWN_ERRORS:
            session.print_error(f"  list all errors: trellis2 batch results {handle.id} --reports-only")


def _apply(operation: Callable[..., Batch] | None, client: Client, batch_id: str, args: argparse.Namespace) -> Result:
    handle = client.get_batch(batch_id)
    limits = {"max_cost_usd": args.max_cost, "max_failures": args.max_failures} if "max_cost" in args else {}
    if operation:
        operation(handle, **limits)
    return _describe(handle)


def _results(args: argparse.Namespace, session: Session) -> int:
    with session.client(args) as client:
        handle = client.get_batch(args.batch)
        return _save(handle, Path(args.output), args, session, with_files=not args.reports_only)


def _list(args: argparse.Namespace, session: Session) -> int:
    with session.client(args) as client:
        for handle in islice(client.list_batches(), args.limit):
            session.print_result(args, *_describe(handle))
    return Exit.DONE


def _save(
    handle: BatchHandle, folder: Path, args: argparse.Namespace, session: Session, *, with_files: bool = True
) -> Exit:
    """Save the reports, and the files of every succeeded row except those that exist already.

    Reports each error and continues; returns the first one's exit code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exits: list[Exit] = []
    stems: set[str] = set()

    def save_row(row: Row, stem: str) -> None:
        for name, suffix in SUFFIXES.items():
            if name in row.artifacts:
                path = folder / f"{stem}{suffix}"
                if not _is_saved(path, row.artifacts[name].sha256):
                    handle.download(row, name, path)

    if with_files:
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE, thread_name_prefix="download") as threads:
            rows = (row for row in handle.rows() if row.status == "succeeded")
            for saving in [threads.submit(save_row, row, _unique_stem(row, stems)) for row in rows]:
                try:
                    saving.result()
                except (TrellisError, OSError) as error:
                    exits.append(session.report(error, args))
    for report in REPORTS:
        handle.save(report, folder / report)
    if not args.json:
        session.print(f"{folder / 'results.csv'}")
    return next(iter(exits), Exit.DONE)


def _unique_stem(row: Row, taken: set[str]) -> str:
    """Make a file name from the row's id that no other row has."""
    stem = _UNSAFE_CHARACTERS.sub("_", row.custom_id).strip(". ") or "row"
    if stem.lower() in taken:
        stem = f"{stem}_line{row.line}"
    taken.add(stem.lower())
    return stem


def _is_saved(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except FileNotFoundError:
        return False


def _describe(handle: BatchHandle) -> Result:
    return handle.batch.raw, f"{handle.id}  {counts_line(handle.batch)}"


def counts_line(batch: Batch) -> str:
    """Describe a batch in one line: its status, and the number of rows by status."""
    counts = batch.counts
    words = ("succeeded", "running", "queued", "failed", "canceled", "skipped")
    shown = [f"{getattr(counts, word):,} {word}" for word in words if getattr(counts, word)]
    reason = f" ({batch.stop_reason})" if batch.stop_reason and batch.status is not BatchStatus.CANCELED else ""
    cost = f", ${batch.cost_usd:,.2f}" if batch.cost_usd else ""
    return f"{batch.status.replace('_', ' ')}{reason}: {', '.join(shown) or 'no rows yet'} of {counts.total:,}{cost}"


def exit_of_batch(batch: Batch) -> Exit:
    """Return the exit code of a batch that has ended."""
    if batch.status is BatchStatus.CANCELED:
        return Exit.CANCELED
    counts = batch.counts
    return Exit.FAILED if counts.failed or counts.skipped or counts.canceled else Exit.DONE


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
