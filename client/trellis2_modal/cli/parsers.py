"""Argument parsers: the options that every command has, and usage errors in one line.

argparse, not click or typer: those would be a second dependency of every program that uses the client.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn, TypeAlias

if TYPE_CHECKING:
    from trellis2_modal.cli.context import Session

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace, "Session"], int]


class WrongUsage(Exception):
    """The command line is invalid. prog: the command whose help explains it, by default the one that runs."""

    def __init__(self, message: str, prog: str = "") -> None:
        super().__init__(message)
        self.prog = prog


class Parser(argparse.ArgumentParser):
    """Raises WrongUsage where argparse prints the whole usage and exits."""

    def error(self, message: str) -> NoReturn:
        """Raise WrongUsage; argparse calls this for each argument that it cannot parse."""
        raise WrongUsage(message, self.prog)


def command_parser(
    subparsers: Subparsers, session: "Session", name: str, help: str, run: Run, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Add a parser with the options of every command; the parsed arguments have `run` and `prog`."""
    from trellis2_modal.client import LOCAL_URL

    parser = subparsers.add_parser(name, help=help, description=help, allow_abbrev=False, aliases=aliases)
    service = parser.add_argument_group("service")
    service.add_argument("--url", help=f"the service's URL; default $TRELLIS2_URL, else {LOCAL_URL}")
    service.add_argument("--api-key", help="prefer $TRELLIS2_API_KEY, which other users of this machine cannot see")
    parser.add_argument("--json", action="store_true", help="print results as JSON, one object a line")
    parser.set_defaults(run=session.handle_errors(run), prog=parser.prog)
    return parser


def command_group(subparsers: Subparsers, name: str, help: str) -> Subparsers:
    """Add a command that consists of subcommands."""
    parser = subparsers.add_parser(name, help=help, description=help, allow_abbrev=False)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def parse_arguments(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse the command line; suggest the most similar name for an unknown one.

    Raises:
        WrongUsage: the command line is invalid.
    """
    try:
        arguments, unknown = parser.parse_known_args(argv)
    except WrongUsage as error:
        rejected = [word for word in argv if f"invalid choice: {word!r}" in str(error)]
        parsers = [candidate for candidate in _parsers_on_path(parser, argv) if candidate.prog == error.prog]
        names = [name for candidate in parsers for action in _subparser_actions(candidate) for name in action.choices]
        if not (rejected and names):
            raise
        suggestion = _suggest(rejected[0], names)
        raise WrongUsage(f"there is no command {rejected[0]!r}{suggestion}", error.prog) from None
    if unknown:
        deepest = list(_parsers_on_path(parser, argv))[-1]
        word = unknown[0].partition("=")[0]
        suggestion = _suggest(word, deepest._option_string_actions)
        raise WrongUsage(f"unknown argument: {' '.join(unknown)}{suggestion}", deepest.prog)
    return arguments


def _parsers_on_path(parser: argparse.ArgumentParser, argv: list[str]) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser, then those of the nested commands that the arguments name."""
    yield parser
    for action in _subparser_actions(parser):
        for index, word in enumerate(argv):
            if word in action.choices:
                yield from _parsers_on_path(action.choices[word], argv[index + 1 :])
                return


def _subparser_actions(parser: argparse.ArgumentParser) -> Iterator[Subparsers]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield action


def _suggest(word: str, known: Iterable[str]) -> str:
    similar = get_close_matches(word, list(known), n=1)
    return f"; did you mean {similar[0]}?" if similar else ""
