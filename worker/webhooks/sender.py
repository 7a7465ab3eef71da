"""Make one delivery: claim it, send it signed, record the result, schedule the next try."""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from shared.domain.batch import Batch
from shared.domain.job import Artifact, Job
from shared.errors import ObjectNotFound, UrlUnreachable
from shared.log import log
from shared.net.egress import Egress, Response
from shared.repositories.batches import BatchRepository
from shared.repositories.jobs import JobRepository
from shared.repositories.outbox import ALL_ENDPOINTS, Event, Outbox, OutboxEntry
from shared.repositories.webhooks import (
    Attempt,
    Delivery,
    DeliveryRepository,
    DeliveryState,
    Endpoint,
    EndpointRepository,
    delivery_id,
    signed_headers,
)
from shared.storage.keys import whole_ms
from shared.storage.ports import ObjectStore
from shared.storage.versioned_records import Versioned
from shared.webhook_payloads import batch_body_of, job_body_of

# Seconds from one try to the next; the first is made at once.
DELAYS_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2  # each delay is this much shorter or longer, so that what failed together does not return together
MAX_DELAY_S = 86_400.0  # what a receiver may ask for with Retry-After
UPLOAD_S = 60.0
CHUNK_BYTES = 1 << 20
TRY_S = 15.0  # one try, everything included
CLAIM_S = 20.0  # how long a try is claimed; a relay that crashes delays it by this much
LOOK_AGAIN_S = 1.0  # at what another relay has claimed
KEPT_CHARACTERS = 2_000
GIVE_UP_AFTER = timedelta(days=5)  # an endpoint that has only failed for so long is disabled
GONE = 410
_SECRETS = re.compile(
    r"whsec_[\w+/=-]+|\bt2_[0-9a-z]{26}_[\w-]+|\bv1,[\w+/=]{40,}|(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]+"
    r"|(?<=[?&\s\"'])(?i:[\w-]*(?:token|secret|signature|password|key)[\"']?[=:]\s?)[^&\s]+"
)


def draw_jitter() -> float:
    """Draw the random factor of one delay."""
    return random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter, not a secret


def next_try_at(
    tries: int, now: datetime, headers: Mapping[str, str], jitter: Callable[[], float] = draw_jitter
) -> datetime | None:
    """Return when to try again after `tries` failures, in whole ms; None after the last try.

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


@dataclass(frozen=True, slots=True)
class FileUploader:
    """Uploads files to their URLs; a repeated upload leaves the same file there."""

    store: ObjectStore
    egress: Egress

    def upload(self, job: Job) -> Response:
        """Put every file that the job has and its caller wants; the first response without success, or the last one.

        Raises:
            UrlUnreachable: a URL is not allowed, or nothing answered there in time.
            StoreError: a file cannot be read.
        """
        response = Response(204, {}, b"")
        for name, url in job.deliver.items():
            if name in job.artifacts:
                response = self._put(job.artifacts[name], url)
                if not 200 <= response.status < 300:
                    return response
        return response

    def _put(self, artifact: Artifact, url: str) -> Response:
        headers = {"Content-Type": artifact.content_type, "User-Agent": "trellis2-service"}
        if (urlsplit(url).hostname or "").endswith(".blob.core.windows.net"):
            headers["x-ms-blob-type"] = "BlockBlob"  # without it Azure takes no upload
        return self.egress.send(
            "PUT", url, headers=headers, body=self._parts(artifact), size_bytes=artifact.bytes, timeout_s=UPLOAD_S
        )

    def _parts(self, artifact: Artifact) -> Iterator[bytes]:
        for start in range(0, artifact.bytes, CHUNK_BYTES):
            yield self.store.get(artifact.key, first_byte=start, length=CHUNK_BYTES).body


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where to send something, and what to sign it with."""

    url: str
    endpoint: Endpoint


