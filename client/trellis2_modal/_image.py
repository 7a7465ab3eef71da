"""What a caller may hand over as a picture, and how it travels."""

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

PictureSource = str | os.PathLike[str] | bytes

_HEAD_BYTES = 12
_NO_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A picture's bytes, in memory or on disk; `open` may be called again for another try."""

    source: bytes | Path

    @property
    def name(self) -> str:
        """A file name for the upload."""
        return self.source.name if isinstance(self.source, Path) else "picture"

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self.source.stat().st_size if isinstance(self.source, Path) else len(self.source)

    @property
    def content_type(self) -> str:
        """Its media type by its first bytes; the service decides for itself."""
        with self.open() as stream:
            head = stream.read(_HEAD_BYTES)
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return "image/png"
        if head.startswith(b"\xff\xd8\xff"):
            return "image/jpeg"
        return "image/webp" if head[:4] + head[8:] == b"RIFFWEBP" else _NO_TYPE

    def open(self) -> BinaryIO:
        """The bytes from their beginning."""
        return self.source.open("rb") if isinstance(self.source, Path) else BytesIO(self.source)


def url_of(picture: PictureSource) -> str | None:
    """The picture as a URL that the service fetches itself, if it is one."""
    is_url = isinstance(picture, str) and picture.lower().startswith(("https://", "http://"))
    return str(picture) if is_url else None


def file_of(picture: PictureSource) -> ImageFile:
    """The picture as bytes that are sent."""
    return ImageFile(picture if isinstance(picture, bytes) else Path(picture))
