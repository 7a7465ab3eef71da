"""How a job is getting on, for a person at a terminal or for a log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import TextIO

from trellis2_modal.job import Job, Status

NARROW_COLUMNS = 60
LONGEST_BAR = 30
TICK_S = 0.5


class Progress:
    """Draws one line over and over on a terminal; elsewhere writes a line for every new stage."""

    @classmethod
    def on(cls, stream: TextIO, width: Callable[[], int], clock: Callable[[], float]) -> "Progress":
        """Progress that suits a stream."""
        return cls(stream, redraw=stream.isatty(), width=width, clock=clock)

    def __init__(self, stream: TextIO, *, redraw: bool, width: Callable[[], int], clock: Callable[[], float]) -> None:
        self._stream = stream
        self._redraw = redraw
        self._width = width
        self._clock = clock
        self._started_at = clock()
        self._phase = ""
        self._shown: tuple[str, str, Job] | None = None
        self._drawing = Lock()

    def show(self, label: str, job: Job) -> None:
        """Show a snapshot of the job called `label`."""
        phase = _phase(job)
        with self._drawing:
            if self._redraw:
                self._shown = (label, phase, job)
                self._draw()
            elif phase != self._phase:
                self._write(f"{label}: {phase}\n")
            self._phase = phase

    def tick(self) -> None:
        """Draw what is shown again, with the time as it is now."""
        with self._drawing:
            self._draw()

    def clear(self) -> None:
        """Take the drawn line away, so that something else can be written."""
        with self._drawing:
            if self._shown:
                self._write("\r\x1b[K")
                self._shown = None

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
        if self._shown:
            self._write(f"\r{self._line(*self._shown)}\x1b[K")

    def _line(self, label: str, phase: str, job: Job) -> str:
        columns = self._width() - 1
        times = f"{job.progress:4.0%}  {_minutes(self._clock() - self._started_at)}"
        if job.eta_seconds and not job.status.is_terminal:
            times += f", about {_minutes(job.eta_seconds)} to go"
        if columns < NARROW_COLUMNS:
            return f"{phase} {times}"[:columns]
        text = f"{label[:24]}  {phase:<16}  "
        bar_width = min(LONGEST_BAR, columns - len(text) - len(times) - 4)
        return text + (_bar(job.progress, bar_width) + times if bar_width >= 5 else times)[: columns - len(text)]

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _phase(job: Job) -> str:
    if job.status is Status.RUNNING:
        return (job.stage or "starting").replace("_", " ")
    if job.status is Status.QUEUED and job.queue_position:
        return f"queued, {job.queue_position} before"
    return str(job.status)


def _bar(fraction: float, width: int) -> str:
    done = round(fraction * width)
    return f"[{'#' * done}{'-' * (width - done)}] "


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
