"""The command `trellis2`: images in, 3D assets out.

Exit codes: 0 success · 1 a job failed or expired, or its result could not be saved completely · 2 wrong usage, or the
service rejected the input · 3 the service is not reachable or cannot respond · 4 canceled, for example by Ctrl-C · 5
the API key is missing, invalid, or lacks a scope.

With --json, stdout has one JSON object a line and nothing else: a job's record with `files` added, or `{"error": ...}`.
Progress and errors always go to stderr.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, version

from trellis2_modal.cli.context import Session
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.parsers import Parser, Subparsers, WrongUsage, parse_arguments

# The commands of other distributions. An entry point of this group has the command's name and loads a function
# `add(subparsers)`, which adds a parser of that name and sets `run=callable(args) -> int` with `set_defaults`.
PLUGIN_GROUP = "trellis2_modal.commands"


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A command of this package. adder: the function that adds its parser, as `module:function`, loaded when needed."""

    adder: str
    help: str
    aliases: tuple[str, ...] = ()

    def add(self, name: str, subparsers: Subparsers, session: Session) -> None:
        """Add the command's parser with all its options."""
        module, _, function = self.adder.partition(":")
        getattr(import_module(f"{__name__}.commands.{module}"), function)(subparsers, session, name, self.help)


BUILT_IN = {
    "generate": BuiltIn("generate:add_generate", "Turn images into GLB files, many at once."),
    "batch": BuiltIn(
        "batch:add_batch",
        "Turn a whole catalog into assets: a Shopify export, a Google feed, any CSV, JSON lines, or a folder.",
    ),
    "jobs": BuiltIn("jobs:add_jobs", "List your jobs, newest first.", aliases=("list",)),
    "watch": BuiltIn("watch:add_watch", "Follow jobs or batches live until they end; by default all unfinished ones."),
    "get": BuiltIn(
        "generate:add_get", "Show jobs; with -o, --poster and the like wait for them and save their results."
    ),
    "export": BuiltIn("generate:add_export", "Export a finished job's shape again, without sampling."),
    "cancel": BuiltIn("jobs:add_operation", "Cancel jobs; jobs that have ended do not change."),
    "retry": BuiltIn("jobs:add_operation", "Run failed, canceled or expired jobs again."),
    "delete": BuiltIn("jobs:add_operation", "Delete jobs, their images and their results."),
    "webhooks": BuiltIn(
        "webhooks:add_webhooks", "Receive an event when a job ends: listen here, manage endpoints, list deliveries."
    ),
    "completion": BuiltIn(
        "completion:add_completion", "Print the script with which a shell completes commands, options and values."
    ),
}
ALIASES = {alias: name for name, command in BUILT_IN.items() for alias in command.aliases}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        return run(arguments, Session.from_process(), _find_plugins())
    except KeyboardInterrupt:  # before a command had started
        return Exit.CANCELED
    except BrokenPipeError:  # `trellis2 list | head -1`: stdout is closed, and Python must not flush it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def _find_plugins() -> Iterator[EntryPoint]:
    """Find installed plugins, only when iterated: the search takes a tenth of the time of --help."""
    yield from entry_points(group=PLUGIN_GROUP)


def run(argv: Sequence[str], session: Session, plugins: Iterable[EntryPoint]) -> int:
    """Run one command with the given session and plugins, and return its exit code."""
    name = ALIASES.get(argv[0], argv[0]) if argv else ""
    needs_all = name not in BUILT_IN or name == "completion"  # help, completion and plugins list every command
    parser = _make_parser()
    parser.set_defaults(root=parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for built_in, command in BUILT_IN.items():
        if name in (built_in, "completion"):
            command.add(built_in, subparsers, session)
        elif needs_all:
            subparsers.add_parser(built_in, help=command.help, aliases=command.aliases)
    if needs_all and name != "--version":  # plugins may take long to load
        _add_plugins(subparsers, plugins, name, session.print_error)
    try:
        arguments = parse_arguments(parser, list(argv))
        return int(arguments.run(arguments))
    except WrongUsage as error:
        session.print_error(f"{error}; see: {error.prog} --help")
        if "--json" in argv:
            session.print_json({"error": {"code": "wrong_usage", "detail": str(error), "retryable": False}})
        raise SystemExit(Exit.REFUSED) from None


def _add_plugins(
    subparsers: Subparsers, plugins: Iterable[EntryPoint], name: str, print_error: Callable[[str], None]
) -> None:
    """Add the plugin of that name, or all plugins if there is none (for the help). Report those that fail to load."""
    by_name = {plugin.name: plugin for plugin in plugins}
    for plugin in [by_name[name]] if name in by_name else by_name.values():
        try:
            plugin.load()(subparsers)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and must not break other commands
            print_error(f"the command `{plugin.name}` is not available: {type(error).__name__}: {error}")


def _make_parser() -> argparse.ArgumentParser:
    description, _, codes = (__doc__ or "").partition("\n\n")
    parser = Parser(
        prog="trellis2", description=description, epilog=codes, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    return parser


class _Version(argparse.Action):
    """argparse's version action, except that it looks the version up only when used."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"trellis2 {version('trellis2-modal')}")
        parser.exit()
