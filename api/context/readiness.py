"""Whether the store takes and gives, tried for real."""

import threading
from collections.abc import Callable

from shared.errors import StoreError, StoreUnavailable
from shared.storage.ports import ObjectStore

PROBE_KEY = "probe/gateway"
PROBE_BODY = b"ready"
PROBED_S = 5.0


class ReadinessProbe:
    """Writes to the store and reads it back, once in PROBED_S however often it is asked."""

    def __init__(self, store: ObjectStore, *, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: tuple[StoreError | None, float] | None = None

    def error(self) -> StoreError | None:
        """What the store lately did wrong, None where it works."""
        with self._lock:
            now = self._monotonic()
            if self._last is None or now - self._last[1] >= PROBED_S:
                self._last = (self._probe(), now)
            return self._last[0]

    def _probe(self) -> StoreError | None:
        try:
            self._store.put(PROBE_KEY, PROBE_BODY)
            if self._store.get(PROBE_KEY).body == PROBE_BODY:
                return None
        except StoreError as error:
            return error
        return StoreUnavailable("the store gave back something else than was written")
