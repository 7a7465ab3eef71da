"""The rows of a batch as they were planned, some hundred to an object that is written once."""

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field

from shared.domain.batch import SEGMENT_ROWS, Batch
from shared.domain.job import Input, Job, Lane, Record
from shared.domain.parameters import MAX_SEED, Parameters, PresetName, resolve
from shared.errors import PreconditionFailed
from shared.manifest.row import RowError
from shared.storage import keys
from shared.storage.ports import ObjectStore

FILE_ENDINGS = {"model": ".glb", "usdz": ".usdz", "meshopt": ".meshopt.glb", "poster": ".webp"}
_UNSAFE = re.compile(r"[^A-Za-z0-9._ -]+")


class Row(Record):
    """One row. url, member, upload_id: where its image is. given: parameters, the batch's and its own.

    digest: of all that matters to what it becomes. reused: the job that has made just that before. deliver: where the
    finished files are to be put, by artifact. errors: why it cannot run; then it never does.
    """

    number: int
    line: int
    custom_id: str = ""
    url: str | None = None
    member: str | None = None
    upload_id: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    engine: str = ""
    preset: PresetName | None = None
    given: dict[str, Any] = Field(default_factory=dict)
    digest: str = ""
    reused: str | None = None
    deliver: dict[str, str] = Field(default_factory=dict)
    errors: tuple[RowError, ...] = ()

    @property
    def may_run(self) -> bool:
        """Whether it becomes a job."""
        return not self.errors and self.reused is None


def job_id_of(batch: Batch, number: int) -> str:
    """Return the id of a row's job, known before the job exists, so that no row ever gets two."""
    return keys.derived_job_id(batch.created_at, number, batch.secret)


def job_of(batch: Batch, row: Row, *, now: datetime, has_endpoints: bool) -> Job:
    """Build the job of a row, without its input."""
    job_id = job_id_of(batch, row.number)
    parameters = resolve(row.given, row.preset)
    if parameters.seed is None:
        drawn = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4], "big") % (MAX_SEED + 1)
        parameters = parameters.model_copy(update={"seed": drawn})
    return Job(
        id=job_id,
        caller=batch.caller,
        lane=Lane.BATCH,
        engine=row.engine,
        preset=row.preset,
        parameters=parameters,
        input=Input(url=row.url),
        metadata=batch.metadata,
        custom_id=row.custom_id,
        batch_id=batch.id,
        batch_row=row.number,
        run_number=batch.run_number,
        webhook=batch.webhook.of_jobs() if batch.webhook else None,
        deliver=row.deliver or (under(batch.deliver_to, row.custom_id) if batch.deliver_to else {}),
        keep_s=batch.keep_s,
        running_limit=batch.limits.running_jobs,
        has_endpoints=has_endpoints,
        created_at=now,
        queued_at=now,
    )


def under(prefix: str, custom_id: str) -> dict[str, str]:
    """Return the URLs of a row's files below a URL, whose query (a signature, perhaps) every one of them keeps."""
    head, query, rest = prefix.partition("?")
    stem = quote(safe_stem(custom_id))
    return {name: f"{head.rstrip('/')}/{stem}{ending}{query}{rest}" for name, ending in FILE_ENDINGS.items()}


def safe_stem(custom_id: str) -> str:
    """Turn an id into the name of a file."""
    return _UNSAFE.sub("_", custom_id).strip(". ") or "row"


def digest_of(image: str, engine: str, parameters: Parameters, custom_id: str) -> str:
    """Return the cache key of a row: SHA-256 of the image's digest, the engine, every parameter and the id."""
    request = [image, engine, parameters.model_dump(mode="json"), custom_id]
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def write_segment(store: ObjectStore, batch_id: str, rows: list[Row]) -> list[Row]:
    """Write the rows of one segment, once: where they are written already, what is there counts, and is returned."""
    segment = rows[0].number // SEGMENT_ROWS
    body = b"\n".join(row.model_dump_json(exclude_defaults=True).encode() for row in rows)
    try:
        store.put(keys.batch_segment(batch_id, segment), body, content_type="application/jsonl", if_absent=True)
    except PreconditionFailed:
        return read_segment(store, batch_id, segment)
    return rows


def read_segment(store: ObjectStore, batch_id: str, segment: int) -> list[Row]:
    """Read the rows of one segment."""
    body = store.get(keys.batch_segment(batch_id, segment)).body
    return [Row.model_validate_json(line) for line in body.split(b"\n")]


def read_rows(store: ObjectStore, batch: Batch, first: int, end: int) -> Iterator[Row]:
    """Read the planned rows from `first` up to `end`, one segment in memory at a time."""
    for segment in range(first // SEGMENT_ROWS, -(-end // SEGMENT_ROWS)):
        for row in read_segment(store, batch.id, segment):
            if first <= row.number < end:
                yield row
