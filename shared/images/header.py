"""Read an image's header without decoding the image: its format, its size in pixels, whether it is within limits.

Nothing is decompressed here, so a decompression bomb does no harm. Formats: PNG (W3C PNG 3rd edition, 5.3 and 11.2),
JPEG (ITU-T T.81, B.1 and B.2) and WebP (RFC 9649, 2.3 to 2.7).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from shared.domain.parameters import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE_PX
from shared.errors import ImageRejected

Format = Literal["png", "jpeg", "webp"]
ReadAt = Callable[[int, int], bytes]  # (offset, length) -> the bytes from there, fewer at the end of the file

HEADER_BYTES = 65_536  # the first bytes of a file that `read_header` needs
WINDOW_BYTES = 1_048_576  # read at once past those: 20 reads cover the largest file
MAX_PARTS = 10_000  # chunks or segments before the pixels; real files have dozens
MAX_CHUNKS = 200_000  # of a whole PNG: 20 MB in pieces of 100 bytes
# Compressed text and colour profiles. Deflate packs at most 1032:1, so they never unpack to more than 68 MB;
# the largest profile in wide use (sRGB v4 preference, 61 kB unpacked) fits.
MAX_PACKED_METADATA_BYTES = 65_536

_MEDIA: dict[Format, tuple[str, str]] = {
    "png": ("png", "image/png"),
    "jpeg": ("jpg", "image/jpeg"),
    "webp": ("webp", "image/webp"),
}
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
_SOF_KNOWN = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive; the last two with arithmetic coding
_SOF_OTHER = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}  # lossless and hierarchical: hardly any decoder has them
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length

# (first bytes, name, their offset) of the formats that people send instead.
_OTHER_FORMATS: tuple[tuple[bytes, str, int], ...] = (
    (b"GIF8", "a GIF", 0),
    (b"BM", "a BMP", 0),
    (b"II*\0", "a TIFF or camera raw file", 0),
    (b"MM\0*", "a TIFF or camera raw file", 0),
    (b"8BPS", "a Photoshop document", 0),
    (b"\0\0\1\0", "an icon file", 0),
    (b"\xff\x0a", "a JPEG XL", 0),
    (b"JXL ", "a JPEG XL", 4),
    (b"\xff\x4f\xff\x51", "a JPEG 2000", 0),
    (b"jP  ", "a JPEG 2000", 4),
    (b"ftypavi", "an AVIF", 4),
    (b"ftyphei", "a HEIC", 4),
    (b"ftyphev", "a HEIC", 4),
    (b"ftypmif1", "a HEIC", 4),
    (b"ftypmsf1", "a HEIC", 4),
    (b"qoif", "a QOI", 0),
)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format and size as the file declares them; its pixels may still be broken."""

    format: Format
    width_px: int
    height_px: int

    @property
    def extension(self) -> str:
        """The suffix of the file name, without a dot."""
        return _MEDIA[self.format][0]

    @property
    def content_type(self) -> str:
        """The media type."""
        return _MEDIA[self.format][1]


def read_header(head: bytes, size_bytes: int, read_at: ReadAt | None = None) -> ImageHeader:
    """Check an image by its first bytes.

    Args:
        head: the first HEADER_BYTES of the file, or all of a shorter file.
        size_bytes: the length of the whole file.
        read_at: reads more of the file where large metadata (EXIF, a colour profile) moves the size or the first
            pixel out of `head`; called 20 times at most. Without it such a file is refused.

    Raises:
        ImageRejected: not an image, a format other than PNG, JPEG and WebP, over a limit, animated, or cut off.
    """
    if size_bytes > MAX_IMAGE_BYTES:
        raise ImageRejected(
            "image_too_large",
            f"the image has {size_bytes:,} bytes; at most {MAX_IMAGE_BYTES:,} are accepted: save it smaller",
        )
    source = _Source(head[:size_bytes], size_bytes, read_at)
    if head.startswith(b"\x89PNG"):
        return _read_png(source)
    if head.startswith(b"\xff\xd8\xff"):
        return _read_jpeg(source)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _read_webp(source)
    raise _unknown(head)


