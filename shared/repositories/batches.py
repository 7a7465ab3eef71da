"""Find, create, change and announce batches."""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from shared.domain.batch import Batch
from shared.log import log
from shared.repositories.outbox import ALL_ENDPOINTS, Event, Outbox, target_of
from shared.repositories.webhooks import EndpointRepository
from shared.storage import keys
from shared.storage.ports import ObjectStore
from shared.storage.versioned_records import VersionedRecords

ORPHAN_S = 3_600.0  # how long a marker may wait for its record


class BatchRepository:
    """Safe from any thread and any number of processes."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._documents = VersionedRecords(store, Batch)
        self._endpoints = EndpointRepository(store)
        self._outbox = Outbox(store)

    def now(self) -> datetime:
        """Return the store's time."""
        return self.store.now()

    def find(self, batch_id: str) -> Batch | None:
        """Read a batch, or None."""
        held = self._documents.find(keys.batch_record(batch_id))
        return held.record if held else None

    def reserve(self, batch_id: str, caller: str) -> None:
        """Put the markers of a batch that is about to be made, before anything else of it."""
        self.store.put(keys.pending_batch(batch_id, 0, caller), b"")
        self.store.put(keys.batch_of_caller(caller, batch_id), b"")

    def create(self, batch: Batch) -> Batch:
        """Make the record of a reserved batch, durable when this returns; where there is one, that counts."""
        created = self._documents.create(keys.batch_record(batch.id), batch)
        return created.record if created else (self.find(batch.id) or batch)

    def change(self, batch_id: str, fields: Callable[[Batch], dict[str, Any] | None]) -> Batch | None:
        """Change the fields that `fields` returns for the current batch; repeat it when another writer was faster."""
        return self._documents.update(keys.batch_record(batch_id), fields)

    def of(self, caller: str, *, after: str = "") -> Iterator[tuple[str, Batch]]:
        """List a caller's batches after a cursor, the newest first, each with its own cursor."""
        folder = keys.batches_of(caller)
        for entry in self.store.list(folder, after=folder + after if after else ""):
            place = entry.key.removeprefix(folder)
            if batch := self.find(place.partition("-")[2]):
                yield place, batch

    def unfinished(self) -> Iterator[Batch]:
        """Yield every batch that has not ended or is not announced, oldest first. Deletes what got no record."""
        for entry in self.store.list(keys.PENDING_BATCHES):
            batch_id, run_number, caller = keys.read_pending_marker(entry.key)
            try:
                batch = self.find(batch_id)
            except ValidationError:  # written by a newer version, perhaps: it must not keep the others from their turn
                log("batch.unreadable", level=logging.ERROR, batch_id=batch_id)
                continue
            if batch:
                if run_number == batch.run_number:
                    yield batch
                elif run_number < batch.run_number:
                    self.store.delete(entry.key)
            elif (self.now() - entry.modified_at).total_seconds() > ORPHAN_S:
                for left in self.store.list(keys.batch_folder(batch_id)):
                    self.store.delete(left.key)
                self.store.delete(keys.batch_of_caller(caller, batch_id))
                self.store.delete(entry.key)

    def reopen(self, batch: Batch) -> None:
        """Mark an ended batch as unfinished before its next run, and announce its end first.

        The record is about to forget that end.
        """
        self.announce(batch)
        self.store.put(keys.pending_batch(batch.id, batch.run_number + 1, batch.caller), b"")

    def announce(self, batch: Batch) -> bool:
        """Put a batch's status into the outbox if it is not announced yet; return whether there is a receiver.

        Then an ended batch is no longer among the unfinished.
        """
        targets: list[str] = []
        if batch.notification_pending:
            event = event_of(batch)
            targets = [ALL_ENDPOINTS] if self._endpoints.any(batch.caller) else []
            if batch.webhook and event.type in batch.webhook.events:
                targets.append(target_of(batch.webhook.url))
            for target in targets:
                self._outbox.put(event, target, event.occurred_at)
            self.change(batch.id, lambda now: {"notification_pending": False} if now.status is batch.status else None)
        if batch.status.is_terminal:
            if batch.keep_s is not None and batch.finished_at:
                due = batch.finished_at + timedelta(seconds=batch.keep_s)
                self.store.put(keys.expiring_batch(due, batch.id, batch.run_number), b"")
            self.store.delete(keys.pending_batch(batch.id, batch.run_number, batch.caller))
        return bool(targets)

    def purge_expired(self) -> int:
        """Delete every expired batch with its catalog and images; return how many. Its jobs expire separately."""
        erased = 0
        for entry in self.store.list(keys.EXPIRING_BATCHES):
            due_ms, batch_id, run_number = keys.read_expiring(entry.key)
            if due_ms / 1000 > self.now().timestamp():
                break
            batch = self.find(batch_id)
            if batch and batch.run_number == run_number:
                self._erase(batch)
                erased += 1
            self.store.delete(entry.key)
        return erased

    def _erase(self, batch: Batch) -> None:
        """Delete the record last: as long as it exists, the other objects can be found."""
        self.store.delete(keys.batch_of_caller(batch.caller, batch.id))
        record = keys.batch_record(batch.id)
        for entry in self.store.list(keys.batch_folder(batch.id)):
            if entry.key != record:
                self.store.delete(entry.key)
        self.store.delete(record)


def event_of(batch: Batch) -> Event:
    """Return the event of a batch's status: one confirmation request, and one end in each run."""
    number = batch.run_number + 1 if batch.status.is_terminal else 0
    return Event(
        id=keys.event_id(batch.id, number),
        type=f"batch.{batch.status}",
        caller=batch.caller,
        occurred_at=batch.finished_at or batch.planned_at or batch.created_at,
        batch_id=batch.id,
        run_number=batch.run_number,
    )
