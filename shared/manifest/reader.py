"""A batch's manifest as it lies in the store: what form it has, and its rows."""

from collections.abc import Iterator

from shared.domain.batch import ManifestFile, ManifestFormat
from shared.errors import ParameterInvalid
from shared.manifest.csv_format import header_of, table_rows
from shared.manifest.jsonl_format import json_rows
from shared.manifest.row import ManifestRow, numbered
from shared.manifest.text_lines import ReadAt, lines_of
from shared.manifest.xml_format import xml_rows
from shared.manifest.zip_format import ImageArchive
from shared.storage import keys
from shared.storage.ports import ObjectStore


def format_of(head: bytes) -> ManifestFormat:
    """The form of a manifest, by its beginning."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"PK"):
        return "zip"
    return "jsonl" if text.startswith(b"{") else "xml" if text.startswith(b"<") else "csv"


def manifest_rows(store: ObjectStore, batch_id: str, file: ManifestFile) -> Iterator[ManifestRow]:
    """Every row of a batch's manifest, numbered and judged for itself.

    Raises:
        ParameterInvalid: it cannot be read at all.
    """
    has_images = file.images_bytes > 0
    if file.format == "zip":
        return numbered(open_images(store, batch_id, file).rows())
    read_at = reader(store, keys.batch_manifest(batch_id), file.bytes)
    if file.format == "xml":
        return numbered(xml_rows(read_at), needs_image=not has_images)
    lines = lines_of(read_at)
    rows = json_rows(lines) if file.format == "jsonl" else table_rows(lines, needs_image=not has_images)
    return numbered(rows, needs_image=not has_images)


def column_names(store: ObjectStore, batch_id: str, file: ManifestFile) -> list[str]:
    """What the manifest's columns are called; for JSON and XML, every name that occurs, in the order of coming."""
    if file.format == "csv":
        return header_of(lines_of(reader(store, keys.batch_manifest(batch_id), file.bytes)))
    names: dict[str, None] = {}
    for row in manifest_rows(store, batch_id, file):
        names |= dict.fromkeys(row.cells)
    return list(names)


def open_images(store: ObjectStore, batch_id: str, file: ManifestFile) -> ImageArchive:
    """The images that came along.

    Raises:
        ParameterInvalid: they are no zip.
    """
    if not file.images_bytes:
        raise ParameterInvalid("no images came along", pointer="/images")
    return ImageArchive(reader(store, keys.batch_images(batch_id), file.images_bytes), file.images_bytes)


def reader(store: ObjectStore, key: str, size_bytes: int) -> ReadAt:
    """Reads parts of an object of known length."""

    def read_at(offset: int, length: int) -> bytes:
        if offset >= size_bytes:
            return b""
        return store.get(key, first_byte=offset, length=min(length, size_bytes - offset)).body

    return read_at
