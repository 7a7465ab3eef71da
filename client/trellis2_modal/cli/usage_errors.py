"""Wrong usage, told in one line instead of a page."""

import argparse
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import NoReturn


class WrongUsage(Exception):
    """The command line cannot be understood. prog: the command whose help says more."""

    def __init__(self, prog: str, message: str) -> None:
        super().__init__(message)
        self.prog = prog


class Parser(argparse.ArgumentParser):
    """Raises WrongUsage where argparse prints the usage and leaves."""

    def error(self, message: str) -> NoReturn:
        """What argparse calls for whatever it does not understand."""
        raise WrongUsage(self.prog, message)


def understood(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """The arguments, parsed; what is unknown is answered with what is most like it.

    Raises:
        WrongUsage: they cannot be.
    """
    try:
        arguments, unknown = parser.parse_known_args(argv)
    except WrongUsage as error:
        tried = [word for word in argv if f"invalid choice: {word!r}" in str(error)]
        chosen = [found for found in _parsers(parser, argv) if found.prog == error.prog]
        names = [name for found in chosen for action in _choosing(found) for name in action.choices]
        if not (tried and names):
            raise
        raise WrongUsage(error.prog, f"there is no command {tried[0]!r}{_meant(tried[0], names)}") from None
    if unknown:
        deepest = list(_parsers(parser, argv))[-1]
        word = unknown[0].partition("=")[0]
        known = deepest._option_string_actions
        raise WrongUsage(deepest.prog, f"{' '.join(unknown)} is not understood{_meant(word, known)}")
    return arguments


def _parsers(parser: argparse.ArgumentParser, argv: list[str]) -> Iterator[argparse.ArgumentParser]:
    """The parser, and those of the commands that the arguments name one below the other."""
    yield parser
    for action in _choosing(parser):
        for at, word in enumerate(argv):
            if word in action.choices:
                yield from _parsers(action.choices[word], argv[at + 1 :])
                return


def _choosing(parser: argparse.ArgumentParser) -> "Iterator[argparse._SubParsersAction[argparse.ArgumentParser]]":
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield action


def _meant(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
