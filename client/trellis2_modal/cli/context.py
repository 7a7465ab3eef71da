"""The session of one command: environment, streams, access to the service, and output of results and errors."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from trellis2_modal.cli.exit_codes import Exit, describe_error, error_body, exit_of, worst
from trellis2_modal.cli.parsers import Subparsers, WrongUsage, command_parser
from trellis2_modal.errors import JobUnsuccessful, TrellisError

if TYPE_CHECKING:
    import httpx

    from trellis2_modal.cli.parsers import Run
    from trellis2_modal.client import Client

Result: TypeAlias = tuple[Mapping[str, Any], str]  # of an operation: as JSON, and as text
Operation: TypeAlias = "Callable[[Client, str, argparse.Namespace], Result]"

INTERACTIVE_TRIES = 3  # a mistyped URL is reported within seconds; commands that run long use the client's default


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the command line. width, height: the terminal's present size, in characters.

    answers: the terminal that questions are answered on, if there is one.
    """

    environment: Mapping[str, str]
    out: TextIO
    err: TextIO
    width: Callable[[], int]
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    transport: "httpx.BaseTransport | None" = None
    answers: TextIO | None = None
    height: Callable[[], int] = lambda: 24
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @classmethod
    def from_process(cls) -> "Session":
        """Make the session of this process."""
        return cls(
            os.environ,
            sys.stdout,
            sys.stderr,
            width=lambda: shutil.get_terminal_size().columns,
            height=lambda: shutil.get_terminal_size().lines,
            answers=sys.stdin if sys.stdin and sys.stdin.isatty() else None,
        )

    def client(self, args: argparse.Namespace, tries: int = INTERACTIVE_TRIES) -> "Client":
        """Make a client from the command's options, else from the environment."""
        from trellis2_modal.client import Client  # loads httpx, which the help does not need

        return Client.from_environment(
            self.environment,
            base_url=args.url,
            api_key=args.api_key,
            tries=tries,
            transport=self.transport,
            clock=self.clock,
            pause=self.pause,
        )

    def print(self, text: str) -> None:
        """Print a result on stdout."""
        print(text, file=self.out, flush=True)

    def print_json(self, body: Mapping[str, Any]) -> None:
        """Print a result as one line of JSON."""
        self.print(json.dumps(body, ensure_ascii=False))

    def print_result(self, args: argparse.Namespace, body: Mapping[str, Any], text: str) -> None:
        """Print a result as JSON or as text, by --json."""
        if args.json:
            self.print_json(body)
        else:
            self.print(text)

    def print_error(self, text: str) -> None:
        """Print an error or progress on stderr."""
        print(f"trellis2: {text}", file=self.err, flush=True)

    def ask(self, question: str) -> bool | None:
        """Ask a yes-or-no question on the terminal; None if there is no terminal."""
        if self.answers is None:
            return None
        print(f"{question} [y/N] ", end="", file=self.err, flush=True)
        return self.answers.readline().strip().lower() in ("y", "yes")

    def report(
        self, error: Exception, args: argparse.Namespace, subject: str = "", *, is_known: bool = False, **more: Any
    ) -> Exit:
        """Report an error as text, with --json also as JSON, and return its exit code.

        subject: which of several items it concerns. is_known: the user has read the text already. more: extra JSON
        fields.
        """
        if not is_known:
            text = describe_error(error)
            names_subject = not subject or subject in text.partition(": ")[0]
            self.print_error(text if names_subject else f"{subject}: {text}")
        if args.json:
            record = {**error.job.raw, "files": {}} if isinstance(error, JobUnsuccessful) else None
            self.print_json((record or {"error": error_body(error)}) | more)
        return exit_of(error)

    def handle_errors(self, run: "Run") -> Callable[[argparse.Namespace], int]:
        """Wrap a command so that expected errors become messages and exit codes."""

        def handled(args: argparse.Namespace) -> int:
            try:
                return run(args, self)
            except BrokenPipeError:
                raise  # stdout is closed: there is nowhere to report to
            except WrongUsage as error:
                error.prog = error.prog or args.prog
                raise
            except (TrellisError, OSError) as error:
                return self.report(error, args)
            except KeyboardInterrupt:
                self.print_error("interrupted")
                return Exit.CANCELED

        return handled


def operation_parser(
    commands: Subparsers, session: Session, name: str, help: str, operation: Operation, metavar: str
) -> argparse.ArgumentParser:
    """Add a command that applies an operation to each id given; it prints each result or reports the error."""

    def run(args: argparse.Namespace, session: Session) -> int:
        exits = []
        with session.client(args) as client:
            for item in args.ids:
                try:
                    session.print_result(args, *operation(client, item, args))
                except TrellisError as error:
                    exits.append(session.report(error, args, item if len(args.ids) > 1 else ""))
        return worst(exits)

    parser = command_parser(commands, session, name, help, run)
    parser.add_argument("ids", nargs="+", metavar=metavar)
    return parser


def format_columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
