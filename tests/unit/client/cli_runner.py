"""A command line over a scripted service, and a terminal to draw on."""

import io
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trellis2_modal.cli import run
from trellis2_modal.cli.context import Session

from tests.unit.client.fake_service import Studio
from tests.unit.client.scripted_transport import Script


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@dataclass
class Shell:
    """A command line over a scripted service."""

    service: Script | Studio
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
        """The service, where it answers from a script."""
        assert isinstance(self.service, Script)
        return self.service

    def run(self, *argv: str) -> int:
        """Run `trellis2 ...`; its exit code."""
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
        """What was printed with --json."""
        return [json.loads(line) for line in self.out.getvalue().splitlines()]
