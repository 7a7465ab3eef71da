"""The outbox: one object for each webhook delivery that is due, named by its time."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.domain.job import EventType, Job, Record, Status
from shared.domain.job_transitions import JobListener
from shared.errors import PreconditionFailed
from shared.net.address_policy import origin_of
from shared.storage import keys
from shared.storage.ports import ObjectStore

ALL_ENDPOINTS = "every"  # the target that becomes one entry for each of the caller's endpoints
_ENTRY = re.compile(r"outbox/(\d{13})-(evt_[0-9a-z]{26}_\d+)\.([a-z]+(?:_[0-9a-z]+)?)\.([A-Za-z0-9_-]+)\.json")


class Event(Record):
    """What happened, as far as the job's record may no longer hold it when it is delivered."""

    id: str
    type: EventType | str
    caller: str
    occurred_at: datetime
    job_id: str | None = None
    batch_id: str | None = None
    run_number: int = 0


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One delivery, as its key describes it; `target` is a receiver: `url_...`, `we_...` or every endpoint.

    `put_...`: not an event, but an upload of files.
    """

    key: str
    due: datetime
    event_id: str
    target: str
    caller: str


class Outbox(JobListener):
    """What is due. Safe from any thread and any number of processes."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def on_finished(self, job: Job) -> bool:
        """Put a job's end into the outbox if there is a receiver for it; return whether there is.

        A second call makes no second entry: its key follows from the record.
        """
        event = event_of(job)
        if event is None:
            return False
        targets = targets_of(job, event)
        for target in targets:
            self.put(event, target, event.occurred_at)
        return bool(targets)

    def put(self, event: Event, target: str, due: datetime) -> str:
        """See that an entry is there; its key."""
        key = keys.outbox_entry(due, event.id, target, event.caller)
        body = event.model_dump_json(exclude_none=True).encode()
        try:
            self._store.put(key, body, content_type="application/json", if_absent=True)
        except PreconditionFailed:
            return key  # there already, with the same content
        return key

    def due(self, now: datetime) -> Iterator[OutboxEntry]:
        """Yield every entry that is due, the longest overdue first."""
        for entry in self._store.list(keys.OUTBOX):
            if (match := _ENTRY.fullmatch(entry.key)) is None:
                continue
            moment = datetime.fromtimestamp(int(match[1]) / 1000, UTC)
            if moment > now:
                return
            yield OutboxEntry(entry.key, moment, match[2], match[3], match[4])

    def read(self, entry: OutboxEntry) -> Event:
        """Read an entry's event. Raises ObjectNotFound where it was removed."""
        return Event.model_validate_json(self._store.get(entry.key).body)

    def remove(self, key: str) -> None:
        """Remove an entry."""
        self._store.delete(key)


def event_of(job: Job) -> Event | None:
    """Return the end of a job as an event; None while it has not ended."""
    if not job.status.is_terminal or job.finished_at is None:
        return None
    return Event(
        id=keys.event_id(job.id, job.run_number),
        type=f"job.{job.status}",
        caller=job.caller,
        occurred_at=job.finished_at,
        job_id=job.id,
        run_number=job.run_number,
    )


def targets_of(job: Job, event: Event) -> list[str]:
    """Return the receivers of an event: the URL in the job, and its caller's endpoints if there are any."""
    named = [target_of(job.webhook.url)] if job.webhook and event.type in job.webhook.events else []
    bringing = [upload_target(job.deliver)] if job.deliver and job.status is Status.SUCCEEDED else []
    return [*named, *bringing, ALL_ENDPOINTS] if job.has_endpoints else [*named, *bringing]


def upload_target(deliver: Mapping[str, str]) -> str:
    """Return the target that stands for uploading a job's files to their URLs."""
    return target_of(next(iter(deliver.values()))).replace("url_", "put_", 1)


def target_of(url: str) -> str:
    """Return the target of a URL that a job names: one for each origin, since an origin as a whole can be slow."""
    return f"url_{hashlib.sha256(origin_of(url).encode()).hexdigest()[:16]}"
