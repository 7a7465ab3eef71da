"""How jobs are getting on, for a person at a terminal or for a log."""

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
    """What is shown of one job, or of one batch. fraction: 0-1 of it is done."""

    label: str
    phase: str
    fraction: float = 0.0
    eta_seconds: float | None = None
    started_at: float = 0.0


class Progress:
    """Draws a line for each thing under way, over and over, on a terminal; elsewhere writes one for every new phase.

    Safe from any thread. `footer` stands below the lines, on a terminal.
    """

    @classmethod
    def on(
        cls,
        stream: TextIO,
        width: Callable[[], int],
        clock: Callable[[], float],
        height: Callable[[], int] = lambda: 24,
    ) -> "Progress":
        """Progress that suits a stream."""
        return cls(stream, redraw=stream.isatty(), width=width, height=height, clock=clock)

    def __init__(
        self,
        stream: TextIO,
        *,
        redraw: bool,
        width: Callable[[], int],
        height: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self.footer = ""
        self._stream = stream
        self._redraw = redraw
        self._width, self._height = width, height
        self._clock = clock
        self._lines: dict[object, Line] = {}
        self._drawn = 0
        self._drawing = RLock()

    def begin(self, key: object, label: str, phase: str) -> None:
        """Show, on a terminal, that something has begun of which nothing is known yet."""
        if self._redraw:
            self.show_line(key, Line(label, phase))

    def show(self, label: str, job: Job, key: object = None) -> None:
        """Show a snapshot of the job called `label`, in the line of `key`."""
        eta = None if job.status.is_terminal else job.eta_seconds
        self.show_line(key or job.id, Line(label, phase_of(job), job.progress, eta))

    def show_line(self, key: object, line: Line) -> None:
        """Show how something stands now."""
        with self._drawing:
            before = self._lines.get(key)
            line.started_at = before.started_at if before else self._clock()
            self._lines[key] = line
            if self._redraw:
                self._draw()
            elif before is None or before.phase != line.phase:
                self._write(f"{line.label}: {line.phase}\n")

    def leave(self, key: object) -> None:
        """Show this one no more."""
        with self._drawing:
            self._lines.pop(key, None)

    def tick(self) -> None:
        """Draw what is shown again, with the time as it is now."""
        with self._drawing:
            if self._lines:
                self._draw()

    def clear(self) -> None:
        """Take everything away."""
        with self._drawing:
            self._wipe()
            self._lines.clear()

    @contextmanager
    def above(self) -> Iterator[None]:
        """Write something else meanwhile, above the lines."""
        with self._drawing:
            self._wipe()
            yield
            if self._redraw and self._lines:
                self._draw()

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Tick every half a second: a clock that stands still looks like a program that does."""
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
        lines = [self._text(line) for line in self._lines.values()]
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} more"]
        if self.footer:
            lines.append(self.footer[: self._width() - 1])
        below = "\x1b[J" if len(lines) < self._drawn else ""
        self._write(self._to_the_top() + "\n".join(f"{line}\x1b[K" for line in lines) + below)
        self._drawn = len(lines)

    def _wipe(self) -> None:
        if self._drawn:
            self._write(self._to_the_top() + ("\x1b[K" if self._drawn == 1 else "\x1b[J"))
            self._drawn = 0

    def _to_the_top(self) -> str:
        return "\r" + (f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else "")

    def _text(self, line: Line) -> str:
        columns = self._width() - 1
        times = f"{line.fraction:4.0%}  {minutes(self._clock() - line.started_at)}"
        if line.eta_seconds:
            times += f", about {minutes(line.eta_seconds)} to go"
        if columns < NARROW_COLUMNS:
            return f"{line.phase} {times}"[:columns]
        longest = max(len(shown.label) for shown in self._lines.values())
        text = f"{line.label[:LONGEST_LABEL]:<{min(longest, LONGEST_LABEL)}}  {line.phase:<16}  "
        bar_width = min(LONGEST_BAR, columns - len(text) - len(times) - 4)
        return text + (_bar(line.fraction, bar_width) + times if bar_width >= 5 else times)[: columns - len(text)]

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def phase_of(job: Job) -> str:
    """Where a job stands, in a word or two."""
    if job.status is Status.RUNNING:
        return (job.stage or "starting").replace("_", " ")
    if job.status is Status.QUEUED and job.queue_position:
        return f"queued, {job.queue_position} before"
    return str(job.status)


def _bar(fraction: float, width: int) -> str:
    done = round(fraction * width)
    return f"[{'#' * done}{'-' * (width - done)}] "


def minutes(seconds: float) -> str:
    """`1:05`, or `1:01:05` where it takes that long."""
    whole = int(seconds)
    if whole < 3_600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3_600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
