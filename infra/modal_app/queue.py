"""The doorbell over `modal.Queue`: a wave of a lane is a partition, and every ring also sends workers their tickets."""

import asyncio
import logging
from collections.abc import Sequence

import modal

from infra.modal_app.invocations import InvocationSender
from infra.modal_app.rpc import ModalCalls
from infra.queues.priority import FairScheduler, QueuePartition, order_of
from shared.domain.job import Lane
from shared.errors import QueueUnavailable
from shared.log import log

PARTITION_ITEMS = 5_000  # Modal's limit


class ModalQueue:
    """Ids in the lanes of one named queue. Safe from any thread; not for use inside a running event loop.

    Modal loses an id whose taker dies, clears a lane a day after its last put, and may double what was put before
    an answer was lost. None of that matters here: the sweeper rings again, and a second claim is refused.
    """

    def __init__(
        self,
        queue: modal.Queue,
        tickets: InvocationSender,
        calls: ModalCalls,
        order: FairScheduler | None = None,
        *,
        clears_stale: bool = False,
    ) -> None:
        """`clears_stale`: whether an enqueue of several ids names all that is due in their tier."""
        self._queue = queue
        self._clears_stale = clears_stale
        self._tickets = tickets
        self._calls = calls
        self._order = order or FairScheduler()

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:
        """Announce queued jobs, and send a ticket for each as far as the fleet has use for it.

        Raises:
            QueueUnavailable: the lane is full, or Modal did not answer in time; some may have been announced.
        """
        deadline = self._calls.deadline()
        self._calls.run(lambda: self._put(list(job_ids), _partition((lane, tier))), deadline)
        if lane in self._order.lanes:
            self._tickets.spawn(len(job_ids), deadline)

    def dequeue(self) -> str | None:
        """The next id, or None; also where Modal does not answer, since the sweeper rings for whatever waits."""
        try:
            return self._calls.run(self._take, self._calls.deadline())
        except QueueUnavailable as error:
            log("queue.dequeue_failed", level=logging.WARNING, reason=str(error))
            return None

    def spawn_next(self) -> None:
        """What a ticket does last: send others for the ids that wait, its own successor among them."""
        try:
            deadline = self._calls.deadline()
            if waiting := self._calls.run(self._waiting, deadline):
                self._tickets.spawn(waiting, deadline, ending=1)
        except QueueUnavailable as error:
            log("worker.spawn_failed", level=logging.WARNING, reason=str(error))

    async def _put(self, ids: list[str], partition: str) -> None:
        """Put what does not wait yet: a sweep would double its ids minute after minute. One id is put unasked."""
        if len(ids) > 1 and (length := await self._queue.len.aio(partition=partition)):
            waiting = {job_id async for job_id in self._queue.iterate.aio(partition=partition)}
            missing = [job_id for job_id in ids if job_id not in waiting]
            is_full = length + len(missing) > PARTITION_ITEMS
            if self._clears_stale and is_full and len(waiting.difference(ids)) > PARTITION_ITEMS // 2:
                # Mostly of jobs that were rung for again in an earlier wave, and are gone. A fresh one waits a minute.
                await self._queue.clear.aio(partition=partition)
            else:
                ids = missing
        if ids:
            # Not blocking: a full lane is told at once, and a lost answer is retried by the SDK, thrice.
            await self._queue.put_many.aio(ids, block=False, partition=partition)

    async def _waiting(self) -> int:
        return sum(await self._lengths(order_of(self._order.lanes)))

    async def _lengths(self, shelves: Sequence[QueuePartition]) -> list[int]:
        return await asyncio.gather(*(self._queue.len.aio(partition=_partition(shelf)) for shelf in shelves))

    async def _take(self) -> str | None:
        order = self._order.next()
        for shelf, length in zip(order, await self._lengths(order), strict=True):
            # get_many, since get cannot tell nothing from None; nothing, where another was faster.
            if length and (taken := await self._queue.get_many.aio(1, block=False, partition=_partition(shelf))):
                self._order.record_dequeue(shelf)
                return str(taken[0])
        return None


def _partition(shelf: QueuePartition) -> str:
    lane, wave = shelf
    return f"{lane}.{wave}" if wave else str(lane)
