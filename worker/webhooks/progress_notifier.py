"""Send best-effort job.progress webhooks, at most one per job every 500 ms."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from shared.domain.job import PROGRESS_EVENT, Job
from shared.errors import StoreError, UrlUnreachable
from shared.log import log
from shared.net.egress import Egress
from shared.repositories.webhooks import EndpointRepository, signed_headers
from shared.storage.keys import event_id
from shared.storage.ports import ObjectStore
from shared.webhook_payloads import progress_body_of

MIN_INTERVAL_S = 0.5  # between two messages about one job, at least
TRY_S = 5.0  # there is one try: the next message says more
THREADS = 4
REMEMBERED_JOBS = 100
ANSWER_BYTES = 1_000


class ProgressNotifier:
    """Sends `job.progress`. Safe from any thread.

    One message of a job is on its way at a time; progress during it, or too soon after it, is skipped. Terminal
    events have nothing to do with it: they go through the outbox.
    """

    def __init__(
        self, store: ObjectStore, egress: Egress, base_url: str = "", *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """`base_url` is where callers reach the service, `seconds` a monotonic clock."""
        self._store = store
        self._endpoints = EndpointRepository(store)
        self._egress = egress
        self._base_url = base_url
        self._seconds = seconds
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._sent_at: dict[str, float] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="progress-notifier")

    def notify(self, job: Job) -> None:
        """Send a running job's progress, if its webhook asks for it; returns at once."""
        if job.webhook is None or PROGRESS_EVENT not in job.webhook.events:
            return
        now = self._seconds()
        with self._lock:
            if job.id in self._busy or now - self._sent_at.get(job.id, float("-inf")) < MIN_INTERVAL_S:
                return
            if len(self._sent_at) >= REMEMBERED_JOBS:
                self._sent_at = {job_id: at for job_id, at in self._sent_at.items() if now - at < MIN_INTERVAL_S}
            self._busy.add(job.id)
            self._sent_at[job.id] = now
        self._threads.submit(self._send, job, job.webhook.url)

    def _send(self, job: Job, url: str) -> None:
        try:
            at = self._store.now()
            body = progress_body_of(job, at, self._base_url)
            message_id = f"{event_id(job.id, job.run_number)}_{job.version}"
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "trellis2-service",
                **signed_headers(self._endpoints.default(job.caller).secrets(at), message_id, at, body),
                **({"traceparent": job.traceparent} if job.traceparent else {}),
            }
            self._egress.send(
                "POST",
                url,
                headers=headers,
                body=body,
                size_bytes=len(body),
                max_response_bytes=ANSWER_BYTES,
                timeout_s=TRY_S,
            )
        except (StoreError, UrlUnreachable) as error:
            log("webhook.progress_failed", job_id=job.id, code=error.code)
        except Exception:  # noqa: BLE001 - a bug here must not be silent: no caller reads the thread's result
            log("webhook.progress_crashed", level=logging.ERROR, exc_info=True, job_id=job.id)
        finally:
            with self._lock:
                self._busy.discard(job.id)
