"""Read a batch's manifest from the store: its format and its rows."""

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

from shared.domain.batch import ManifestFile, ManifestFormat
from shared.errors import ParameterInvalid
from shared.manifest.csv_format import csv_header, table_rows
from shared.manifest.keyed_formats import json_rows, xml_rows
from shared.manifest.row import ManifestRow, number_rows
from shared.manifest.text_lines import WINDOW_BYTES, lines_of
from shared.manifest.zip_format import ImageArchive
from shared.storage import keys
from shared.storage.ports import ObjectStore

IMAGES_WINDOW_BYTES = 1 << 18


def format_of(head: bytes) -> ManifestFormat:
    """Tell the format of a manifest by its first bytes."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"PK"):
        return "zip"
    return "jsonl" if text.startswith(b"{") else "xml" if text.startswith(b"<") else "csv"


def manifest_rows(store: ObjectStore, batch_id: str, file: ManifestFile) -> Iterator[ManifestRow]:
    """Read every row of a batch's manifest, numbered and checked.

    Raises:
        ParameterInvalid: the manifest cannot be read at all.
    """
    needs_image = file.images_bytes == 0
    if file.format == "zip":
        return number_rows(open_images(store, batch_id, file).rows())
    manifest = _open_manifest(store, batch_id, file)
    if file.format == "xml":
        return number_rows(xml_rows(manifest), needs_image=needs_image)
    lines = lines_of(manifest)
    rows = json_rows(lines) if file.format == "jsonl" else table_rows(lines, needs_image=needs_image)
    return number_rows(rows, needs_image=needs_image)


def column_names(store: ObjectStore, batch_id: str, file: ManifestFile) -> list[str]:
    """List a manifest's columns; for JSON and XML, every name that occurs, in order of first occurrence."""
    if file.format == "csv":
        return csv_header(lines_of(_open_manifest(store, batch_id, file)))
    names: dict[str, None] = {}
    for row in manifest_rows(store, batch_id, file):
        names |= dict.fromkeys(row.cells)
    return list(names)


def open_images(store: ObjectStore, batch_id: str, file: ManifestFile) -> ImageArchive:
    """Open a batch's uploaded images.

    Raises:
        ParameterInvalid: there are none, or they are not a zip.
    """
    if not file.images_bytes:
        raise ParameterInvalid("no images were uploaded", pointer="/images")
    images = StoredFile(store, keys.batch_images(batch_id), file.images_bytes)
    return ImageArchive(io.BufferedReader(images, IMAGES_WINDOW_BYTES))


def _open_manifest(store: ObjectStore, batch_id: str, file: ManifestFile) -> BinaryIO:
    return io.BufferedReader(StoredFile(store, keys.batch_manifest(batch_id), file.bytes), WINDOW_BYTES)


class StoredFile(io.RawIOBase):
    """An object in the store as a file whose bytes are fetched by range."""

    def __init__(self, store: ObjectStore, key: str, size_bytes: int) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        length = min(len(view), self._size_bytes - self._position)
        body = self._store.get(self._key, first_byte=self._position, length=length).body if length > 0 else b""
        view[: len(body)] = body
        self._position += len(body)
        return len(body)
