"""The command `trellis2 completion`: print the script with which a shell completes the other commands."""

import argparse
from collections.abc import Iterator

from trellis2_modal.cli.context import Session
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.options import GENERATE
from trellis2_modal.cli.parsers import Subparsers
from trellis2_modal.errors import TrellisError

_FILE_ARGUMENTS = {"images", "output", "poster", "usdz", "meshopt", "catalog", "image"}
_FOLDER_ARGUMENTS = {"out", "data_dir"}
_INSTALLATION = """\
bash: trellis2 completion bash > ~/.local/share/bash-completion/completions/trellis2
zsh:  trellis2 completion zsh > ~/.zfunc/_trellis2   (and ~/.zfunc in fpath, before compinit)
fish: trellis2 completion fish > ~/.config/fish/completions/trellis2.fish
"""


class ShtabMissing(TrellisError):
    """The package that generates the scripts is not installed."""

    code = "shtab_missing"


def add_completion(subparsers: Subparsers, session: Session, name: str, help: str) -> None:
    """`trellis2 completion bash`."""
    parser = subparsers.add_parser(
        name,
        help=help,
        description=help,
        epilog=_INSTALLATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
    parser.set_defaults(run=session.handle_errors(_print_script), json=False)


def _print_script(args: argparse.Namespace, session: Session) -> int:
    try:
        import shtab  # an optional dependency, used once on each machine
    except ModuleNotFoundError as error:
        raise ShtabMissing("this command needs shtab: pip install 'trellis2-modal[completion]'") from error
    for action in _find_actions(args.root):
        if action.dest in _FILE_ARGUMENTS | _FOLDER_ARGUMENTS:
            kind = shtab.FILE if action.dest in _FILE_ARGUMENTS else shtab.DIRECTORY
            action.complete = kind  # type: ignore[attr-defined]
        elif (option := GENERATE.get(action.dest)) and option.choices:
            action.choices = option.choices
    session.print(shtab.complete(args.root, shell=args.shell))
    return Exit.DONE


def _find_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Iterate over every option and argument of a parser and its subcommands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for subparser in dict.fromkeys(action.choices.values()):
                yield from _find_actions(subparser)
