"""Modal's queues: ordered partitions of limited length, cleared some time after their last put, with long polls."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from grpclib import GRPCError, Status
from modal_proto import api_pb2

PARTITION_ITEMS = 5_000
ITEM_BYTES = 1 << 20
PARTITION_KEY_BYTES = 64


@dataclass
class Partition:
    """Numbered items, and when they are cleared, in seconds of the server's clock."""

    items: deque[tuple[int, bytes]] = field(default_factory=deque)
    cleared_at: float = float("inf")


class Queues:
    """The calls behind `modal.Queue`."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self._queues: dict[str, dict[bytes, Partition]] = {}
        self._numbers = 0
        self._put = asyncio.Condition()

    async def QueueGetOrCreate(self, request: Any) -> Any:  # noqa: N802 - each method has the name of its call
        """Create or look up a queue by its name."""
        queue_id = f"qu-{request.deployment_name}"
        if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
            _require(queue_id in self._queues, Status.NOT_FOUND, f"no queue {request.deployment_name}")
        self._queues.setdefault(queue_id, defaultdict(Partition))
        metadata = api_pb2.QueueMetadata(name=request.deployment_name)
        return api_pb2.QueueGetOrCreateResponse(queue_id=queue_id, metadata=metadata)

    async def QueuePut(self, request: Any) -> None:  # noqa: N802
        """Append all values, or none if they do not fit."""
        partition = self._partition(request)
        _require(all(len(value) <= ITEM_BYTES for value in request.values), Status.INVALID_ARGUMENT, "too large")
        fits = len(partition.items) + len(request.values) <= PARTITION_ITEMS
        _require(fits, Status.RESOURCE_EXHAUSTED, "the partition is full")
        for value in request.values:
            self._numbers += 1
            partition.items.append((self._numbers, value))
        partition.cleared_at = self.clock() + request.partition_ttl_seconds
        async with self._put:
            self._put.notify_all()

    async def QueueGet(self, request: Any) -> Any:  # noqa: N802
        """Remove up to `n_values`, waiting for the first one."""
        partition = self._partition(request)
        if not partition.items and request.timeout > 0:
            try:
                async with self._put:
                    await asyncio.wait_for(self._put.wait_for(lambda: partition.items), request.timeout)
            except TimeoutError:
                return api_pb2.QueueGetResponse()
        taken = [partition.items.popleft()[1] for _ in range(min(request.n_values, len(partition.items)))]
        return api_pb2.QueueGetResponse(values=taken)

    async def QueueNextItems(self, request: Any) -> Any:  # noqa: N802
        """Return up to a hundred items after a given item, without removing them."""
        after = int(request.last_entry_id or 0)
        items = [item for item in self._partition(request).items if item[0] > after][:100]
        shown = [api_pb2.QueueItem(entry_id=str(number), value=value) for number, value in items]
        return api_pb2.QueueNextItemsResponse(items=shown)

    async def QueueLen(self, request: Any) -> Any:  # noqa: N802
        """Return the length of one partition, or of all."""
        if request.total:
            lengths = [len(self._without_expired(partition).items) for partition in self._of(request.queue_id).values()]
            return api_pb2.QueueLenResponse(len=sum(lengths))
        return api_pb2.QueueLenResponse(len=len(self._partition(request).items))

    async def QueueClear(self, request: Any) -> None:  # noqa: N802
        """Empty one partition, or all of them."""
        if request.all_partitions:
            self._of(request.queue_id).clear()
        else:
            self._partition(request).items.clear()

    def _of(self, queue_id: str) -> dict[bytes, Partition]:
        _require(queue_id in self._queues, Status.NOT_FOUND, f"no queue {queue_id}")
        return self._queues[queue_id]

    def _partition(self, request: Any) -> Partition:
        _require(len(request.partition_key) <= PARTITION_KEY_BYTES, Status.INVALID_ARGUMENT, "the key is too long")
        return self._without_expired(self._of(request.queue_id)[request.partition_key])

    def _without_expired(self, partition: Partition) -> Partition:
        if self.clock() > partition.cleared_at:
            partition.items.clear()
        return partition


def _require(holds: bool, status: Status, message: str) -> None:
    if not holds:
        raise GRPCError(status, message)
