"""The service's doorbell over the real SDK, with a queue of its own for each test."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import modal

from infra.modal_app.invocations import InvocationSender, ModalCalls, run_later
from infra.modal_app.queue import ModalQueue
from infra.queues.priority import FairScheduler

_names = (f"doorbell-{number}" for number in itertools.count())
CEILING = 4
Later = Callable[[float, Callable[[], None]], None]


def a_worker() -> modal.Function[..., Any, Any]:
    """The deployed worker function."""
    return modal.Function.from_name("trellis2", "worker")


def a_notifier() -> modal.Function[..., Any, Any]:
    """The deployed notifier."""
    return modal.Function.from_name("trellis2", "notifier")


def a_name() -> str:
    """The name of a queue that nobody has used."""
    return next(_names)


def a_modal_queue(
    name: str | None = None,
    *,
    ceiling: int = CEILING,
    bound_s: float = 1.8,
    later: Later = run_later,
    seconds: Callable[[], float] = time.monotonic,
    clears_stale: bool = False,
) -> ModalQueue:
    """A doorbell as one process has it; an empty one under a fresh name, if no name is given."""
    calls = ModalCalls(bound_s=bound_s)
    queue = modal.Queue.from_name(name or a_name(), create_if_missing=True)
    tickets = InvocationSender(a_worker(), calls, ceiling=ceiling, later=later, monotonic=seconds)
    return ModalQueue(queue, tickets, calls, FairScheduler(), clears_stale=clears_stale)
