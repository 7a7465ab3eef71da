"""How a worker's container leaves of its own accord: it gets no more inputs, and ends after those in hand."""

import logging
import os
import signal
from collections.abc import Callable

from modal.experimental import stop_fetching_inputs

from shared.log import log


def interrupt() -> None:
    """What Modal does to a container that it preempts: jobs in hand are handed back, and the process ends."""
    os.kill(os.getpid(), signal.SIGINT)


def shutdown(stop: Callable[[], None] = stop_fetching_inputs, otherwise: Callable[[], None] = interrupt) -> None:
    """Ask Modal for no more inputs; where it does not hear of it, leave all the same."""
    try:
        stop()
    except Exception as error:  # noqa: BLE001 - whatever the SDK meets: a process that is unfit must take no other job
        log("worker.stop_failed", level=logging.ERROR, reason=f"{type(error).__name__}: {error}")
        otherwise()
