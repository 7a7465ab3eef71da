"""One log event per transition: a constant name and keys, one JSON object a line."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

_logger = logging.getLogger("trellis2")
_encode = json.JSONEncoder(default=str).encode
_about: ContextVar[dict[str, Any]] = ContextVar("about", default={})  # noqa: B039 - never changed in place


@contextmanager
def log_context(**keys: Any) -> Iterator[None]:
    """Add keys to every line that this thread logs in the block; a line's own keys take precedence."""
    before = _about.set({**_about.get(), **keys})
    try:
        yield
    finally:
        _about.reset(before)


def log(event: str, *, level: int = logging.INFO, exc_info: bool = False, **keys: Any) -> None:
    """Log `event` (`job.claimed`) with its keys. Never give it keys, signed URLs or image bytes."""
    if _logger.isEnabledFor(level):
        # Made by hand: the library would walk the stack for the line that logs, which no formatter of ours shows.
        trace = sys.exc_info() if exc_info else None
        _logger.handle(_logger.makeRecord(_logger.name, level, "", 0, event, (), trace, extra={"keys": keys}))


class JsonLines(logging.Formatter):
    """Formats every record, ours and the libraries', as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as one line of JSON."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_about.get(),
            **getattr(record, "keys", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _encode(line)


def log_to_stderr(level: str = "INFO") -> None:
    """Send every log line of this process to stderr; libraries speak only from WARNING on."""
    # What no line shows need not be asked of the system for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[lines], force=True)
    _logger.setLevel(level)
