"""Group commit: run several blocking writes together, so that they share one wait for the disk.

No library does this across threads for an arbitrary store; the event loop and a thread pool are enough.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.storage.ports import ObjectStore

T = TypeVar("T")
Write = tuple[Callable[[], Any], asyncio.Future[Any]]
Result = tuple[asyncio.Future[Any], Any, BaseException | None]


@dataclass(frozen=True, slots=True)
class GroupCommitLimits:
    """How many groups run at once, and how many writes share a group.

    Over a network, writes run concurrently, one per group; on a disk, larger groups share one fsync.
    """

    max_groups: int = 16
    group_size: int = 1


class GroupCommitExecutor:
    """Run writes from one event loop in groups. Writes that arrive while all groups run form the next groups.

    A write returns only when its whole group is durable. The loop starts each group, after it has read the requests
    that arrived meanwhile, not the thread that has just finished one: loop and threads then seldom compete for the GIL.
    """

    def __init__(self, store: ObjectStore, threads: ThreadPoolExecutor, limits: GroupCommitLimits) -> None:
        """`threads` has at least `limits.max_groups` threads."""
        self._store = store
        self._threads = threads
        self._group_size = limits.group_size
        self._free_groups = limits.max_groups
        self._waiting: deque[Write] = deque()
        self._is_start_scheduled = False

    async def run(self, write: Callable[[], T]) -> T:
        """Run a write in a group and return its result.

        Raises:
            Exception: the error of the write, or of the store if the group could not be made durable.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((write, future))
        self._schedule_start(loop)
        return await future

    def _schedule_start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._free_groups and not self._is_start_scheduled:
            self._is_start_scheduled = True
            loop.call_later(0, self._start_groups, loop)

    def _start_groups(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_start_scheduled = False
        while self._free_groups and self._waiting:
            group = [self._waiting.popleft() for _ in range(min(self._group_size, len(self._waiting)))]
            self._free_groups -= 1
            self._threads.submit(self._run_group, group, loop)

    def _run_group(self, group: list[Write], loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(self._finish_group, self._commit(group), loop)

    def _finish_group(self, results: list[Result], loop: asyncio.AbstractEventLoop) -> None:
        self._free_groups += 1
        for future, result, error in results:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if self._waiting:
            self._schedule_start(loop)

    def _commit(self, group: list[Write]) -> list[Result]:
        results: list[Result] = []
        try:
            with self._store.group_commit():
                results.extend(_attempt(write, future) for write, future in group)
        except Exception as error:  # noqa: BLE001 - every waiting caller must get an answer
            return [(future, None, failure or error) for future, _, failure in results]
        return results


def _attempt(write: Callable[[], Any], future: asyncio.Future[Any]) -> Result:
    try:
        return future, write(), None
    except Exception as error:  # noqa: BLE001 - the caller receives it
        return future, None, error
