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
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points, version

from trellis2_modal.cli.context import Session, Subparsers
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.plugins import GROUP, Plugin, add_plugins
from trellis2_modal.cli.usage_errors import Parser, WrongUsage, understood


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A command of ours. adds: the function that adds its parser, as `module:function`, loaded once it is wanted."""

    adds: str
    sentence: str
    aliases: tuple[str, ...] = ()

    def add(self, subparsers: Subparsers, session: Session) -> None:
        """Add the command as it is."""
        module, _, function = self.adds.partition(":")
        getattr(import_module(f"{__name__}.{module}"), function)(subparsers, session, self.sentence)

    def announce(self, name: str, subparsers: Subparsers) -> None:
        """Add its name and sentence, for the help."""
        subparsers.add_parser(name, help=self.sentence, aliases=self.aliases)


BUILT_IN = {
    "generate": BuiltIn("commands.generate:add_generate", "Turn pictures into GLB files, many at once."),
    "batch": BuiltIn(
        "commands.batch:add_batch",
        "Turn a whole catalog into assets: a Shopify export, a Google feed, any CSV, JSON lines, or a folder.",
    ),
    "jobs": BuiltIn("commands.jobs:add_jobs", "List your jobs, newest first.", aliases=("list",)),
    "watch": BuiltIn("commands.watch:add_watch", "Follow jobs or batches live, to their ends; else all that go on."),
    "get": BuiltIn(
        "commands.generate:add_get", "Show jobs; with -o, --poster and the like wait for them and save their results."
    ),
    "export": BuiltIn(
        "commands.generate:add_export", "Make another GLB of a finished job's shape, without sampling again."
    ),
    "cancel": BuiltIn("commands.jobs:add_cancel", "Stop jobs; those that have ended stay as they are."),
    "retry": BuiltIn("commands.jobs:add_retry", "Run failed, canceled or expired jobs again."),
    "delete": BuiltIn("commands.jobs:add_delete", "Remove jobs, their pictures and their results."),
    "webhooks": BuiltIn(
        "commands.webhooks:add_webhooks",
        "Be told of the ends of jobs: listen here, look after endpoints, see what was sent.",
    ),
    "completion": BuiltIn(
        "completion:add_completion", "Print what makes a shell complete commands, options and their values."
    ),
}
ALIASES = {alias: name for name, command in BUILT_IN.items() for alias in command.aliases}


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
    verb = ALIASES.get(argv[0], argv[0]) if argv else ""
    is_alone = verb in BUILT_IN and verb != "completion"  # which is about all of them
    parser = _parser()
    parser.set_defaults(root=parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in BUILT_IN.items():
        if verb in (name, "completion"):
            command.add(subparsers, session)
        elif not is_alone:
            command.announce(name, subparsers)
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
