"""Accept jobs: validate, reserve, store the input, store the record, enqueue."""

import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cachetools import TTLCache
from pydantic import BaseModel

from api.limits.quotas import UNLIMITED, CallerLimits
from api.submission.idempotency import STALE_S, Reservation, Reservations, require_same_payload
from api.submission.image_sources import InputSource, PutInput
from shared.domain.job import Input, Job, Lane, Webhook, tier_of
from shared.domain.parameters import MAX_SEED, Parameters, PresetName
from shared.log import log
from shared.repositories.jobs import JobRepository
from shared.repositories.webhooks import EndpointRepository
from shared.storage import keys
from shared.storage.ports import JobQueue
from shared.storage.versioned_records import Versioned

TAKEOVER_S = 1.0  # wait for an equal submit in flight before this one stores the job too
POLL_S = 0.02
CACHE_TTL_S = 5.0
CACHE_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated request. `request`: the body without the image; equal submits have it in common."""

    caller: str
    route: str
    source: InputSource
    engine: str
    parameters: Parameters
    request: BaseModel
    preset: PresetName | None = None
    lane: Lane = Lane.STANDARD
    metadata: dict[str, str] = field(default_factory=dict)
    custom_id: str | None = None
    traceparent: str | None = None
    webhook: Webhook | None = None
    idempotency_key: str | None = None
    limits: CallerLimits = UNLIMITED

    def digest(self) -> str:
        """Return the SHA-256 of the payload, the same for form and JSON."""
        fields = self.request.model_dump(mode="json", exclude_unset=True, exclude={"image"})
        payload = json.dumps([fields, self.source.fingerprint()], sort_keys=True)
        return hashlib.sha256(payload.encode()).hexdigest()


class EndpointCache:
    """Cache which callers have webhook endpoints, so that a submit need not list them. Thread-safe."""

    def __init__(self, endpoints: EndpointRepository, *, monotonic: Callable[[], float]) -> None:
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._cache: TTLCache[str, bool] = TTLCache(CACHE_CALLERS, CACHE_TTL_S, timer=monotonic)

    def has_endpoints(self, caller: str) -> bool:
        """Return whether the caller has any endpoint; the answer can be CACHE_TTL_S old."""
        with self._lock:
            cached = self._cache.get(caller)
        if cached is None:
            cached = self._endpoints.any(caller)
            self._put(caller, has_endpoints=cached)
        return cached

    def mark(self, caller: str) -> None:
        """Record that this process has just created an endpoint of the caller."""
        self._put(caller, has_endpoints=True)

    def _put(self, caller: str, *, has_endpoints: bool) -> None:
        with self._lock:
            self._cache[caller] = has_endpoints


class Submitter:
    """Accept jobs. Blocking and thread-safe."""

    def __init__(
        self,
        jobs: JobRepository,
        queue: JobQueue,
        *,
        has_endpoints: Callable[[str], bool] = lambda _: False,
        admit: Callable[[str, CallerLimits], None] = lambda _, __: None,
        position_of_next: Callable[[str, Lane, str], int] = lambda _, __, ___: 0,
        checkpoint: Callable[[str], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create a submitter.

        Args:
            has_endpoints: whether a caller has webhook endpoints.
            admit: checks a caller's quotas.
            position_of_next: how many of the caller's jobs precede this one in its lane.
            checkpoint: called with a name at each point where a crash matters.
            pause: blocking sleep, in seconds.
        """
        self._jobs = jobs
        self._queue = queue
        self._reservations = Reservations(jobs.store, pause=pause)
        self._has_endpoints = has_endpoints
        self._admit = admit
        self._position_of_next = position_of_next
        self._checkpoint = checkpoint
        self._pause = pause

    def submit(self, submission: Submission) -> Versioned[Job]:
        """Accept a job: it is durable when this returns, even if the process then dies.

        Raises:
            InputRejected: the input is refused; nothing was stored.
            LimitReached: the caller has reached a quota; nothing was stored.
            IdempotencyMismatch: the key was used for another payload.
        """
        if submission.idempotency_key is None:
            self._admit(submission.caller, submission.limits)
            return self._store(
                submission, submission.source.validate(self._jobs.store, submission.caller), self._new_id()
            )
        return self._submit_once(submission, submission.idempotency_key)

    def enqueue(self, job: Job) -> None:
        """Enqueue a job. If that fails, the reconciler enqueues it later; the caller gets no error."""
        try:
            tier = tier_of(self._position_of_next(job.caller, job.lane, job.id))
            self._queue.enqueue([job.id], job.lane, tier=tier)
        except Exception:  # noqa: BLE001 - the job is durable: nothing may turn its 202 into an error
            log("job.enqueue_failed", level=logging.WARNING, exc_info=True, job_id=job.id)

    def _submit_once(self, submission: Submission, key: str) -> Versioned[Job]:
        digest = submission.digest()
        stored = self._reservations.find(submission.caller, submission.route, key)
        if stored:
            require_same_payload(stored, digest)
            if present := self._jobs.find(stored.record.job_id):
                return present
        self._admit(submission.caller, submission.limits)
        put_input = submission.source.validate(self._jobs.store, submission.caller)
        reservation = Reservation(job_id=self._new_id(), digest=digest)
        if stored is None:
            stored = self._reservations.claim(submission.caller, submission.route, key, reservation)
        elif stored.age_s > STALE_S:
            stored = self._reservations.replace(submission.caller, submission.route, key, stored, reservation)
        require_same_payload(stored, digest)
        self._checkpoint("reserved")
        created_here = stored.record.job_id == reservation.job_id
        in_flight = None if created_here else self._wait_for_equal_submit(stored)
        return in_flight or self._store(submission, put_input, stored.record.job_id)

    def _wait_for_equal_submit(self, stored: Versioned[Reservation]) -> Versioned[Job] | None:
        """Return the job that an equal submit is storing at this moment; None if that submit seems to have died."""
        waited_s = max(stored.age_s, 0.0)
        while True:
            if present := self._jobs.find(stored.record.job_id):
                return present
            if waited_s > TAKEOVER_S:
                return None
            self._pause(POLL_S)
            waited_s += POLL_S

    def _store(self, submission: Submission, put_input: PutInput, job_id: str) -> Versioned[Job]:
        now = self._jobs.now()
        job = Job(
            id=job_id,
            caller=submission.caller,
            lane=submission.lane,
            engine=submission.engine,
            preset=submission.preset,
            parameters=_with_seed(submission.parameters),
            input=Input(),
            metadata=submission.metadata,
            custom_id=submission.custom_id,
            traceparent=submission.traceparent,
            webhook=submission.webhook,
            keep_s=submission.limits.keep_s,
            running_limit=submission.limits.running_jobs,
            has_endpoints=self._has_endpoints(submission.caller),
            created_at=now,
            queued_at=now,
        )
        with self._jobs.store.group_commit():
            self._jobs.reserve(job)
            self._checkpoint("markers")
            stored = put_input(job.id)
            self._checkpoint("input")
            created = self._jobs.create(job.model_copy(update={"input": stored}))
        self._checkpoint("record")
        log("job.accepted", job_id=job.id, caller=job.caller, engine=job.engine, lane=job.lane)
        self.enqueue(created.record)
        return created

    def _new_id(self) -> str:
        return keys.new_id("job", self._jobs.now())


def _with_seed(parameters: Parameters) -> Parameters:
    """Return the parameters with a random seed if they have none, so that the result can be repeated."""
    if parameters.seed is not None:
        return parameters
    return parameters.model_copy(update={"seed": random.randint(0, MAX_SEED)})  # noqa: S311 - no secret
