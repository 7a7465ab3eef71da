"""Verbs that other distributions add to `trellis2`, through entry points of one group.

An entry point is named for its verb and loads a function `add(subparsers)`. That adds a parser of the verb's name and
gives it `run=callable(args) -> int` by `set_defaults`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from trellis2_modal.cli.context import Subparsers

GROUP = "trellis2_modal.commands"


class Plugin(Protocol):
    """What is needed of importlib.metadata's EntryPoint."""

    @property
    def name(self) -> str:
        """The verb."""

    def load(self) -> Any:
        """Import the function that adds it."""


def add_plugins(
    subparsers: Subparsers,
    plugins: Iterable[Plugin],
    verb: str,
    complain: Callable[[str], None],
) -> None:
    """Add the one verb that was asked for, or all of them where none was (for the help).

    A verb that does not load is named in a complaint; the others work.
    """
    found = {plugin.name: plugin for plugin in plugins}
    for plugin in [found[verb]] if verb in found else found.values():
        try:
            plugin.load()(subparsers)
        except Exception as error:  # noqa: BLE001 - somebody else's code: whatever is wrong with it must not spread
            complain(f"the command `{plugin.name}` is not available: {type(error).__name__}: {error}")
