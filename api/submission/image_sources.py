"""The inputs of a job. Each is validated before anything is stored, then copied into the job's folder."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from shared.domain.job import Artifact, Input, Job
from shared.errors import (
    ImageRejected,
    JobNotFound,
    ObjectNotFound,
    PreconditionFailed,
    StoreUnavailable,
    UploadNotFound,
)
from shared.images.header import HEADER_BYTES, ImageHeader, ReadAt, check_ending, read_header
from shared.storage import keys
from shared.storage.ports import ObjectStore
from shared.storage.versioned_records import Versioned

PutInput = Callable[[str], Input]  # job id -> the input for its record, already stored
COPY_TRIES = 3
HASH_CHUNK_BYTES = 1 << 20


class InputSource(Protocol):
    """One way to pass an image, or a stored state."""

    def fingerprint(self) -> str:
        """Return a value that identifies the source; part of the payload's digest."""

    def validate(self, store: ObjectStore, caller: str) -> PutInput:
        """Check that the source can become a job's input; store nothing.

        Raises:
            InputRejected: it cannot.
        """


@dataclass(frozen=True, slots=True)
class SentImage:
    """An image in the request, in a temporary file; `pointer` is its field."""

    file: BinaryIO
    size_bytes: int
    pointer: str

    def fingerprint(self) -> str:
        """Return the SHA-256 of the bytes."""
        return self._sha256()

    def validate(self, store: ObjectStore, caller: str) -> PutInput:  # noqa: ARG002 - needs no store
        """Read the header, and check the end marker."""
        header = _validate(self._read_at, self.size_bytes, self.pointer, check_end=True)

        def put(job_id: str) -> Input:
            key = keys.job_input(job_id, header.extension)
            sha256 = self._sha256()
            self.file.seek(0)
            store.put(key, self.file, content_type=header.content_type)
            return Input(key=key, bytes=self.size_bytes, sha256=sha256)

        return put

    def _read_at(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(length)

    def _sha256(self) -> str:
        digest = hashlib.sha256()
        self.file.seek(0)
        while chunk := self.file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An image that the caller has uploaded to the store."""

    upload_id: str
    pointer: str = "/image/upload_id"

    def fingerprint(self) -> str:
        """Return the upload's id."""
        return self.upload_id

    def validate(self, store: ObjectStore, caller: str) -> PutInput:
        """Read the header from the store, never the whole image."""
        missing = UploadNotFound("nothing was uploaded under this id", pointer=self.pointer)
        if not keys.is_id(self.upload_id, "up"):
            raise missing
        return _from_store(store, keys.upload(caller, self.upload_id), self.pointer, missing)


@dataclass(frozen=True, slots=True)
class JobImage:
    """The image of an earlier job. require_job: returns a job of the caller."""

    job_id: str
    require_job: Callable[[str], Versioned[Job]]
    pointer: str = "/image/job_id"

    def fingerprint(self) -> str:
        """Return the job's id."""
        return self.job_id

    def validate(self, store: ObjectStore, caller: str) -> PutInput:  # noqa: ARG002 - `own` asks for it
        """Find the image; an export has none, but its source job has."""
        missing = UploadNotFound("the job does not exist, or its image was deleted", pointer=self.pointer)
        try:
            job_input = self.require_job(self.job_id).record.input
            while job_input.job_id:
                job_input = self.require_job(job_input.job_id).record.input
        except JobNotFound as error:
            raise missing from error
        if url := job_input.url:
            return lambda _: Input(url=url)
        if not job_input.key:
            raise missing
        return _from_store(store, job_input.key, self.pointer, missing)


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """A URL that the worker will fetch; it was checked before."""

    url: str

    def fingerprint(self) -> str:
        """Return the URL."""
        return self.url

    def validate(self, store: ObjectStore, caller: str) -> PutInput:  # noqa: ARG002 - nothing to read yet
        """Accept the URL: the image is validated when it is fetched."""
        return lambda _: Input(url=self.url)


@dataclass(frozen=True, slots=True)
class StoredState:
    """The stored state of another job, to be exported again."""

    state: Artifact
    job_id: str

    def fingerprint(self) -> str:
        """Return the state's SHA-256."""
        return self.state.sha256

    def validate(self, store: ObjectStore, caller: str) -> PutInput:  # noqa: ARG002 - the job's record is enough
        """Accept the state: a job has succeeded with it."""
        return lambda _: Input(state=self.state, job_id=self.job_id)


def _from_store(store: ObjectStore, key: str, pointer: str, missing: UploadNotFound) -> PutInput:
    """Validate an image in the store, to be copied within it; raise `missing` if it is absent."""
    header, etag, size_bytes = _validate_stored(store, key, pointer, missing)

    def put(job_id: str) -> Input:
        nonlocal header, etag, size_bytes
        for _ in range(COPY_TRIES):
            target = keys.job_input(job_id, header.extension)
            try:
                store.copy(key, target, if_match=etag)
            except PreconditionFailed:  # uploaded again since: validate again
                header, etag, size_bytes = _validate_stored(store, key, pointer, missing)
            except ObjectNotFound as error:
                raise missing from error
            else:
                return Input(key=target, bytes=size_bytes)
        raise StoreUnavailable(f"{key} changed under every one of {COPY_TRIES} copies")

    return put


def _validate_stored(
    store: ObjectStore, key: str, pointer: str, missing: UploadNotFound
) -> tuple[ImageHeader, str, int]:
    """Return the image's header, ETag and size in bytes."""
    try:
        fetched = store.get(key, length=HEADER_BYTES)
    except ObjectNotFound as error:
        raise missing from error
    is_small = fetched.size_bytes <= len(fetched.body)

    def read_at(offset: int, length: int) -> bytes:
        if offset + length <= len(fetched.body) or is_small:
            return fetched.body[offset : offset + length]
        return store.get(key, first_byte=offset, length=length).body

    return _validate(read_at, fetched.size_bytes, pointer, check_end=is_small), fetched.etag, fetched.size_bytes


def _validate(read_at: ReadAt, size_bytes: int, pointer: str, *, check_end: bool) -> ImageHeader:
    try:
        header = read_header(read_at(0, HEADER_BYTES), size_bytes, read_at)
        if check_end:
            check_ending(header, size_bytes, read_at)
    except ImageRejected as error:
        raise ImageRejected(error.code, str(error), pointer=pointer) from error
    return header
