"""One extraction at a time on a GPU, beside what another thread samples there.

Warp's sorts and search trees share buffers and tables there, and threads that use them at once spoil each other's.
"""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL_S = 0.2  # how long a cancel may go unheard by an extraction that waits
_turn = threading.Lock()


@contextmanager
def gpu_lock(device: str, check_canceled: Callable[[], object]) -> Iterator[None]:
    """Wait until no other thread is inside, except on the CPU, where many may be.

    What the block calls must own whatever it leaves on the device. alive: called while waiting; what it raises passes
    through.
    """
    if device == "cpu":
        yield
        return
    while not _turn.acquire(timeout=POLL_S):
        check_canceled()
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # they hold search trees, which must go before the next one comes
        raise
    finally:
        _turn.release()
