"""Which callers have webhook endpoints, remembered for a moment: a submit must not list them each time."""

from collections.abc import Callable

from shared.repositories.webhooks import EndpointRepository

CACHE_S = 5.0
CACHE_CALLERS = 10_000


class EndpointCache:
    """Whether a caller's jobs are to be announced to endpoints. Safe from any thread."""

    def __init__(self, endpoints: EndpointRepository, *, monotonic: Callable[[], float]) -> None:
        self._endpoints = endpoints
        self._monotonic = monotonic
        self._seen: dict[str, tuple[bool, float]] = {}

    def has_endpoints(self, caller: str) -> bool:
        """Whether the caller has any, by what was known CACHE_S ago at the worst."""
        now = self._monotonic()
        seen = self._seen.get(caller)
        if seen is None or now - seen[1] >= CACHE_S:
            seen = (self._endpoints.any(caller), now)
            self._remember(caller, seen)
        return seen[0]

    def mark(self, caller: str) -> None:
        """Take note of a first endpoint that this process has just made."""
        self._remember(caller, (True, self._monotonic()))

    def _remember(self, caller: str, seen: tuple[bool, float]) -> None:
        if len(self._seen) >= CACHE_CALLERS:
            self._seen.clear()
        self._seen[caller] = seen
