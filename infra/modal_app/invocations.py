"""Worker inputs on Modal: how many are alive, and as many more as could be useful."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from infra.modal_app.rpc import ModalCalls
from shared.errors import QueueUnavailable
from shared.log import log

LAG_S = 1.0  # for how long a ticket that was just sent may be missing in Modal's numbers
SPARE = 1  # one over the ceiling, for the moment between a ticket's last look into the queue and its end


class ModalFunction(Protocol):
    """A worker function as tickets need it: `modal.Function`, or something that plays it."""

    @property
    def spawn(self) -> Any:
        """`await spawn.aio()` sends one input."""

    @property
    def get_current_stats(self) -> Any:
        """`await get_current_stats.aio()` gives `backlog` and `num_running_inputs`."""


def in_a_while(seconds: float, act: Callable[[], None]) -> None:
    """Act later, in a thread that holds up no exit."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


class InvocationSender:
    """Sends tickets to one worker function, never more than its fleet could run at once. Safe from any thread.

    A ticket that finds nothing is cheap on a warm worker but starts a cold one for nothing. So each ring asks first
    how many tickets are alive. Modal's count may lag: those sent within the last second count as alive too, and what
    is withheld only for their sake is asked for again a second later. A fleet at its ceiling gets no more: every
    ticket that ends while ids wait is followed by another.
    """

    def __init__(
        self,
        function: ModalFunction,
        calls: ModalCalls,
        *,
        ceiling: int,
        monotonic: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] = in_a_while,
    ) -> None:
        """`ceiling` is how many inputs the whole fleet runs at once; `monotonic` counts seconds, `later` waits them."""
        self._function = function
        self._calls = calls
        self._most = ceiling + SPARE
        self._monotonic = monotonic
        self._later = later
        self._sent_at: deque[float] = deque()
        self._wanted = 0
        self._withheld = 0
        self._counting = threading.Lock()
        self._asking = threading.Lock()

    def spawn(self, wanted: int, deadline: float, *, ending: int = 0) -> None:
        """Send as many of `wanted` tickets as could be useful.

        Rings that come while one asks are added up, and the next one to ask asks for all of them. `ending` are
        tickets that Modal counts but that are about to end: the one that asks for its successor.

        Raises:
            QueueUnavailable: Modal did not answer; some may have been sent.
        """
        with self._counting:
            self._wanted += wanted
        if not self._asking.acquire(timeout=self._calls.left_s(deadline)):
            raise QueueUnavailable("other rings are still waiting for Modal")
        try:
            with self._counting:
                wanted, self._wanted = self._wanted, 0
            if wanted:
                self._calls.run(lambda: self._send(wanted, ending), deadline)
        finally:
            self._asking.release()

    async def _send(self, wanted: int, ending: int) -> None:
        stats = await self._function.get_current_stats.aio()
        useful = min(wanted, self._most - int(stats.backlog + stats.num_running_inputs) + ending)
        if useful <= 0:
            return
        now = self._monotonic()
        while self._sent_at and (ending > 0 or now - self._sent_at[0] > LAG_S):
            self._sent_at.popleft()
            ending -= 1
        certain = max(0, min(useful, self._most - len(self._sent_at)))
        self._sent_at.extend(now for _ in range(certain))
        self._withhold(useful - certain)
        await asyncio.gather(*(self._function.spawn.aio() for _ in range(certain)))

    def _withhold(self, tickets: int) -> None:
        if tickets and not self._withheld:
            self._later(LAG_S, self._send_withheld)
        self._withheld += tickets

    def _send_withheld(self) -> None:
        with self._asking:
            wanted, self._withheld = self._withheld, 0
        try:
            self.spawn(wanted, self._calls.deadline())
        except QueueUnavailable as error:
            log("worker.spawn_failed", level=logging.WARNING, tickets=wanted, reason=str(error))