@dataclass(slots=True)
class WebhookSender:
    """Makes single deliveries. Any number of threads and processes may do so at once.

    base_url: where callers reach the service, for links; empty where that is not known. seconds: a monotonic clock.
    try_s: how long one try may take, everything included.
    """

    jobs: JobRepository
    egress: Egress
    base_url: str = ""
    jitter: Callable[[], float] = draw_jitter
    seconds: Callable[[], float] = time.monotonic
    try_s: float = TRY_S
    outbox: Outbox = field(init=False)
    _endpoints: EndpointRepository = field(init=False)
    _deliveries: DeliveryRepository = field(init=False)
    _batches: BatchRepository = field(init=False)

    def __post_init__(self) -> None:
        """Open the repositories of the job store."""
        self.outbox = Outbox(self.jobs.store)
        self._endpoints = EndpointRepository(self.jobs.store)
        self._deliveries = DeliveryRepository(self.jobs.store)
        self._batches = BatchRepository(self.jobs.store)

    def deliver(self, entry: OutboxEntry) -> float:
        """Deal with one due entry; after how many seconds to look at it again, 0 where it is done with.

        Raises:
            StoreError: the store does not answer; the entry stays.
        """
        try:
            event = self.outbox.read(entry)
        except ObjectNotFound:
            return 0.0
        if entry.target == ALL_ENDPOINTS:
            return self._fan_out(entry, event)
        held = self._claimed(entry, event)
        if isinstance(held, float):
            return held
        about = self._about(event)
        receiver = self._receiver(held.record, about)
        if receiver is None:
            self._close(held, entry, DeliveryState.FAILED)
            return 0.0
        if isinstance(about, Job) and _is_upload(entry.target):
            attempt, headers = self._upload(about)
        else:
            attempt, headers = self._try(event, about, receiver)
        self._finish_try(held, entry, receiver, attempt, headers)
        return 0.0

    def _fan_out(self, entry: OutboxEntry, event: Event) -> float:
        """Replace the event for all endpoints of a caller by one entry for each."""
        for endpoint in self._endpoints.of(event.caller):
            if endpoint.wants(event):
                self.outbox.put(event, endpoint.id, entry.due)
        self.outbox.remove(entry.key)
        return 0.0

    def _claimed(self, entry: OutboxEntry, event: Event) -> Versioned[Delivery] | float:
        """Claim the delivery for CLAIM_S; or return when to look again, 0 if the entry is obsolete."""
        now = self.jobs.now()
        until = now + timedelta(seconds=CLAIM_S + (UPLOAD_S if _is_upload(entry.target) else 0.0))
        name = delivery_id(event.id, entry.target)
        fresh = Delivery(id=name, event=event, target=entry.target, next_try_at=entry.due, claimed_until=until)
        if not _is_retry(entry, event) and (created := self._deliveries.create(fresh)):
            return created
        held = self._deliveries.find(event.caller, name)
        if held is None or held.record.state is not DeliveryState.PENDING or held.record.next_try_at != entry.due:
            self.outbox.remove(entry.key)  # it is done, or planned for another moment, or too old to be remembered
            return 0.0
        if held.record.claimed_until and now < held.record.claimed_until:
            return LOOK_AGAIN_S
        return self._deliveries.replace(held, claimed_until=until) or LOOK_AGAIN_S

    def _about(self, event: Event) -> Job | Batch | None:
        """Read what an event is about, if it still exists."""
        if event.batch_id:
            return self._batches.find(event.batch_id)
        job = self.jobs.find(event.job_id) if event.job_id else None
        return job.record if job else None

    def _receiver(self, delivery: Delivery, about: Job | Batch | None) -> Receiver | None:
        """Return where a delivery goes; None if its job was purged, or its endpoint deleted or disabled."""
        if _is_upload(delivery.target):
            url = next(iter(about.deliver.values()), None) if isinstance(about, Job) else None
            return Receiver(url, self._endpoints.default(delivery.event.caller)) if url else None
        if delivery.target.startswith("url_"):
            webhook = about.webhook if about else None
            return Receiver(webhook.url, self._endpoints.default(delivery.event.caller)) if webhook else None
        endpoint = self._endpoints.find(delivery.event.caller, delivery.target)
        return Receiver(endpoint.url, endpoint) if endpoint and endpoint.disabled_at is None else None

    def _upload(self, job: Job) -> tuple[Attempt, dict[str, str]]:
        at, began = self.jobs.now(), self.seconds()
        try:
            response = FileUploader(self.jobs.store, self.egress).upload(job)
            status, headers, answer = response.status, dict(response.headers), response.body
        except (UrlUnreachable, ObjectNotFound):
            status, headers, answer = None, {}, b""
        duration_ms = round((self.seconds() - began) * 1000)
        return Attempt(at=at, status=status, duration_ms=duration_ms, answer=kept_answer(answer)), headers

    def _try(self, event: Event, about: Job | Batch | None, receiver: Receiver) -> tuple[Attempt, dict[str, str]]:
        job = about if isinstance(about, Job) else None
        if event.batch_id:
            body = batch_body_of(event, about if isinstance(about, Batch) else None, self.base_url)
        else:
            body = job_body_of(event, job, self.base_url)
        at, began = self.jobs.now(), self.seconds()
        request_headers = {
            "Content-Type": "application/json",
            "User-Agent": "trellis2-service",
            **signed_headers(receiver.endpoint.secrets(at), event.id, at, body),
            **({"traceparent": job.traceparent} if job and job.traceparent else {}),
        }
        status, headers, answer = None, {}, b""
        try:
            response = self.egress.send(
                "POST", receiver.url, headers=request_headers, body=body, size_bytes=len(body), timeout_s=self.try_s
            )
            status, headers, answer = response.status, dict(response.headers), response.body
        except UrlUnreachable:  # why is nothing that a caller may learn
            pass
        duration_ms = round((self.seconds() - began) * 1000)
        return Attempt(at=at, status=status, duration_ms=duration_ms, answer=kept_answer(answer)), headers

    def _finish_try(
        self,
        held: Versioned[Delivery],
        entry: OutboxEntry,
        receiver: Receiver,
        attempt: Attempt,
        headers: dict[str, str],
    ) -> None:
        delivery, now = held.record, self.jobs.now()
        tries = delivery.tries + 1
        fields: dict[str, Any] = {
            "url": receiver.url, "tries": tries, "attempts": (*delivery.attempts, attempt)[-20:],
        }  # fmt: skip
        is_success = attempt.status is not None and 200 <= attempt.status < 300
        log(
            "webhook.tried",
            job_id=delivery.event.job_id,
            batch_id=delivery.event.batch_id,
            event_id=delivery.event.id,
            target=delivery.target,
            tries=tries,
            status=attempt.status,
        )
        self._update_endpoint_health(receiver.endpoint, now, attempt.status, is_success=is_success)
        due = None if is_success or attempt.status == GONE else next_try_at(tries, now, headers, self.jitter)
        if due is None:
            state = DeliveryState.DELIVERED if is_success else DeliveryState.FAILED
            self._close(held, entry, state, **fields)
            return
        # The new entry first: whatever happens in between, the delivery has one.
        self.outbox.put(delivery.event, delivery.target, due)
        if self._deliveries.replace(held, next_try_at=due, claimed_until=None, **fields):
            self.outbox.remove(entry.key)

    def _close(self, held: Versioned[Delivery], entry: OutboxEntry, state: DeliveryState, **fields: Any) -> None:
        now = self.jobs.now()
        if self._deliveries.replace(held, state=state, finished_at=now, claimed_until=None, **fields):
            self.outbox.remove(entry.key)

    def _update_endpoint_health(
        self, endpoint: Endpoint, now: datetime, status: int | None, *, is_success: bool
    ) -> None:
        """Record at an endpoint when its failures began and when it recovered; disable one that is gone or fails."""
        if not endpoint.url:  # of single jobs: the health of a URL is not tracked
            return
        if is_success:
            if endpoint.failing_since:
                self._endpoints.change(endpoint.caller, endpoint.id, failing_since=None)
            return
        since = endpoint.failing_since or now
        because = "gone" if status == GONE else "failing" if now - since >= GIVE_UP_AFTER else None
        if because:
            log("webhook.disabled", endpoint=endpoint.id, because=because)
            self._endpoints.change(
                endpoint.caller, endpoint.id, failing_since=since, disabled_at=now, disabled_because=because
            )
        elif endpoint.failing_since is None:
            self._endpoints.change(endpoint.caller, endpoint.id, failing_since=since)


def kept_answer(answer: bytes) -> str:
    """Return the beginning of a receiver's response as text, without what looks like a secret."""
    text = "".join(
        character if character.isprintable() or character in "\n\t" else "\ufffd"
        for character in answer.decode(errors="replace")
    )
    return _SECRETS.sub("[redacted]", text)[:KEPT_CHARACTERS]


def _is_upload(target: str) -> bool:
    return target.startswith("put_")


def _is_retry(entry: OutboxEntry, event: Event) -> bool:
    return int(entry.due.timestamp() * 1000) > int(event.occurred_at.timestamp() * 1000)
