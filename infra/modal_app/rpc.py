"""Calls to Modal, each bounded in time, with its errors in our own words."""

import asyncio
import queue
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from grpclib.exceptions import GRPCError, StreamTerminatedError
from modal.exception import Error

from shared.errors import QueueUnavailable

T = TypeVar("T")

BOUND_S = 1.8  # what one ring may take of the two seconds that its caller gives it
OPEN_CIRCUIT_S = 10.0  # for how long nobody asks again once Modal has not answered in time


class ModalCalls:
    """Runs the SDK's coroutines. Safe from any thread.

    The SDK bounds no first call (it goes on connecting for a minute) and repeats the others as it sees fit: so every
    call is cut here. After one that was cut, the others are refused at once for a while, or every submit would wait.
    """

    def __init__(self, *, bound_s: float = BOUND_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`bound_s` is how long one call, or several with one `deadline`, may take; `monotonic` counts seconds."""
        self._bound_s = bound_s
        self._monotonic = monotonic
        self._silent_until = float("-inf")

    def deadline(self) -> float:
        """When calls that begin now must have ended."""
        return self._monotonic() + self._bound_s

    def left_s(self, deadline: float) -> float:
        """Seconds until then, 0 at least."""
        return max(0.0, deadline - self._monotonic())

    def run(self, call: Callable[[], Coroutine[Any, Any, T]], deadline: float) -> T:
        """Make a call and wait for its end.

        Raises:
            QueueUnavailable: it failed, or did not end in time; it may have acted all the same.
        """
        if self._monotonic() < self._silent_until:
            raise QueueUnavailable("Modal did not answer a moment ago")
        try:
            return asyncio.run(self._cut(call, deadline))
        except TimeoutError as error:
            self._silent_until = self._monotonic() + OPEN_CIRCUIT_S
            raise QueueUnavailable("Modal did not answer in time") from error
        except queue.Full as error:
            raise QueueUnavailable("the lane is full") from error
        except (Error, GRPCError, StreamTerminatedError, OSError) as error:
            raise QueueUnavailable(f"{type(error).__name__}: {error}") from error

    async def _cut(self, call: Callable[[], Coroutine[Any, Any, T]], deadline: float) -> T:
        async with asyncio.timeout(self.left_s(deadline)):
            return await call()
