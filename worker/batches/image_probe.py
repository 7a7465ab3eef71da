"""Read the headers of a batch's images, behind URLs, in its zip or uploaded: size, format, and a fingerprint."""

import hashlib
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.errors import ImageRejected, ObjectNotFound, PreconditionFailed, UploadNotFound
from shared.images.header import HEADER_BYTES, ImageHeader, ReadAt, read_header
from shared.manifest.zip_format import ImageArchive
from shared.net.egress import Egress, unreachable
from shared.net.range_reader import HostUnresponsive, RangeReader
from shared.storage import keys
from shared.storage.ports import ObjectStore

MAX_SILENT_PROBES = 20  # of one host in a row without a connection: its other images are refused at once
PREFIX_BYTES = 16_384  # holds nearly every header; a longer one costs a second request


@dataclass(frozen=True, slots=True)
class ProbedImage:
    """An image's header, and a fingerprint of its first bytes, its length and its version (ETag or checksum)."""

    header: ImageHeader
    fingerprint: str


@dataclass(slots=True)
class ImageProbe:
    """Probes one image at a time in each thread. Close it after use.

    caller: owner of the uploads. images: the batch's zip, if there is one.
    """

    store: ObjectStore
    egress: Egress
    caller: str
    images: ImageArchive | None = None
    _threads: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _readers: ExitStack = field(default_factory=ExitStack)
    _silent_probes: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._readers.close()

    def url(self, url: str) -> ProbedImage:
        """Probe an image behind a URL.

        Raises:
            UrlUnreachable, ImageRejected: as their classes say.
        """
        reader, host = self._reader(), urlsplit(url).netloc.lower()
        if self._silent_probes[host] >= MAX_SILENT_PROBES:
            raise unreachable()
        try:
            first = reader.read_prefix(url, PREFIX_BYTES)
        except HostUnresponsive:
            self._silent_probes[host] += 1
            raise
        self._silent_probes[host] = 0

        def read_at(offset: int, length: int) -> bytes:
            return reader.read_prefix(url, min(length, HEADER_BYTES), offset=offset).head

        return _probed(first.head, first.size_bytes, read_at, first.version)

    def member(self, name: str) -> ProbedImage:
        """Probe an image in the zip.

        Raises:
            ImageRejected: as its class says.
        """
        assert self.images is not None  # noqa: S101 - a row names a member only where there is a zip
        images, size_bytes = self.images, self.images.size_bytes(name)
        with self._lock:
            head = images.read(name, min(HEADER_BYTES, MAX_IMAGE_BYTES))

        def read_at(offset: int, length: int) -> bytes:
            with self._lock:
                return images.read(name)[offset : offset + length]

        return _probed(head, size_bytes, read_at, images.version(name))

    def upload(self, upload_id: str, copy_key: str) -> ProbedImage:
        """Probe an uploaded image, and copy it to `copy_key`, since uploads are deleted after a day.

        Raises:
            UploadNotFound, ImageRejected: as their classes say.
        """
        key = keys.upload(self.caller, upload_id)
        try:
            first = self.store.get(key, length=HEADER_BYTES)
            self.store.copy(key, copy_key, if_match=first.etag)
        except (ObjectNotFound, PreconditionFailed) as error:
            raise UploadNotFound("nothing was uploaded under this id", pointer="/upload_id") from error

        def read_at(offset: int, length: int) -> bytes:
            return self.store.get(key, first_byte=offset, length=length).body

        return _probed(first.body, first.size_bytes, read_at, first.etag)

    def _reader(self) -> RangeReader:
        """Return this thread's reader."""
        reader: RangeReader | None = getattr(self._threads, "reader", None)
        if reader is None:
            reader = RangeReader(self.egress)
            self._threads.reader = reader
            with self._lock:
                self._readers.enter_context(reader)
        return reader


def _probed(head: bytes, size_bytes: int, read_at: ReadAt, version: str) -> ProbedImage:
    if not head:
        raise ImageRejected("not_an_image", "the file is empty")
    digest = hashlib.sha256(head).hexdigest()
    return ProbedImage(read_header(head, size_bytes, read_at), f"{digest} {size_bytes} {version}")
