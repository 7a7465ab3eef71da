"""Runs the command line over a scripted service, with a terminal to draw on."""

import io
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trellis2_modal.cli import run
from trellis2_modal.cli.context import Session

from tests.unit.client.fake_service import FakeService
from tests.unit.client.scripted_transport import Script


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@dataclass
class Shell:
    """A command line over a scripted service."""

    service: Script | FakeService
    environment: dict[str, str] = field(default_factory=dict)
    err: io.StringIO = field(default_factory=io.StringIO)
    columns: int = 100
    rows: int = 24
    plugins: list[Any] = field(default_factory=list)

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.out = io.StringIO()

    @property
    def script(self) -> Script:
        """The service, if it is a script."""
        assert isinstance(self.service, Script)
        return self.service

    def run(self, *argv: str) -> int:
        """Run `trellis2 ...` and return its exit code."""
        session = Session(
            {"TRELLIS2_URL": "https://3d.example.com", **self.environment},
            self.out,
            self.err,
            width=lambda: self.columns,
            height=lambda: self.rows,
            now=lambda: self.now,
            clock=self.service.clock if isinstance(self.service, Script) else time.monotonic,
            pause=self.service.pause if isinstance(self.service, Script) else lambda _: None,
            transport=self.service.transport,
        )
        return run(argv, session, self.plugins)

    @property
    def json_lines(self) -> list[Any]:
        """Parse the output of --json."""
        return [json.loads(line) for line in self.out.getvalue().splitlines()]
