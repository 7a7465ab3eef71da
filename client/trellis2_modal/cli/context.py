"""What a command has from outside: the environment, two streams, a way to the service."""

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

from trellis2_modal.cli.exit_codes import Exit, error_body, exit_of, sentence
from trellis2_modal.errors import JobUnsuccessful, TrellisError

if TYPE_CHECKING:
    import httpx

    from trellis2_modal.client import Client

TRIES_WHILE_WATCHED = 3  # a person who mistyped a URL is told within seconds; long work goes by the client's own

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Command = Callable[[argparse.Namespace], int]


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the command line. width, height: the terminal's, in characters, at this moment.

    answers: where a person is.
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
    def of_process(cls) -> "Session":
        """The session of this process."""
        answers = sys.stdin if sys.stdin and sys.stdin.isatty() else None
        return cls(
            os.environ,
            sys.stdout,
            sys.stderr,
            width=lambda: shutil.get_terminal_size().columns,
            height=lambda: shutil.get_terminal_size().lines,
            answers=answers,
        )

    def client(self, args: argparse.Namespace, tries: int = TRIES_WHILE_WATCHED) -> "Client":
        """A client by the command's options, and by the environment where they say nothing."""
        from trellis2_modal.client import Client  # and httpx, which the help can do without

        return Client.from_environment(
            self.environment,
            base_url=args.url,
            api_key=args.api_key,
            tries=tries,
            transport=self.transport,
            clock=self.clock,
            pause=self.pause,
        )

    def say(self, text: str) -> None:
        """A result, on stdout."""
        print(text, file=self.out, flush=True)

    def say_json(self, body: Mapping[str, Any]) -> None:
        """A result for scripts: one line."""
        self.say(json.dumps(body, ensure_ascii=False))

    def say_either(self, args: argparse.Namespace, body: Mapping[str, Any], text: str) -> None:
        """A result in the words that were asked for."""
        if args.json:
            self.say_json(body)
        else:
            self.say(text)

    def complain(self, text: str) -> None:
        """Anything that is not a result, on stderr."""
        print(f"trellis2: {text}", file=self.err, flush=True)

    def ask(self, question: str) -> bool | None:
        """A yes or a no from whoever sits there; None where nobody does."""
        if self.answers is None:
            return None
        print(f"{question} [y/N] ", end="", file=self.err, flush=True)
        return self.answers.readline().strip().lower() in ("y", "yes")

    def report(
        self, error: Exception, args: argparse.Namespace, about: str = "", *, is_told: bool = False, **more: Any
    ) -> Exit:
        """Tell of an error, in the words that were asked for; the exit code it stands for.

        about: the one of several things that it befell. is_told: the person has read it already. more: what the JSON
        says beside it.
        """
        if not is_told:
            said = sentence(error)
            names_it = not about or about in said.partition(": ")[0]
            self.complain(said if names_it else f"{about}: {said}")
        if args.json:
            record = {**error.job.raw, "files": {}} if isinstance(error, JobUnsuccessful) else None
            self.say_json((record or {"error": error_body(error)}) | more)
        return exit_of(error)

    def guarded(self, command: Command) -> Command:
        """A command whose foreseen errors become sentences and exit codes."""

        def run(args: argparse.Namespace) -> int:
            try:
                return command(args)
            except BrokenPipeError:
                raise  # nobody reads our output any more: there is nobody to tell
            except (TrellisError, OSError) as error:
                return self.report(error, args)
            except KeyboardInterrupt:
                self.complain("interrupted")
                return Exit.CANCELED

        return run


def command_parser(
    subparsers: Subparsers, name: str, sentence: str, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A parser with the options that every command of ours has."""
    from trellis2_modal.client import LOCAL_URL

    parser = subparsers.add_parser(name, help=sentence, description=sentence, allow_abbrev=False, aliases=aliases)
    service = parser.add_argument_group("service")
    service.add_argument("--url", help=f"where the service is; else $TRELLIS2_URL, else {LOCAL_URL}")
    service.add_argument("--api-key", help="better given as $TRELLIS2_API_KEY, which other users cannot see")
    parser.add_argument("--json", action="store_true", help="results as JSON, one object a line")
    return parser


def columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """A row of a table, for a terminal."""
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
