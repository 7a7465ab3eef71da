"""Stream a batch's finished files as one zip, without ever holding all of it."""

import io
import zipfile
from collections.abc import Iterable, Iterator

from api.schemas.batches import RowResponse
from shared.errors import JobNotFound
from shared.repositories.batch_rows import FILE_ENDINGS, safe_stem
from shared.repositories.jobs import JobRepository

CHUNK_BYTES = 1 << 20
_FOLDERS = {"model": "models", "usdz": "models", "meshopt": "models", "poster": "posters"}


def stream_zip(jobs: JobRepository, rows: Iterable[RowResponse], report: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a zip in parts: the files of succeeded rows, named by their ids, and the report as `results.csv`."""
    out = _Outlet()
    taken: set[str] = set()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for row in rows:
            if row.status == "succeeded" and row.job_id:
                stem = _stem(row, taken)
                for name, folder in _FOLDERS.items():
                    if name in row.artifacts:
                        path = f"{folder}/{stem}{FILE_ENDINGS[name]}"
                        yield from _added(archive, out, path, _body(jobs, row.job_id, name))
        yield from _added(archive, out, "results.csv", report)
    yield out.drain()


def _stem(row: RowResponse, taken: set[str]) -> str:
    stem = safe_stem(row.custom_id)
    if stem.lower() in taken:
        stem = f"{stem}_{row.row}"
    taken.add(stem.lower())
    return stem


def _added(archive: zipfile.ZipFile, out: "_Outlet", name: str, body: Iterable[bytes]) -> Iterator[bytes]:
    with archive.open(name, "w", force_zip64=True) as member:
        for chunk in body:
            member.write(chunk)
            yield out.drain()
    yield out.drain()


def _body(jobs: JobRepository, job_id: str, name: str) -> Iterator[bytes]:
    """Yield an artifact in chunks; nothing if it was deleted meanwhile."""
    try:
        artifact = jobs.read(job_id).record.artifacts.get(name)
    except JobNotFound:
        artifact = None
    if artifact:
        for start in range(0, artifact.bytes, CHUNK_BYTES):
            yield jobs.store.get(artifact.key, first_byte=start, length=CHUNK_BYTES).body


class _Outlet(io.RawIOBase):
    """A buffer between zipfile and the response."""

    def __init__(self) -> None:
        super().__init__()
        self._parts = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, part: object) -> int:
        self._parts += memoryview(part)  # type: ignore[arg-type]  # bytes, as zipfile writes them
        return len(memoryview(part))  # type: ignore[arg-type]

    def drain(self) -> bytes:
        """Return the bytes written since the last call."""
        parts, self._parts = bytes(self._parts), bytearray()
        return parts
