"""The command `trellis2`: pictures in, 3D assets out.

Exit codes: 0 done · 1 a job failed or expired, or its result could not be stored whole · 2 wrong usage, or the service
refused the input · 3 the service is not reachable or cannot answer · 4 canceled, by Ctrl-C among others · 5 the API key
is missing or not enough.

With --json, stdout carries one JSON object a line and nothing else: a job's record with `files` added, or `{"error":
...}`. Progress and complaints go to stderr, always.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points, version

from trellis2_modal.cli import batches, completion, generate, hooks, jobs, watch
from trellis2_modal.cli.exits import Exit
from trellis2_modal.cli.plugins import GROUP, Plugin, add_plugins
from trellis2_modal.cli.session import Session
from trellis2_modal.cli.usage import Parser, WrongUsage, understood

BUILT_IN = {
    "generate": generate.add_generate,
    "batch": batches.add_batch,
    "export": generate.add_export,
    "get": generate.add_get,
    "jobs": jobs.add_jobs,
    "list": jobs.add_jobs,
    "watch": watch.add_watch,
    "webhooks": hooks.add_webhooks,
    "cancel": jobs.add_cancel,
    "retry": jobs.add_retry,
    "delete": jobs.add_delete,
    "completion": completion.add_completion,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        return run(arguments, Session.of_process(), _installed())
    except KeyboardInterrupt:  # before a command had begun
        return Exit.CANCELED
    except BrokenPipeError:  # `trellis2 list | head -1`: whoever reads has seen enough; Python must not flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def _installed() -> Iterator[Plugin]:
    """What is installed, looked for only once it is asked for: that takes a tenth of the time that the help does."""
    yield from entry_points(group=GROUP)


def run(argv: Sequence[str], session: Session, plugins: Iterable[Plugin]) -> int:
    """As `main`, with everything from outside given."""
    verb = argv[0] if argv else ""
    is_alone = verb in BUILT_IN and verb != "completion"  # which is about all of them
    parser = _parser()
    parser.set_defaults(root=parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    wanted = [BUILT_IN[verb]] if is_alone else dict.fromkeys(BUILT_IN.values())
    for add in wanted:
        add(subparsers, session)
    if not is_alone and verb != "--version":  # others' verbs may take long to load
        add_plugins(subparsers, plugins, verb, session.complain)
    try:
        arguments = understood(parser, list(argv))
        return int(arguments.run(arguments))
    except WrongUsage as error:
        session.complain(f"{error}; see: {error.prog} --help")
        if "--json" in argv:
            session.say_json({"error": {"code": "wrong_usage", "detail": str(error), "retryable": False}})
        raise SystemExit(Exit.REFUSED) from None


def _parser() -> argparse.ArgumentParser:
    description, _, codes = (__doc__ or "").partition("\n\n")
    parser = Parser(
        prog="trellis2", description=description, epilog=codes, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    return parser


class _Version(argparse.Action):
    """As argparse's own, but for looking the version up only once it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"trellis2 {version('trellis2-modal')}")
        parser.exit()
