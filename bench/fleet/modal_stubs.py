"""Modal's queue and functions for the simulation: what our code calls of the SDK, without the network."""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from infra.modal_app.queue import PARTITION_ITEMS
from shared.errors import QueueUnavailable


class Call:
    """A function of the SDK, in the form in which it is awaited."""

    def __init__(self, aio: Callable[..., Any]) -> None:
        self.aio = aio


class PlayedQueue:
    """Partitions of ids."""

    def __init__(self) -> None:
        self._partitions: dict[str, deque[str]] = defaultdict(deque)
        self.put_many, self.get_many, self.len = Call(self._put), Call(self._get), Call(self._len)
        self.iterate, self.clear = Call(self._iterate), Call(self._clear)

    async def _put(self, ids: list[str], *, block: bool, partition: str) -> None:
        assert not block
        if len(self._partitions[partition]) + len(ids) > PARTITION_ITEMS:
            raise QueueUnavailable("the lane is full")
        self._partitions[partition].extend(ids)

    async def _get(self, count: int, *, block: bool, partition: str) -> list[str]:
        assert not block
        waiting = self._partitions[partition]
        return [waiting.popleft() for _ in range(min(count, len(waiting)))]

    async def _clear(self, *, partition: str) -> None:
        self._partitions[partition].clear()

    async def _len(self, *, partition: str) -> int:
        return len(self._partitions[partition])

    async def _iterate(self, *, partition: str) -> AsyncIterator[str]:
        for job_id in list(self._partitions[partition]):
            yield job_id


class PlayedFunction:
    """Inputs that wait and run. `arrived` is called after each spawn."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived = arrived
        self.waiting = self.running = 0
        self.spawn, self.get_current_stats = Call(self._spawn), Call(self._stats)

    async def _spawn(self) -> None:
        self.waiting += 1
        self._arrived()

    async def _stats(self) -> "PlayedFunction":
        return self

    @property
    def backlog(self) -> int:
        """Inputs that wait."""
        return self.waiting

    @property
    def num_running_inputs(self) -> int:
        """Inputs that run."""
        return self.running

    def begin(self) -> None:
        """One that waited begins to run."""
        self.waiting -= 1
        self.running += 1

    def end(self) -> None:
        """One ends."""
        self.running -= 1
