"""How fast a caller asks: a token bucket for each, in this process, told of in the RateLimit headers."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from api.limits.quotas import CallerLimits

MAX_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class RateLimitResult:
    """What came of one request. retry_after_s: 0 where it may pass."""

    burst: int
    per_s: float
    remaining: int
    retry_after_s: float

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10): w and t in whole seconds."""
        window_s = math.ceil(self.burst / self.per_s)
        full_in_s = math.ceil((self.burst - self.remaining) / self.per_s)
        return [
            (b"ratelimit-policy", b'"requests";q=%d;w=%d' % (self.burst, window_s)),
            (b"ratelimit", b'"requests";r=%d;t=%d' % (self.remaining, full_in_s)),
        ]


class TokenBuckets:
    """The callers' buckets. Safe from any thread."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}  # when each caller's bucket will be full again

    def take(self, caller: str, limits: CallerLimits) -> RateLimitResult | None:
        """Take one token; None where the caller has no such limit. A refused request costs none."""
        if limits.requests_per_s is None:
            return None
        per_s, now = limits.requests_per_s, self._monotonic()
        with self._lock:
            if len(self._full_at) >= MAX_CALLERS:
                self._full_at = {name: at for name, at in self._full_at.items() if at > now}
            full_at = max(self._full_at.get(caller, now), now) + 1 / per_s
            missing = (full_at - now) * per_s
            if missing > limits.burst + 1e-9:
                return RateLimitResult(limits.burst, per_s, 0, (missing - limits.burst) / per_s)
            self._full_at[caller] = full_at
            return RateLimitResult(limits.burst, per_s, math.floor(limits.burst - missing + 1e-9), 0.0)
