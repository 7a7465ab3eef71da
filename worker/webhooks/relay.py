"""Send what is due in the outbox, many at once; a slow receiver does not delay the others."""

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from shared.errors import StoreError
from shared.log import log
from shared.repositories.outbox import ALL_ENDPOINTS, OutboxEntry
from worker.webhooks.sender import LOOK_AGAIN_S, WebhookSender

PARALLEL = 64
PER_RECEIVER = 4  # of one origin or endpoint, at the same time
PER_CALLER = 16  # to all of one caller's receivers, at the same time
KEPT_PER_RECEIVER = 64  # of the entries that a listing shows
STORE_PAUSE_S = 5.0  # after the store failed us, or an entry did
LISTING_SHARE = 0.2  # of the time that listing may take while the outbox is long


class OutboxRelay:
    """Looks at the outbox when woken and every `poll_s` seconds; delivers in threads of its own."""

    def __init__(
        self, sender: WebhookSender, *, poll_s: float = 1.0, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """`seconds` is a monotonic clock."""
        self._sender = sender
        self._poll_s = poll_s
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="notify")
        self._changed = threading.Condition()
        self._has_news = True
        self._busy: set[str] = set()
        self._at_receiver: Counter[str] = Counter()
        self._of_caller: Counter[str] = Counter()
        self._postponed: dict[str, float] = {}
        self._has_more: set[str] = set()  # receivers of which a listing showed more than are kept

    def wake(self) -> None:
        """Look at the outbox now: something was announced, or it is time to leave."""
        with self._changed:
            self._has_news = True
            self._changed.notify_all()

    def run(self, stopping: threading.Event) -> None:
        """Deliver until `stopping` is set (and `wake` called). Tries in flight are made again by the next relay."""
        while not stopping.is_set():
            try:
                self._pass(stopping)
            except StoreError as error:
                log("notify.store_failed", level=logging.WARNING, code=error.code)
                stopping.wait(STORE_PAUSE_S)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def run_until_idle(self, limit_s: float) -> None:
        """Deliver until nothing is due or in flight, for at most `limit_s`; for a short-lived process.

        Raises:
            StoreError: the store does not answer; the next relay continues.
        """
        ends_at = self._seconds() + limit_s
        never = threading.Event()
        try:
            while self._seconds() < ends_at and not self._pass(never, ends_when_idle=True):
                pass
        finally:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def _pass(self, stopping: threading.Event, *, ends_when_idle: bool = False) -> bool:
        """List what is due, start it as places become free, and rest until there is reason to list again.

        True where, with `ends_when_idle`, there is nothing left to do.
        """
        began = self._seconds()
        with self._changed:
            self._has_news = False
        waiting = self._listed()
        listed_at = self._seconds()
        list_again_at = listed_at + (listed_at - began) / LISTING_SHARE
        with self._changed:
            while not stopping.is_set():
                self._start(waiting)
                if ends_when_idle and not (waiting or self._busy or self._has_news):
                    return True
                until = list_again_at if self._has_news else max(list_again_at, listed_at + self._poll_s)
                if (left_s := until - self._seconds()) <= 0:
                    break
                self._changed.wait(left_s)
        return False

    def _listed(self) -> dict[str, deque[OutboxEntry]]:
        """Return what is due and not in flight by receiver, the longest overdue first; the first few of each."""
        now = self._seconds()
        self._postponed = {key: until for key, until in self._postponed.items() if until > now}
        self._has_more.clear()
        waiting: dict[str, deque[OutboxEntry]] = defaultdict(deque)
        for entry in self._sender.outbox.due(self._sender.jobs.now()):
            if entry.key in self._busy or entry.key in self._postponed:
                continue
            queue = waiting[f"{entry.target}.{entry.caller}"]
            if len(queue) < KEPT_PER_RECEIVER:
                queue.append(entry)
            else:
                self._has_more.add(entry.target)
        return {receiver: queue for receiver, queue in waiting.items() if queue}

    def _start(self, waiting: dict[str, deque[OutboxEntry]]) -> None:
        """Start what may be started, one of each receiver in turn."""
        has_started = True
        while has_started:
            has_started = False
            for receiver in list(waiting):
                entry = waiting[receiver][0]
                if self._may_start(entry):
                    has_started = True
                    waiting[receiver].popleft()
                    self._take(entry)
                if not waiting[receiver]:
                    del waiting[receiver]
                    self._has_news |= entry.target in self._has_more

    def _may_start(self, entry: OutboxEntry) -> bool:
        return (
            len(self._busy) < PARALLEL
            and self._at_receiver[entry.target] < PER_RECEIVER
            and self._of_caller[entry.caller] < PER_CALLER
        )

    def _take(self, entry: OutboxEntry) -> None:
        self._busy.add(entry.key)
        self._at_receiver[entry.target] += 1
        self._of_caller[entry.caller] += 1
        self._threads.submit(self._deliver, entry)

    def _deliver(self, entry: OutboxEntry) -> None:
        again_s = STORE_PAUSE_S
        try:
            again_s = self._sender.deliver(entry)
        except StoreError as error:
            log("notify.store_failed", level=logging.WARNING, code=error.code)
        except Exception:  # noqa: BLE001 - a bug that one entry meets must not stop the others
            log("notify.crashed", level=logging.ERROR, exc_info=True, event_id=entry.event_id, target=entry.target)
        with self._changed:
            self._busy.discard(entry.key)
            self._at_receiver[entry.target] -= 1
            self._of_caller[entry.caller] -= 1
            self._has_news |= entry.target == ALL_ENDPOINTS  # it has become others, which are due
            if again_s:
                self._postponed[entry.key] = self._seconds() + max(again_s, LOOK_AGAIN_S)
            self._changed.notify_all()
