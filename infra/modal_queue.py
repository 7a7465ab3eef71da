"""The doorbell over `modal.Queue`: a lane is a partition, and every ring also sends workers their tickets."""

import asyncio
import logging
from collections.abc import Sequence

import modal

from infra.lanes import LaneOrder
from infra.modal_calls import ModalCalls
from infra.tickets import Tickets
from shared.errors import QueueUnavailable
from shared.log import log
from shared.ports import Lane


class ModalQueue:
    """Ids in the lanes of one named queue. Safe from any thread; not for use inside a running event loop.

    Modal loses an id whose taker dies, clears a lane a day after its last put, and may double what was put before
    an answer was lost. None of that matters here: the sweeper rings again, and a second claim is refused.
    """

    def __init__(self, queue: modal.Queue, tickets: Tickets, calls: ModalCalls, order: LaneOrder | None = None) -> None:
        self._queue = queue
        self._tickets = tickets
        self._calls = calls
        self._order = order or LaneOrder()

    def ring(self, ids: Sequence[str], lane: Lane) -> None:
        """Announce queued jobs, and send a ticket for each as far as the fleet has use for it.

        Raises:
            QueueUnavailable: the lane is full, or Modal did not answer in time; some may have been announced.
        """
        deadline = self._calls.deadline()
        self._calls.run(lambda: self._put(list(ids), lane), deadline)
        if lane in self._order.lanes:
            self._tickets.send(len(ids), deadline)

    def take(self) -> str | None:
        """The next id, or None; also where Modal does not answer, since the sweeper rings for whatever waits."""
        try:
            return self._calls.run(self._take, self._calls.deadline())
        except QueueUnavailable as error:
            log("queue.not_taken", level=logging.WARNING, reason=str(error))
            return None

    def follow(self) -> None:
        """What a ticket does last: send others for the ids that wait, its own successor among them."""
        try:
            deadline = self._calls.deadline()
            if waiting := self._calls.run(self._waiting, deadline):
                self._tickets.send(waiting, deadline, ending=1)
        except QueueUnavailable as error:
            log("queue.not_followed", level=logging.WARNING, reason=str(error))

    async def _put(self, ids: list[str], lane: Lane) -> None:
        """Put what does not wait yet: a sweep would double its ids minute after minute. One id is put unasked."""
        if len(ids) > 1 and await self._queue.len.aio(partition=lane):
            waiting = {job_id async for job_id in self._queue.iterate.aio(partition=lane)}
            ids = [job_id for job_id in ids if job_id not in waiting]
        if ids:
            # Not blocking: a full lane is told at once, and a lost answer is retried by the SDK, thrice.
            await self._queue.put_many.aio(ids, block=False, partition=lane)

    async def _waiting(self) -> int:
        lengths = await asyncio.gather(*(self._queue.len.aio(partition=lane) for lane in self._order.lanes))
        return sum(lengths)

    async def _take(self) -> str | None:
        for lane in self._order.next():
            # get_many, since get cannot tell nothing from None.
            if taken := await self._queue.get_many.aio(1, block=False, partition=lane):
                return str(taken[0])
        return None