def check_ending(header: ImageHeader, size_bytes: int, read_at: ReadAt) -> None:
    """Check that the file has its format's end marker, in one pass and bounded memory.

    Raises:
        ImageRejected: the file is cut off.
    """
    source = _Source(b"", size_bytes, read_at)
    if header.format == "png" and all(kind != b"IEND" for kind, _, _ in _chunks(source, MAX_CHUNKS)):
        raise _truncated()
    if header.format == "jpeg" and not source.contains(b"\xff\xd9", _scan_offset(source)):
        raise _truncated()


class _Source:
    """A file of known length, read through one window that moves forward."""

    def __init__(self, head: bytes, size_bytes: int, read_at: ReadAt | None) -> None:
        self.size_bytes = size_bytes
        self._window = head
        self._start = 0
        self._read_at = read_at

    def at(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes. Raises ImageRejected where the file ends before them."""
        first = offset - self._start
        if first < 0 or first + length > len(self._window):
            self._move(offset, length)
            first = 0
        return self._window[first : first + length]

    def number(self, offset: int, length: int, order: Literal["big", "little"] = "big") -> int:
        """Read the unsigned integer in these bytes."""
        return int.from_bytes(self.at(offset, length), order)

    def contains(self, pattern: bytes, offset: int) -> bool:
        """Return whether `pattern` occurs at `offset` or later."""
        while offset + len(pattern) <= self.size_bytes:
            self._move(offset, len(pattern))
            if pattern in self._window:
                return True
            offset += len(self._window) - len(pattern) + 1
        return False

    def _move(self, offset: int, length: int) -> None:
        if offset + length > self.size_bytes:
            raise _truncated()
        if self._read_at is None:
            raise ImageRejected("image_too_large", "the image's metadata is too large: save it again without metadata")
        self._window, self._start = self._read_at(offset, WINDOW_BYTES), offset
        if len(self._window) < length:
            raise _truncated()


def _read_png(source: _Source) -> ImageHeader:
    if source.at(0, 8) != b"\x89PNG\r\n\x1a\n":
        raise _broken("its PNG signature was changed, as a transfer in text mode does")
    if source.at(12, 4) == b"CgBI":
        raise ImageRejected("format_unsupported", "the image is an Xcode-optimised PNG: send the original PNG")
    if source.at(8, 8) != b"\0\0\0\x0dIHDR":
        raise _broken("its PNG header is missing")
    header = _within_limits("png", source.number(16, 4), source.number(20, 4))
    depth, colour_type = source.at(24, 2)
    if depth not in _PNG_DEPTHS.get(colour_type, ()):
        raise _broken("its PNG header declares an unknown pixel layout")
    packed_bytes = 0
    for kind, offset, length in _chunks(source, MAX_PARTS):
        if kind == b"IDAT":
            return header
        if kind == b"acTL":
            raise _animated("PNG")
        packed_bytes += _packed_bytes(kind, source, offset, length)
        if packed_bytes > MAX_PACKED_METADATA_BYTES:
            raise ImageRejected(
                "image_too_large",
                f"the image has more than {MAX_PACKED_METADATA_BYTES:,} bytes of compressed text or colour "
                "profile: save it again without metadata",
            )
    raise _broken("it has no pixels")


def _chunks(source: _Source, limit: int) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over a PNG's chunks as (kind, offset of the data, length of the data), up to IEND or the file's end."""
    offset = 8
    for _ in range(limit):
        if offset == source.size_bytes:
            return
        length, kind = source.number(offset, 4), source.at(offset + 4, 4)
        if offset + 12 + length > source.size_bytes:
            raise _truncated()
        yield kind, offset + 8, length
        if kind == b"IEND":
            return
        offset += 12 + length
    raise _broken("it has too many chunks")


def _packed_bytes(kind: bytes, source: _Source, offset: int, length: int) -> int:
    """Count the bytes of a chunk that a decoder would inflate without a check of their size."""
    if kind == b"iTXt":
        # A keyword of 79 bytes at most, a zero, then the flag that says whether the text is compressed.
        _, _, rest = source.at(offset, min(length, 81)).partition(b"\0")
        return length if rest[:1] != b"\0" else 0
    return length if kind in (b"zTXt", b"iCCP") else 0


def _read_jpeg(source: _Source) -> ImageHeader:
    for marker, offset in _segments(source):
        if marker in _SOF_OTHER:
            raise ImageRejected(
                "format_unsupported", "the image is a lossless or hierarchical JPEG: save it as an ordinary JPEG"
            )
        if marker in _SOF_KNOWN:
            if source.at(offset + 2, 1) != b"\x08":
                raise ImageRejected("format_unsupported", "the image is a 12-bit JPEG: save it with 8 bits")
            return _within_limits("jpeg", source.number(offset + 5, 2), source.number(offset + 3, 2))
    raise _broken("its JPEG frame header is missing")


def _scan_offset(source: _Source) -> int:
    return next((offset for marker, offset in _segments(source) if marker == 0xDA), source.size_bytes)


def _segments(source: _Source) -> Iterator[tuple[int, int]]:
    """Iterate over a JPEG's segments as (marker, offset of its length), up to and with the first scan."""
    offset = 2
    for _ in range(MAX_PARTS):
        prefix, marker = source.at(offset, 2)
        if prefix != 0xFF:
            raise _broken("its JPEG segments are not contiguous")
        offset += 1 if marker == 0xFF else 2  # any number of 0xFF may come before a marker
        if marker == 0xFF or marker in _STANDALONE:
            continue
        yield marker, offset
        if marker in (0xD9, 0xDA):
            return
        offset += max(source.number(offset, 2), 2)
    raise _broken("it has too many chunks")


def _read_webp(source: _Source) -> ImageHeader:
    if source.number(4, 4, "little") + 8 > source.size_bytes:
        raise _truncated()
    kind = source.at(12, 4)
    if kind == b"VP8X":
        if source.at(20, 1)[0] & 0x02:
            raise _animated("WebP")
        return _within_limits("webp", source.number(24, 3, "little") + 1, source.number(27, 3, "little") + 1)
    if kind == b"VP8L" and source.at(20, 1) == b"\x2f":
        sides = source.number(21, 4, "little")
        return _within_limits("webp", (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and source.at(23, 3) == b"\x9d\x01\x2a":
        return _within_limits("webp", source.number(26, 2, "little") & 0x3FFF, source.number(28, 2, "little") & 0x3FFF)
    raise _broken("its WebP header is missing")


def _within_limits(image_format: Format, width_px: int, height_px: int) -> ImageHeader:
    if not width_px or not height_px:
        raise _broken("its header declares no width or no height")
    size = f"the image has {width_px:,} x {height_px:,} pixels"
    if max(width_px, height_px) > MAX_IMAGE_SIDE_PX:
        raise ImageRejected("image_too_large", f"{size}; a side has at most {MAX_IMAGE_SIDE_PX:,}: scale it down")
    if width_px * height_px > MAX_IMAGE_PIXELS:
        raise ImageRejected(
            "image_too_large", f"{size}; at most {MAX_IMAGE_PIXELS // 1_000_000} megapixels are accepted: scale it down"
        )
    return ImageHeader(image_format, width_px, height_px)


def _unknown(head: bytes) -> ImageRejected:
    advice = "send a PNG, JPEG or WebP image"
    for signature, name, offset in _OTHER_FORMATS:
        if head.startswith(signature, offset):
            return ImageRejected("format_unsupported", f"the file is {name}: {advice}")
    text = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return ImageRejected("not_an_image", f"the file is an HTML page, perhaps one that shows the image: {advice}")
    if text.startswith(b"<") and b"<svg" in text:
        return ImageRejected("format_unsupported", f"the file is an SVG drawing: {advice}")
    if text.startswith(b"%pdf-"):
        return ImageRejected("not_an_image", f"the file is a PDF document: {advice}")
    return ImageRejected("not_an_image", f"the file is {'not an image' if head else 'empty'}: {advice}")


def _animated(name: str) -> ImageRejected:
    return ImageRejected("animation_unsupported", f"the image is an animated {name}: send one of its frames")


def _truncated() -> ImageRejected:
    return ImageRejected("image_truncated", "the file is cut off: send the whole file again")


def _broken(why: str) -> ImageRejected:
    return ImageRejected("image_broken", f"the image is broken: {why}")
