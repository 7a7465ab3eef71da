"""Read a batch's manifest from the store: its format and its rows."""

from collections.abc import Iterator

from shared.domain.batch import ManifestFile, ManifestFormat
from shared.errors import ParameterInvalid
from shared.images.header import ReadAt
from shared.manifest.csv_format import csv_header, table_rows
from shared.manifest.keyed_formats import json_rows, xml_rows
from shared.manifest.row import ManifestRow, number_rows
from shared.manifest.text_lines import lines_of
from shared.manifest.zip_format import ImageArchive
from shared.storage import keys
from shared.storage.ports import ObjectStore


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
    read_at = _range_reader(store, keys.batch_manifest(batch_id), file.bytes)
    if file.format == "xml":
        return number_rows(xml_rows(read_at), needs_image=needs_image)
    lines = lines_of(read_at)
    rows = json_rows(lines) if file.format == "jsonl" else table_rows(lines, needs_image=needs_image)
    return number_rows(rows, needs_image=needs_image)


def column_names(store: ObjectStore, batch_id: str, file: ManifestFile) -> list[str]:
    """List a manifest's columns; for JSON and XML, every name that occurs, in order of first occurrence."""
    if file.format == "csv":
        return csv_header(lines_of(_range_reader(store, keys.batch_manifest(batch_id), file.bytes)))
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
    return ImageArchive(_range_reader(store, keys.batch_images(batch_id), file.images_bytes), file.images_bytes)


def _range_reader(store: ObjectStore, key: str, size_bytes: int) -> ReadAt:
    def read_at(offset: int, length: int) -> bytes:
        if offset >= size_bytes:
            return b""
        return store.get(key, first_byte=offset, length=min(length, size_bytes - offset)).body

    return read_at
