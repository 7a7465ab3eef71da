"""What a job can be made from. Each is judged first, before anything is stored, and put into the job's folder later."""

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

PutInput = Callable[[str], Input]  # job id -> what its record says of its input, which is stored by then
COPY_TRIES = 3
HASH_CHUNK_BYTES = 1 << 20


class InputSource(Protocol):
    """One way to give a picture, or what stands in for one."""

    def fingerprint(self) -> str:
        """What tells this source from another one: part of the payload's digest."""

    def validate(self, store: ObjectStore, caller: str) -> PutInput:
        """Refuse what cannot become a job's input; stores nothing.

        Raises:
            InputRejected: it cannot.
        """


@dataclass(frozen=True, slots=True)
class SentImage:
    """A picture that came with the request, in a file that keeps large ones on disk; `pointer` is its field."""

    file: BinaryIO
    size_bytes: int
    pointer: str

    def fingerprint(self) -> str:
        """The SHA-256 of its bytes."""
        return self._sha256()

    def validate(self, store: ObjectStore, caller: str) -> PutInput:  # noqa: ARG002 - it is at hand
        """Read its header and walk to its end marker."""
        header = _validate(self._read_at, self.size_bytes, self.pointer, to_its_end=True)

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
    """A picture that its caller put into the store beforehand."""

    upload_id: str
    pointer: str = "/image/upload_id"

    def fingerprint(self) -> str:
        """Its id."""
        return self.upload_id

    def validate(self, store: ObjectStore, caller: str) -> PutInput:
        """Read its header from the store; the whole picture is never read here."""
        missing = UploadNotFound("nothing was uploaded under this id", pointer=self.pointer)
        if not keys.is_id(self.upload_id, "up"):
            raise missing
        return _from_store(store, keys.upload(caller, self.upload_id), self.pointer, missing)


@dataclass(frozen=True, slots=True)
class JobImage:
    """The picture of an earlier job. own: finds a job of the caller's."""

    job_id: str
    require_job: Callable[[str], Versioned[Job]]
    pointer: str = "/image/job_id"

    def fingerprint(self) -> str:
        """The job's id."""
        return self.job_id

    def validate(self, store: ObjectStore, caller: str) -> PutInput:  # noqa: ARG002 - `own` asks for it
        """Find the picture; an export has none, but the job that it was made from has."""
        missing = UploadNotFound("there is no such job, or its picture is gone", pointer=self.pointer)
        try:
            found = self.require_job(self.job_id).record.input
            while found.job_id:
                found = self.require_job(found.job_id).record.input
        except JobNotFound as error:
            raise missing from error
        if url := found.url:
            return lambda _: Input(url=url)
        if not found.key:
            raise missing
        return _from_store(store, found.key, self.pointer, missing)


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """A URL that the worker will fetch; whoever builds this has had it checked."""

    url: str

    def fingerprint(self) -> str:
        """The URL."""
        return self.url

    def validate(self, store: ObjectStore, caller: str) -> PutInput:  # noqa: ARG002 - there is nothing to see yet
        """Nothing more to judge before it is fetched."""
        return lambda _: Input(url=self.url)


@dataclass(frozen=True, slots=True)
class StoredState:
    """The state that another job has left, to be extracted again."""

    state: Artifact
    job_id: str

    def fingerprint(self) -> str:
        """Its hash."""
        return self.state.sha256

    def validate(self, store: ObjectStore, caller: str) -> PutInput:  # noqa: ARG002 - the job's record vouches for it
        """Nothing to judge: a job has succeeded with it."""
        return lambda _: Input(state=self.state, job_id=self.job_id)


def _from_store(store: ObjectStore, key: str, pointer: str, missing: UploadNotFound) -> PutInput:
    """Judge a picture that lies in the store, to be copied from there; `missing` says that it does not."""
    header, etag, size_bytes = _validate_stored(store, key, pointer, missing)

    def put(job_id: str) -> Input:
        nonlocal header, etag, size_bytes
        for _ in range(COPY_TRIES):
            target = keys.job_input(job_id, header.extension)
            try:
                store.copy(key, target, if_match=etag)
            except PreconditionFailed:  # uploaded anew since it was judged: so is the judgement
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
    """The picture's header, its ETag and its size."""
    try:
        fetched = store.get(key, length=HEADER_BYTES)
    except ObjectNotFound as error:
        raise missing from error
    is_small = fetched.size_bytes <= len(fetched.body)

    def read_at(offset: int, length: int) -> bytes:
        if offset + length <= len(fetched.body) or is_small:
            return fetched.body[offset : offset + length]
        return store.get(key, first_byte=offset, length=length).body

    return _validate(read_at, fetched.size_bytes, pointer, to_its_end=is_small), fetched.etag, fetched.size_bytes


def _validate(read_at: ReadAt, size_bytes: int, pointer: str, *, to_its_end: bool) -> ImageHeader:
    try:
        header = read_header(read_at(0, HEADER_BYTES), size_bytes, read_at)
        if to_its_end:
            check_ending(header, size_bytes, read_at)
    except ImageRejected as error:
        raise ImageRejected(error.code, str(error), pointer=pointer) from error
    return header
