"""Read the lines of a text in the object store, a window at a time."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from shared.errors import ParameterInvalid

WINDOW_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20  # the rest of a longer line is dropped
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line with its ending. bad_column: of the first byte that is not UTF-8, from 1. is_cut: it was too long."""

    number: int
    text: str
    bad_column: int | None = None
    is_cut: bool = False

    @property
    def problem(self) -> str:
        """Why the line cannot be read; empty if it can."""
        if self.is_cut:
            return "the line is too long"
        return "the line is not UTF-8" if self.bad_column else ""


def lines_of(file: BinaryIO) -> Iterator[Line]:
    """Read every line, numbered from 1, without the byte order mark at the start.

    Raises:
        ParameterInvalid: the text is UTF-16.
    """
    for number, (raw, is_cut) in enumerate(_raw_lines(file), 1):
        if number == 1 and raw.startswith(_UTF16_MARKS):
            raise ParameterInvalid("the manifest is UTF-16: save it as UTF-8", pointer="/manifest")
        line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        try:
            yield Line(number, line.decode(), is_cut=is_cut)
        except UnicodeDecodeError as error:
            bad_column = len(line[: error.start].decode()) + 1
            yield Line(number, line.decode(errors="replace"), bad_column, is_cut)


def _raw_lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    while line := file.readline(MAX_LINE_BYTES + 1):
        is_cut = len(line) > MAX_LINE_BYTES and not line.endswith(b"\n")
        yield (line[:MAX_LINE_BYTES] + b"\n" if is_cut else line), is_cut
        while is_cut and line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
