"""Accept batches: store the catalog and the record; the batch scheduler does everything else."""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from api.schemas.batches import BatchFields
from api.submission.idempotency import Reservation, Reservations, require_same_payload
from shared.domain.batch import Batch, BatchDefaults, BatchLimits, ManifestFile
from shared.errors import ObjectNotFound, ParameterInvalid, PreconditionFailed, UploadNotFound
from shared.log import log
from shared.manifest.reader import format_of
from shared.manifest.row import MAX_MANIFEST_BYTES
from shared.manifest.zip_format import MAX_ZIP_BYTES
from shared.repositories.batches import BatchRepository
from shared.storage import keys
from shared.storage.ports import ObjectStore

HEAD_BYTES = 64
CHUNK_BYTES = 1 << 20
COPY_TRIES = 3
ROUTE = "POST /v1/batches"


@dataclass(frozen=True, slots=True)
class FileHandle:
    """A file of the request. put: stores it under a key."""

    head: bytes
    size_bytes: int
    put: Callable[[str], object]


class FileSource(Protocol):
    """One way to pass a file."""

    def fingerprint(self) -> str:
        """Return a value that identifies the file."""

    def open(self, store: ObjectStore, caller: str, *, max_bytes: int, pointer: str) -> FileHandle:
        """Open the file. Raise InputRejected if it is absent or too large."""


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file in the request."""

    file: BinaryIO
    size_bytes: int

    def fingerprint(self) -> str:
        """Return the SHA-256 of the bytes."""
        digest = hashlib.sha256()
        self.file.seek(0)
        while chunk := self.file.read(CHUNK_BYTES):
            digest.update(chunk)
        return digest.hexdigest()

    def open(self, store: ObjectStore, caller: str, *, max_bytes: int, pointer: str) -> FileHandle:  # noqa: ARG002
        """Open the file; the body limit has checked its size."""
        self.file.seek(0)
        head = self.file.read(HEAD_BYTES)

        def put(key: str) -> None:
            self.file.seek(0)
            store.put(key, self.file)

        return FileHandle(head, self.size_bytes, put)


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file that the caller has uploaded to the store."""

    upload_id: str

    def fingerprint(self) -> str:
        """Return the upload's id."""
        return self.upload_id

    def open(self, store: ObjectStore, caller: str, *, max_bytes: int, pointer: str) -> FileHandle:
        """Read the first bytes from the store."""
        missing = UploadNotFound("nothing was uploaded under this id", pointer=pointer)
        if not keys.is_id(self.upload_id, "up"):
            raise missing
        source = keys.upload(caller, self.upload_id)
        try:
            first = store.get(source, length=HEAD_BYTES)
        except ObjectNotFound as error:
            raise missing from error
        if first.size_bytes > max_bytes:
            raise ParameterInvalid(f"the file has over {max_bytes:,} bytes", pointer=pointer)

        def put(key: str) -> None:
            try:
                store.copy(source, key, if_match=first.etag)
            except (ObjectNotFound, PreconditionFailed) as error:
                raise UploadNotFound("the upload has just changed", pointer=pointer) from error

        return FileHandle(first.body, first.size_bytes, put)


@dataclass(frozen=True, slots=True)
class BatchSubmission:
    """A validated request for a batch."""

    caller: str
    request: BatchFields
    engine: str
    manifest: FileSource | None
    images: FileSource | None
    limits: BatchLimits
    keep_s: float | None = None
    idempotency_key: str | None = None

    def digest(self) -> str:
        """Return the SHA-256 of the payload."""
        fields = self.request.model_dump(mode="json", exclude_unset=True, exclude={"manifest", "images"})
        files = [source.fingerprint() if source else None for source in (self.manifest, self.images)]
        return hashlib.sha256(json.dumps([fields, files], sort_keys=True).encode()).hexdigest()


class BatchSubmitter:
    """Accept batches. Blocking and thread-safe."""

    def __init__(self, batches: BatchRepository, *, pause: Callable[[float], None]) -> None:
        """`pause`: blocking sleep, in seconds."""
        self._batches = batches
        self._reservations = Reservations(batches.store, pause=pause)

    def submit(self, submission: BatchSubmission) -> Batch:
        """Accept a batch: it is durable when this returns.

        Raises:
            InputRejected: a file is refused; nothing was stored.
            IdempotencyMismatch: the key was used for another payload.
        """
        key, digest = submission.idempotency_key, ""
        if key is not None:
            digest = submission.digest()
            if stored := self._reservations.find(submission.caller, ROUTE, key):
                require_same_payload(stored, digest)
                if present := self._batches.find(stored.record.job_id):
                    return present
        manifest, images = self._open_files(submission)
        batch_id = keys.new_id("batch", self._batches.now())
        if key is not None:
            reservation = Reservation(job_id=batch_id, digest=digest)
            stored = self._reservations.claim(submission.caller, ROUTE, key, reservation)
            require_same_payload(stored, digest)
            batch_id = stored.record.job_id
        return self._store(submission, batch_id, manifest, images)

    def _open_files(self, submission: BatchSubmission) -> tuple[FileHandle | None, FileHandle | None]:
        store, caller = self._batches.store, submission.caller
        pointers = {"manifest": "/manifest/upload_id", "images": "/images/upload_id"}
        manifest = images = None
        if submission.manifest:
            manifest = submission.manifest.open(
                store, caller, max_bytes=MAX_MANIFEST_BYTES, pointer=pointers["manifest"]
            )
        if submission.images:
            images = submission.images.open(store, caller, max_bytes=MAX_ZIP_BYTES, pointer=pointers["images"])
        if manifest and not manifest.size_bytes:
            raise ParameterInvalid("the manifest is empty", pointer="/manifest")
        if manifest and format_of(manifest.head) == "zip":
            if images:
                raise ParameterInvalid("both files are zips: one must be the catalog", pointer="/manifest")
            return None, manifest
        if images and format_of(images.head) != "zip":
            raise ParameterInvalid("the images are not a zip file", pointer="/images")
        return manifest, images

    def _store(
        self, submission: BatchSubmission, batch_id: str, manifest: FileHandle | None, images: FileHandle | None
    ) -> Batch:
        """Store files and record. Concurrent equal submits share one id: the first record counts."""
        request = submission.request
        self._batches.reserve(batch_id, submission.caller)
        if manifest:
            manifest.put(keys.batch_manifest(batch_id))
        if images:
            images.put(keys.batch_images(batch_id))
        created = self._batches.create(
            Batch(
                id=batch_id,
                caller=submission.caller,
                secret=secrets.token_hex(16),
                file=ManifestFile(
                    format=format_of(manifest.head) if manifest else "zip",
                    bytes=manifest.size_bytes if manifest else 0,
                    images_bytes=images.size_bytes if images else 0,
                ),
                defaults=BatchDefaults(engine=submission.engine, preset=request.preset, parameters=request.explicit()),
                limits=submission.limits,
                requires_confirmation=request.confirm,
                ignore_cache=request.rerun,
                webhook=request.webhook.to_domain() if request.webhook else None,
                deliver_to=request.deliver_to,
                metadata=request.metadata,
                keep_s=submission.keep_s,
                created_at=self._batches.now(),
            )
        )
        log("batch.accepted", batch_id=created.id, caller=created.caller, bytes=created.file.bytes)
        return created
