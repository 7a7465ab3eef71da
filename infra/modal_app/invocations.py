"""Calls to Modal's SDK, each bounded in time, and the worker invocations that they spawn."""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol, TypeVar

from grpclib.exceptions import GRPCError, StreamTerminatedError
from modal.exception import Error

from shared.errors import QueueUnavailable
from shared.log import log

T = TypeVar("T")

BOUND_S = 1.8  # of the two seconds that a caller of `enqueue` allows
OPEN_CIRCUIT_S = 10.0  # after a call that Modal did not answer in time, calls fail at once for so long
LAG_S = 1.0  # for how long Modal's statistics may miss an invocation
SPARE = 1  # one over the ceiling, for the moment between an invocation's last dequeue and its end


@dataclass(slots=True, kw_only=True)
class ModalCalls:
    """Runs the SDK's coroutines, with a circuit breaker. Safe from any thread.

    The SDK does not bound a first call (it goes on connecting for a minute) and repeats the others as it sees fit: so
    every call is cut here. After a call that was cut, calls fail at once for a while, or every submit would wait.

    bound_s: limits one call, or several with one `deadline`. monotonic: counts seconds.
    """

    bound_s: float = BOUND_S
    monotonic: Callable[[], float] = time.monotonic
    _open_until: float = float("-inf")

    def deadline(self) -> float:
        """Return when calls that begin now must have ended, by `monotonic`."""
        return self.monotonic() + self.bound_s

    def left_s(self, deadline: float) -> float:
        """Return the seconds until a deadline, at least 0."""
        return max(0.0, deadline - self.monotonic())

    def run(self, call: Callable[[], Coroutine[Any, Any, T]], deadline: float) -> T:
        """Run a call and return its result.

        Raises:
            QueueUnavailable: it failed, or did not end in time; Modal may have done it all the same.
        """
        if self.monotonic() < self._open_until:
            raise QueueUnavailable("Modal did not answer a moment ago")
        try:
            return asyncio.run(self._cut(call, deadline))
        except TimeoutError as error:
            self._open_until = self.monotonic() + OPEN_CIRCUIT_S
            raise QueueUnavailable("Modal did not answer in time") from error
        except queue.Full as error:
            raise QueueUnavailable("the lane is full") from error
        except (Error, GRPCError, StreamTerminatedError, OSError) as error:
            raise QueueUnavailable(f"{type(error).__name__}: {error}") from error

    async def _cut(self, call: Callable[[], Coroutine[Any, Any, T]], deadline: float) -> T:
        async with asyncio.timeout(self.left_s(deadline)):
            return await call()


class ModalFunction(Protocol):
    """The part of `modal.Function` that a sender uses."""

    @property
    def spawn(self) -> Any:
        """`await spawn.aio()` sends one input."""

    @property
    def get_current_stats(self) -> Any:
        """`await get_current_stats.aio()` returns `backlog` and `num_running_inputs`."""


def run_later(seconds: float, act: Callable[[], None]) -> None:
    """Run a function after some seconds, in a daemon thread."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


@dataclass(slots=True)
class InvocationSender:
    """Spawns invocations of one function, never more than its fleet can run at once. Safe from any thread.

    An invocation that finds no job is cheap on a warm worker, but starts a cold one for nothing. So each spawn first
    asks how many invocations are alive. Modal's statistics may lag: those sent within the last second count as alive
    too, and what is withheld only because of them is sent a second later. A fleet at its ceiling gets no more: every
    invocation that ends while ids wait spawns the next one.

    ceiling: how many inputs the fleet runs at once. monotonic: counts seconds. later: waits for them, then calls.
    """

    function: ModalFunction
    calls: ModalCalls
    _: KW_ONLY
    ceiling: int
    monotonic: Callable[[], float] = time.monotonic
    later: Callable[[float, Callable[[], None]], None] = run_later
    _sent_at: deque[float] = field(default_factory=deque)
    _requested: int = 0
    _withheld: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def spawn(self, count: int, deadline: float, *, ending: int = 0) -> None:
        """Spawn up to `count` invocations, as many as the fleet can use.

        Counts of callers that come while one sends are added up, and the next caller sends for all of them.

        Args:
            ending: invocations that Modal still counts but that are about to end: the caller itself.

        Raises:
            QueueUnavailable: Modal did not answer; some may have been spawned.
        """
        with self._counting:
            self._requested += count
        if not self._sending.acquire(timeout=self.calls.left_s(deadline)):
            raise QueueUnavailable("other calls are still waiting for Modal")
        try:
            with self._counting:
                requested, self._requested = self._requested, 0
            if requested:
                self.calls.run(lambda: self._send(requested, ending), deadline)
        finally:
            self._sending.release()

    async def _send(self, requested: int, ending: int) -> None:
        stats = await self.function.get_current_stats.aio()
        limit = self.ceiling + SPARE
        useful = min(requested, limit - int(stats.backlog + stats.num_running_inputs) + ending)
        if useful <= 0:
            return
        now = self.monotonic()
        while self._sent_at and (ending > 0 or now - self._sent_at[0] > LAG_S):
            self._sent_at.popleft()
            ending -= 1
        certain = max(0, min(useful, limit - len(self._sent_at)))
        self._sent_at.extend(now for _ in range(certain))
        self._withhold(useful - certain)
        await asyncio.gather(*(self.function.spawn.aio() for _ in range(certain)))

    def _withhold(self, count: int) -> None:
        if count and not self._withheld:
            self.later(LAG_S, self._send_withheld)
        self._withheld += count

    def _send_withheld(self) -> None:
        with self._sending:
            count, self._withheld = self._withheld, 0
        try:
            self.spawn(count, self.calls.deadline())
        except QueueUnavailable as error:
            log("worker.spawn_failed", level=logging.WARNING, count=count, reason=str(error))
