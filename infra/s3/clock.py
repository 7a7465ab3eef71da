"""The store's clock, learnt from the dates of its answers."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

SECOND = timedelta(seconds=1)


class StoreClock:
    """Keeps time by `monotonic`, set by the store: the machine's own date is never asked.

    A store dates its answers to the second, at some moment between question and answer. Each answer therefore bounds
    the difference between the two clocks from both sides, and the bounds of many answers close in on it.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """`monotonic` counts seconds from any beginning."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._bounds: tuple[datetime, datetime] | None = None  # the store's time when `monotonic` was 0

    @property
    def is_set(self) -> bool:
        """Whether an answer has been seen."""
        return self._bounds is not None

    def learn(self, date: datetime, *, asked_at: float, answered_at: float) -> None:
        """Take in the `Date` of an answer; the moments are by `monotonic`."""
        earliest = date - timedelta(seconds=answered_at)
        latest = date + SECOND - timedelta(seconds=asked_at)
        with self._lock:
            if self._bounds:
                closer = max(earliest, self._bounds[0]), min(latest, self._bounds[1])
                # Bounds that cross mean that one of the clocks was moved or has drifted: begin anew.
                self._bounds = closer if closer[0] <= closer[1] else (earliest, latest)
            else:
                self._bounds = earliest, latest

    def now(self) -> datetime:
        """The store's time, never ahead of it; right to a second, and soon to the length of a round trip."""
        if not self._bounds:
            raise AssertionError("the clock was asked before any answer set it")
        return (self._bounds[0] + timedelta(seconds=self._monotonic())).astimezone(UTC)
