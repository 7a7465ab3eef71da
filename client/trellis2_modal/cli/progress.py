"""Shows the progress of jobs on a terminal, or as lines in a log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, RLock, Thread
from typing import TextIO

from trellis2_modal.types.job import Job, Status

NARROW_COLUMNS = 60
LONGEST_BAR = 30
LONGEST_LABEL = 24
TICK_S = 0.5


@dataclass(slots=True)
class Line:
    """The progress of one job or batch. fraction: 0-1, completed."""

    label: str
    phase: str
    fraction: float = 0.0
    eta_seconds: float | None = None
    started_at: float = 0.0


class Progress:
    """Redraws a line for each running item on a terminal; elsewhere writes a line for each new phase.

    Safe from any thread. `footer` is shown below the lines, on a terminal. Without a stream it shows nothing.
    """

    def __init__(
        self,
        stream: TextIO | None,
        width: Callable[[], int],
        clock: Callable[[], float],
        height: Callable[[], int] = lambda: 24,
    ) -> None:
        self.footer = ""
        self._stream = stream
        self._redraw = bool(stream and stream.isatty())
        self._width, self._height = width, height
        self._clock = clock
        self._lines: dict[object, Line] = {}
        self._drawn = 0
        self._drawing = RLock()

    def begin(self, key: object, label: str, phase: str) -> None:
        """Show, on a terminal, an item that the service does not know yet."""
        if self._redraw:
            self.show_line(key, Line(label, phase))

    def show(self, label: str, job: Job, key: object = None) -> None:
        """Show a snapshot of a job in the line of `key`, by default of the job's id."""
        eta = None if job.status.is_terminal else job.eta_seconds
        self.show_line(key or job.id, Line(label, phase_of(job), job.progress, eta))

    def show_line(self, key: object, line: Line) -> None:
        """Show or replace the line of `key`."""
        with self._drawing:
            previous = self._lines.get(key)
            line.started_at = previous.started_at if previous else self._clock()
            self._lines[key] = line
            if self._redraw:
                self._draw()
            elif previous is None or previous.phase != line.phase:
                self._write(f"{line.label}: {line.phase}\n")

    def remove(self, key: object) -> None:
        with self._drawing:
            self._lines.pop(key, None)

    def tick(self) -> None:
        """Redraw the lines with the present time."""
        with self._drawing:
            if self._lines:
                self._draw()

    def clear(self) -> None:
        with self._drawing:
            self._wipe()
            self._lines.clear()

    @contextmanager
    def above(self) -> Iterator[None]:
        """Remove the lines while the caller writes to the terminal, then redraw them below."""
        with self._drawing:
            self._wipe()
            yield
            if self._redraw and self._lines:
                self._draw()

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Redraw every TICK_S, so that the shown times advance while no event arrives."""
        stopped = Event()

        def tick() -> None:
            while not stopped.wait(TICK_S):
                self.tick()

        thread = Thread(target=tick, name="progress", daemon=True)
        if self._redraw:
            thread.start()
        try:
            yield
        finally:
            stopped.set()

    def _draw(self) -> None:
        room = max(1, self._height() - 2)
        lines = [self._format_line(line) for line in self._lines.values()]
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} more"]
        if self.footer:
            lines.append(self.footer[: self._width() - 1])
        erase_rest = "\x1b[J" if len(lines) < self._drawn else ""
        self._write(self._move_to_top() + "\n".join(f"{line}\x1b[K" for line in lines) + erase_rest)
        self._drawn = len(lines)

    def _wipe(self) -> None:
        if self._drawn:
            self._write(self._move_to_top() + ("\x1b[K" if self._drawn == 1 else "\x1b[J"))
            self._drawn = 0

    def _move_to_top(self) -> str:
        return "\r" + (f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else "")

    def _format_line(self, line: Line) -> str:
        columns = self._width() - 1
        times = f"{line.fraction:4.0%}  {format_minutes(self._clock() - line.started_at)}"
        if line.eta_seconds:
            times += f", about {format_minutes(line.eta_seconds)} to go"
        if columns < NARROW_COLUMNS:
            return f"{line.phase} {times}"[:columns]
        longest = max(len(shown.label) for shown in self._lines.values())
        text = f"{line.label[:LONGEST_LABEL]:<{min(longest, LONGEST_LABEL)}}  {line.phase:<16}  "
        bar_width = min(LONGEST_BAR, columns - len(text) - len(times) - 4)
        return (
            text + (_format_bar(line.fraction, bar_width) + times if bar_width >= 5 else times)[: columns - len(text)]
        )

    def _write(self, text: str) -> None:
        if self._stream:
            self._stream.write(text)
            self._stream.flush()


def phase_of(job: Job) -> str:
    """Describe a job's phase in one or two words."""
    if job.status is Status.RUNNING:
        return (job.stage or "starting").replace("_", " ")
    if job.status is Status.QUEUED and job.queue_position:
        return f"queued, {job.queue_position} before"
    return str(job.status)


def _format_bar(fraction: float, width: int) -> str:
    done = round(fraction * width)
    return f"[{'#' * done}{'-' * (width - done)}] "


def format_minutes(seconds: float) -> str:
    """Format a duration as `1:05`, or from an hour on as `1:01:05`."""
    whole = int(seconds)
    if whole < 3_600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3_600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
