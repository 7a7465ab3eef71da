"""When a sweep also looks for leftovers: lists that grow with all traffic, and so are not for every minute.

What lives a day is deleted within half an hour after it, or an hour where a sweep fails.
"""

from collections.abc import Callable
from datetime import datetime

TIDY_MINUTES = (7, 37)  # of every hour
TIDY_S = 1_800.0


def at_minutes(now: Callable[[], datetime]) -> Callable[[], bool]:
    """For sweeps that remember nothing of each other and come once a minute; `now` is the store's clock."""
    return lambda: now().minute in TIDY_MINUTES


def half_hourly(seconds: Callable[[], float]) -> Callable[[], bool]:
    """For the sweeps of one long-lived process, its first among them; `seconds` is a monotonic clock."""
    next_at = float("-inf")

    def is_due() -> bool:
        nonlocal next_at
        if seconds() < next_at:
            return False
        next_at = seconds() + TIDY_S
        return True

    return is_due
