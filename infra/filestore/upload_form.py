"""A signed POST as it streams in: fields first, then one file whose bytes are handed on as they come."""

from collections.abc import Callable, Mapping

from python_multipart.multipart import MultipartParser, parse_options_header

MAX_FIELDS = 16
MAX_FIELDS_BYTES = 16 * 1024

Sink = Callable[[bytes], None]


class FormReader:
    """Reads `multipart/form-data` in the order of S3's signed POST; what follows the file is ignored."""

    def __init__(self, boundary: bytes, begin: Callable[[Mapping[str, str]], Sink]) -> None:
        """`begin` is called with the fields as the file begins; it returns what takes the file's bytes."""
        self.is_complete = False
        self._begin = begin
        self._fields: dict[str, bytearray] = {}
        self._fields_bytes = 0
        self._disposition = bytearray()
        self._header = bytearray()
        self._part: bytearray | Sink | None = None
        self._has_file = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": self._on_header_value,
                "on_header_end": self._header.clear,
                "on_headers_finished": self._on_part,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Read on. Raises ValueError where the form is broken or its fields are too large."""
        self._parser.write(chunk)

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition.extend(data[start:end])

    def _on_part(self) -> None:
        name = parse_options_header(bytes(self._disposition))[1].get(b"name", b"").decode(errors="replace")
        self._disposition.clear()
        if self._has_file:
            self._part = None
        elif name == "file":
            self._has_file = True
            self._part = self._begin(
                {field: bytes(value).decode(errors="replace") for field, value in self._fields.items()}
            )
        else:
            self._part = self._fields[name] = bytearray()
            self._count(len(name))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if isinstance(self._part, bytearray):
            self._count(end - start)
            self._part.extend(data[start:end])
        elif self._part:
            self._part(data[start:end])

    def _on_part_end(self) -> None:
        self._part = None

    def _on_end(self) -> None:
        self.is_complete = self._has_file

    def _count(self, size_bytes: int) -> None:
        self._fields_bytes += size_bytes
        if len(self._fields) > MAX_FIELDS or self._fields_bytes > MAX_FIELDS_BYTES:
            raise ValueError("the form's fields are too large")


def boundary_of(content_type: str) -> bytes:
    """The boundary of a form's Content-Type. Raises ValueError where it is not a form's."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ValueError("the body is not multipart/form-data")
    return options[b"boundary"]
