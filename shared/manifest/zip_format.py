"""Images in a zip, named by the ids of their rows; read in place."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import PurePosixPath
from typing import BinaryIO

from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.errors import ImageRejected, ParameterInvalid
from shared.manifest.row import ManifestRow

MAX_ZIP_BYTES = 4_000_000_000
# What zipfile raises for files that are broken, by accident or on purpose.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
)
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


class ImageArchive:
    """The images of one zip. Not safe for several threads at once."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the zip's directory.

        Raises:
            ParameterInvalid: the file is not a zip.
        """
        try:
            self._zip = zipfile.ZipFile(file)
        except _BROKEN as error:
            raise ParameterInvalid("the images are not a readable zip file", pointer="/images") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            path = PurePosixPath(info.filename)
            if not info.is_dir() and path.suffix.lower() in _IMAGE_SUFFIXES and not _is_hidden(path):
                for name in (info.filename, path.name, path.stem):
                    self._members.setdefault(name, info)

    def rows(self) -> Iterator[ManifestRow]:
        """Make a row of each image, with its file name as id."""
        members = {id(info): info for info in self._members.values()}
        for line, info in enumerate(sorted(members.values(), key=lambda info: info.filename), 1):
            name = PurePosixPath(info.filename)
            yield ManifestRow(line=line, custom_id=name.stem, image=info.filename, cells={"file": info.filename})

    def find(self, name: str) -> str | None:
        """Find the member with a name: its path, its file name, or its file name without the suffix."""
        return self._members[name].filename if name in self._members else None

    def size_bytes(self, member: str) -> int:
        """Return an image's length, as the directory says."""
        return self._members[member].file_size

    def version(self, member: str) -> str:
        """Return an image's CRC-32, as the directory says: it changes with the image."""
        return f"{self._members[member].CRC:08x}"

    def read(self, member: str, length: int = MAX_IMAGE_BYTES) -> bytes:
        """Unpack the first `length` bytes of an image.

        Raises:
            ImageRejected: the zip is broken there, or encrypted.
        """
        try:
            with self._zip.open(self._members[member]) as file:
                return file.read(length)
        except _BROKEN as error:
            raise ImageRejected("image_broken", f"{member} cannot be unpacked") from error


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)
