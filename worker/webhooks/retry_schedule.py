"""When a webhook that failed is tried again: the schedule that Standard Webhooks 1.0 recommends."""

import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from shared.storage.keys import whole_ms

# Seconds from one try to the next; the first is made at once.
DELAYS_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2  # each delay is this much shorter or longer, so that what failed together does not return together
MAX_DELAY_S = 86_400.0  # what a receiver may ask for with Retry-After


def draw_jitter() -> float:
    """The factor of one delay."""
    return random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter, not a secret


def next_try_at(
    tries: int, now: datetime, headers: Mapping[str, str], jitter: Callable[[], float] = draw_jitter
) -> datetime | None:
    """When to try again after `tries` failures, in whole ms; None where enough is enough.

    A Retry-After in `headers` (names in lower case) can make it later, up to MAX_DELAY_S, never sooner.
    """
    if tries >= len(DELAYS_S):
        return None
    delay_s = max(DELAYS_S[tries] * jitter(), min(_asked_s(headers.get("retry-after", ""), now), MAX_DELAY_S))
    return whole_ms(now + timedelta(seconds=delay_s))


def _asked_s(retry_after: str, now: datetime) -> float:
    """Retry-After in seconds: a number or a date (RFC 9110, 10.2.3); 0 where it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:12])
    try:
        return (parsedate_to_datetime(retry_after) - now).total_seconds()
    except (TypeError, ValueError):
        return 0.0
