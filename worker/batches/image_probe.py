"""Looks at the headers of a batch's images, wherever they are: size, type, dimensions, and what tells them apart."""

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

SILENT_AFTER = 20  # looks at one host without a connection: then its other images are not waited for
PEEK_BYTES = 16_384  # nearly every header is in the first of these; longer ones are read on


@dataclass(frozen=True, slots=True)
class ProbedImage:
    """What a picture's header says; fingerprint: of its beginning, its length and its version, as far as known."""

    header: ImageHeader
    fingerprint: str


@dataclass(slots=True)
class ImageProbe:
    """Looks at one picture in each thread at a time; close it after use.

    caller: whose uploads are meant. images: the zip that came along, if one did.
    """

    store: ObjectStore
    egress: Egress
    caller: str
    images: ImageArchive | None = None
    _threads: threading.local = field(default_factory=threading.local)
    _zip: threading.Lock = field(default_factory=threading.Lock)
    _open: ExitStack = field(default_factory=ExitStack)
    _silences: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def url(self, url: str) -> ProbedImage:
        """A picture behind a URL. Raises UrlUnreachable, PictureRejected."""
        peeker, host = self._peeker(), urlsplit(url).netloc.lower()
        if self._silences[host] >= SILENT_AFTER:
            raise unreachable()
        try:
            first = peeker.read_prefix(url, PEEK_BYTES)
        except HostUnresponsive:
            self._silences[host] += 1
            raise
        self._silences[host] = 0

        def read_at(offset: int, length: int) -> bytes:
            return peeker.read_prefix(url, min(length, HEADER_BYTES), offset=offset).head

        return _looked(first.head, first.size_bytes, read_at, first.tag)

    def member(self, name: str) -> ProbedImage:
        """A picture in the zip. Raises PictureRejected."""
        assert self.images is not None  # noqa: S101 - a row names a member only where there is a zip
        size_bytes = self.images.size_bytes(name)
        with self._zip:
            head = self.images.read(name, min(HEADER_BYTES, MAX_IMAGE_BYTES))

        def read_at(offset: int, length: int) -> bytes:
            assert self.images is not None  # noqa: S101 - as above
            with self._zip:
                return self.images.read(name)[offset : offset + length]

        return _looked(head, size_bytes, read_at, self.images.version(name))

    def upload(self, upload_id: str, kept: str) -> ProbedImage:
        """A picture that was uploaded; it is kept under a key, since uploads are deleted after a day.

        Raises UploadNotFound, PictureRejected.
        """
        key = keys.upload(self.caller, upload_id)
        try:
            first = self.store.get(key, length=HEADER_BYTES)
            self.store.copy(key, kept, if_match=first.etag)
        except (ObjectNotFound, PreconditionFailed) as error:
            raise UploadNotFound("nothing was uploaded under this id", pointer="/upload_id") from error

        def read_at(offset: int, length: int) -> bytes:
            return self.store.get(key, first_byte=offset, length=length).body

        return _looked(first.body, first.size_bytes, read_at, first.etag)

    def _peeker(self) -> RangeReader:
        peeker: RangeReader | None = getattr(self._threads, "peeker", None)
        if peeker is None:
            peeker = RangeReader(self.egress)
            self._threads.peeker = peeker
            with self._zip:
                self._open.enter_context(peeker)
        return peeker


def _looked(head: bytes, size_bytes: int, read_at: ReadAt, tag: str) -> ProbedImage:
    if not head:
        raise ImageRejected("not_an_image", "the file is empty")
    digest = hashlib.sha256(head).hexdigest()
    return ProbedImage(read_header(head, size_bytes, read_at), f"{digest} {size_bytes} {tag}")
