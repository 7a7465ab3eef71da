"""Images that came along in a zip, named by the ids of their rows; read in place, a part at a time."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.errors import ImageRejected, ParameterInvalid
from shared.manifest.row import ManifestRow
from shared.manifest.text_lines import ReadAt

MAX_ZIP_BYTES = 4_000_000_000
WINDOW_BYTES = 1 << 18
# What zipfile raises for files that were made to break it, or by accident.
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
_PICTURES = {".png", ".jpg", ".jpeg", ".webp"}


class ImageArchive:
    """The images of one zip. Not safe for several threads at once."""

    def __init__(self, read_at: ReadAt, size_bytes: int) -> None:
        """Read its directory.

        Raises:
            ParameterInvalid: it is no zip.
        """
        try:
            window = io.BufferedReader(_Ranges(read_at, size_bytes), WINDOW_BYTES)
            self._zip = zipfile.ZipFile(window)
        except _BROKEN as error:
            raise ParameterInvalid("the images are no zip file that can be read", pointer="/images") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            path = PurePosixPath(info.filename)
            if not info.is_dir() and path.suffix.lower() in _PICTURES and not _is_hidden(path):
                for name in (info.filename, path.name, path.stem):
                    self._members.setdefault(name, info)

    def rows(self) -> Iterator[ManifestRow]:
        """Each picture as a row of its own, named by its file."""
        own = {id(info): info for info in self._members.values()}
        for place, info in enumerate(sorted(own.values(), key=lambda info: info.filename), 1):
            name = PurePosixPath(info.filename)
            yield ManifestRow(line=place, custom_id=name.stem, image=info.filename, cells={"file": info.filename})

    def find(self, *names: str) -> str | None:
        """The member for the first of some names (its path, file name, or that without its ending) that is there."""
        return next((self._members[name].filename for name in names if name in self._members), None)

    def size_bytes(self, member: str) -> int:
        """How long a picture is, by the directory."""
        return self._members[member].file_size

    def version(self, member: str) -> str:
        """What tells this picture from another under its name: its checksum, by the directory."""
        return f"{self._members[member].CRC:08x}"

    def read(self, member: str, length: int = MAX_IMAGE_BYTES) -> bytes:
        """The first `length` bytes of a picture, unpacked.

        Raises:
            PictureRejected: the zip is broken there, or encrypted.
        """
        try:
            with self._zip.open(self._members[member]) as file:
                return file.read(length)
        except _BROKEN as error:
            raise ImageRejected("image_broken", f"{member} cannot be unpacked") from error

    def open(self, member: str) -> BinaryIO:
        """A picture to be read from its beginning."""
        return cast(BinaryIO, self._zip.open(self._members[member]))


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


class _Ranges(io.RawIOBase):
    """A file whose bytes are fetched as they are asked for."""

    def __init__(self, read_at: ReadAt, size_bytes: int) -> None:
        super().__init__()
        self._read_at = read_at
        self._size_bytes = size_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        length = min(len(view), self._size_bytes - self._at)
        body = self._read_at(self._at, length) if length > 0 else b""
        view[: len(body)] = body
        self._at += len(body)
        return len(body)
