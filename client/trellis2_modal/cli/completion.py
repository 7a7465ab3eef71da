"""The command `trellis2 completion`: what a shell needs to complete the others."""

import argparse
from collections.abc import Iterator

from trellis2_modal.cli.context import Session, Subparsers
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.options import GENERATE
from trellis2_modal.errors import TrellisError

_FILES = {"images", "output", "poster", "usdz", "meshopt", "catalog", "image"}
_FOLDERS = {"out", "data_dir"}
_WHERE = """\
bash: trellis2 completion bash > ~/.local/share/bash-completion/completions/trellis2
zsh:  trellis2 completion zsh > ~/.zfunc/_trellis2   (and ~/.zfunc in fpath, before compinit)
fish: trellis2 completion fish > ~/.config/fish/completions/trellis2.fish
"""


class ShtabMissing(TrellisError):
    """What writes the scripts is not installed."""

    code = "shtab_missing"


def add_completion(subparsers: Subparsers, session: Session, sentence: str) -> None:
    """`trellis2 completion bash`."""
    parser = subparsers.add_parser(
        "completion",
        help=sentence,
        description=sentence,
        epilog=_WHERE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
    parser.set_defaults(run=session.guarded(lambda args: _complete(args, session)), json=False)


def _complete(args: argparse.Namespace, session: Session) -> int:
    try:
        import shtab  # an extra: nobody needs it twice
    except ModuleNotFoundError as error:
        raise ShtabMissing("completion is written by shtab: pip install 'trellis2-modal[completion]'") from error
    for action in _actions(args.root):
        if action.dest in _FILES | _FOLDERS:
            action.complete = shtab.FILE if action.dest in _FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
        elif (option := GENERATE.get(action.dest)) and option.choices:
            action.choices = option.choices
    session.say(shtab.complete(args.root, shell=args.shell))
    return Exit.DONE


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every option and argument of a parser and of the commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from _actions(below)
