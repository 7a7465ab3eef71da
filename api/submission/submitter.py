"""The one write path: judge -> reserve -> store the input -> ledger -> ring."""

import hashlib
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel

from api.limits.quotas import UNLIMITED, CallerLimits
from api.submission.idempotency import STALE_S, Reservation, Reservations, require_same_payload
from api.submission.image_sources import InputSource, PutInput
from shared.domain.job import Input, Job, Lane, Webhook, tier_of
from shared.domain.parameters import MAX_SEED, Parameters, PresetName
from shared.log import log
from shared.repositories.jobs import JobRepository
from shared.storage import keys
from shared.storage.ports import JobQueue
from shared.storage.versioned_records import Versioned

TAKEOVER_S = 1.0  # how long an equal submit in flight may take until this one does its work too
POLL_S = 0.02


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
        """SHA-256 of the payload, whatever form it came in."""
        fields = self.request.model_dump(mode="json", exclude_unset=True, exclude={"image"})
        payload = json.dumps([fields, self.source.fingerprint()], sort_keys=True)
        return hashlib.sha256(payload.encode()).hexdigest()


class Submitter:
    """Makes jobs. Blocking; safe from any thread."""

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
        """`has_endpoints` says whether a caller has webhook endpoints; `admit` refuses a job too many; `next_place`
        says how many jobs of a caller's lie before this one in a lane; `checkpoint` is called with a name at each
        point where a crash matters; `pause` waits, in seconds."""
        self._jobs = jobs
        self._queue = queue
        self._reservations = Reservations(jobs.store, pause=pause)
        self._has_endpoints = has_endpoints
        self._admit = admit
        self._position_of_next = position_of_next
        self._checkpoint = checkpoint
        self._pause = pause

    def submit(self, submission: Submission) -> Versioned[Job]:
        """Accept a job: durable when this returns, whatever becomes of this process.

        Raises:
            InputRejected: the input is refused; nothing was stored.
            LimitReached: the caller has as many jobs, or has used as much, as it may; nothing was stored.
            IdempotencyMismatch: the key stands for another payload.
        """
        if submission.idempotency_key is None:
            self._admit(submission.caller, submission.limits)
            return self._store(
                submission, submission.source.validate(self._jobs.store, submission.caller), self._new_id()
            )
        return self._submit_once(submission, submission.idempotency_key)

    def enqueue(self, job: Job) -> None:
        """Announce a queued job. A ring that fails is the sweeper's to make up for, never the caller's to suffer."""
        try:
            wave = tier_of(self._position_of_next(job.caller, job.lane, job.id))
            self._queue.enqueue([job.id], job.lane, tier=wave)
        except Exception:  # noqa: BLE001 - the job is durable by now: nothing may turn its 202 into an error
            log("job.enqueue_failed", level=logging.WARNING, exc_info=True, job_id=job.id)

    def _submit_once(self, submission: Submission, key: str) -> Versioned[Job]:
        digest = submission.digest()
        held = self._reservations.find(submission.caller, submission.route, key)
        if held:
            require_same_payload(held, digest)
            if present := self._jobs.find(held.record.job_id):
                return present
        self._admit(submission.caller, submission.limits)
        put_input = submission.source.validate(self._jobs.store, submission.caller)
        wanted = Reservation(job_id=self._new_id(), digest=digest)
        if held is None:
            held = self._reservations.claim(submission.caller, submission.route, key, wanted)
        elif held.age_s > STALE_S:
            held = self._reservations.replace(submission.caller, submission.route, key, held, wanted)
        require_same_payload(held, digest)
        self._checkpoint("reserved")
        created_here = held.record.job_id == wanted.job_id
        in_flight = None if created_here else self._wait_for_equal_submit(held)
        return in_flight or self._store(submission, put_input, held.record.job_id)

    def _wait_for_equal_submit(self, held: Versioned[Reservation]) -> Versioned[Job] | None:
        """Return the job that an equal submit is storing at this moment; None if that submit seems to have died."""
        waited_s = max(held.age_s, 0.0)
        while True:
            if present := self._jobs.find(held.record.job_id):
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
    """The parameters with a seed, drawn where the caller gave none: a job's result must be repeatable."""
    if parameters.seed is not None:
        return parameters
    return parameters.model_copy(update={"seed": random.randint(0, MAX_SEED)})  # noqa: S311 - no secret
