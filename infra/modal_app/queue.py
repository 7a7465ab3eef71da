"""The job queue over `modal.Queue`: a tier of a lane is a partition, and every enqueue also spawns invocations."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import modal

from infra.modal_app.invocations import InvocationSender, ModalCalls
from infra.queues.priority import FairScheduler, QueuePartition, order_of
from shared.domain.job import Lane
from shared.errors import QueueUnavailable
from shared.log import log

PARTITION_ITEMS = 5_000  # Modal's limit


@dataclass(frozen=True, slots=True)
class ModalQueue:
    """Ids in the lanes of one named queue. Safe from any thread; not for use inside a running event loop.

    Modal loses an id whose dequeuer dies, clears a lane a day after its last put, and may double what was put before
    an answer was lost. None of that does harm: the reconciler enqueues again, and a second claim is refused.

    clears_stale: whether an enqueue of several ids names all that is due in their tier.
    """

    queue: modal.Queue
    invocations: InvocationSender
    calls: ModalCalls
    order: FairScheduler
    clears_stale: bool = False

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:
        """Enqueue jobs, and spawn an invocation for each, as many as the fleet can use.

        Raises:
            QueueUnavailable: the lane is full, or Modal did not answer in time; some may have been enqueued.
        """
        deadline = self.calls.deadline()
        self.calls.run(lambda: self._put(list(job_ids), _name((lane, tier))), deadline)
        if lane in self.order.lanes:
            self.invocations.spawn(len(job_ids), deadline)

    def dequeue(self) -> str | None:
        """Dequeue an id; None too where Modal does not answer, since the reconciler enqueues what waits."""
        try:
            return self.calls.run(self._dequeue, self.calls.deadline())
        except QueueUnavailable as error:
            log("queue.dequeue_failed", level=logging.WARNING, reason=str(error))
            return None

    def spawn_next(self) -> None:
        """Spawn invocations for the ids that wait, at the end of one: its own successor among them."""
        try:
            deadline = self.calls.deadline()
            if waiting := self.calls.run(self._waiting, deadline):
                self.invocations.spawn(waiting, deadline, ending=1)
        except QueueUnavailable as error:
            log("worker.spawn_failed", level=logging.WARNING, reason=str(error))

    async def _put(self, ids: list[str], partition: str) -> None:
        """Put the ids that do not wait yet: the reconciler would double them each minute. One id is put unasked."""
        if len(ids) > 1 and (length := await self.queue.len.aio(partition=partition)):
            waiting = {job_id async for job_id in self.queue.iterate.aio(partition=partition)}
            missing = [job_id for job_id in ids if job_id not in waiting]
            is_full = length + len(missing) > PARTITION_ITEMS
            if self.clears_stale and is_full and len(waiting.difference(ids)) > PARTITION_ITEMS // 2:
                # Most are of jobs that were enqueued again in an earlier tier, and are gone. A new one waits a minute.
                await self.queue.clear.aio(partition=partition)
            else:
                ids = missing
        if ids:
            # Not blocking: a full lane fails at once, and the SDK retries a lost answer three times.
            await self.queue.put_many.aio(ids, block=False, partition=partition)

    async def _waiting(self) -> int:
        return sum(await self._lengths(order_of(self.order.lanes)))

    async def _lengths(self, partitions: Sequence[QueuePartition]) -> list[int]:
        return await asyncio.gather(*(self.queue.len.aio(partition=_name(partition)) for partition in partitions))

    async def _dequeue(self) -> str | None:
        order = self.order.next()
        for partition, length in zip(order, await self._lengths(order), strict=True):
            # get_many, since get returns None for an empty queue too; empty where another worker was faster.
            if length and (ids := await self.queue.get_many.aio(1, block=False, partition=_name(partition))):
                self.order.record_dequeue(partition)
                return str(ids[0])
        return None


def _name(partition: QueuePartition) -> str:
    lane, tier = partition
    return f"{lane}.{tier}" if tier else str(lane)
