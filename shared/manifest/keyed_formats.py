"""Catalogs whose rows name each cell: JSON lines, and XML feeds.

JSON: one object a line, `{"custom_id": "MUG-7", "image": "https://...", "seed": 7}`. XML: Google Merchant's feed,
RSS 2.0 or Atom; each `item` or `entry` is a row, each child a cell.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO
from xml.parsers import expat

from shared.errors import ParameterInvalid
from shared.manifest.row import ManifestRow, known_names, read_row
from shared.manifest.text_lines import WINDOW_BYTES, Line

MAX_CELL_CHARACTERS = 131_072
_ROW_ELEMENTS = {"item", "entry"}


def json_rows(lines: Iterator[Line]) -> Iterator[ManifestRow]:
    """Read the rows of JSON lines. A line that is not an object is a row with an error; empty lines are skipped."""
    return (_json_row(line) for line in lines if line.text.strip())


def _json_row(line: Line) -> ManifestRow:
    row = ManifestRow(line=line.number)
    if line.problem:
        return replace(row, columns={"": line.bad_column or 1}).with_error("row_malformed", line.problem)
    try:
        body = json.loads(line.text)
    except json.JSONDecodeError as error:
        detail = f"the line is not JSON: {error.msg}"
        return replace(row, columns={"": error.colno}).with_error("row_malformed", detail)
    except RecursionError:
        return row.with_error("row_malformed", "the line is nested too deeply")
    if not isinstance(body, dict):
        return replace(row, columns={"": 1}).with_error("row_malformed", "the line is not a JSON object")
    columns = {name: at + 1 for name in body if (at := line.text.find(f'"{name}"')) >= 0}
    return _keyed_row(line.number, body, columns)


def xml_rows(file: BinaryIO) -> Iterator[ManifestRow]:
    """Read the rows of an XML feed, a window of the file at a time; entities that it declares are not expanded.

    A file that stops being XML gives one more row, with the error of that line: what follows cannot be read.

    Raises:
        ParameterInvalid: the file declares entities.
    """
    parser = _XmlParser()
    is_last = False
    while not is_last:
        window = file.read(WINDOW_BYTES)
        is_last = len(window) < WINDOW_BYTES
        try:
            parser.expat.Parse(window, is_last)
        except expat.ExpatError as error:
            yield from parser.pop_rows()
            row = ManifestRow(line=error.lineno, columns={"": error.offset + 1})
            yield row.with_error("row_malformed", f"the line is not XML: {expat.ErrorString(error.code)}")
            return
        yield from parser.pop_rows()


class _XmlParser:
    """Collects a row at the end of each row element."""

    def __init__(self) -> None:
        self.expat = expat.ParserCreate()
        self.expat.buffer_text = True
        self.expat.StartElementHandler = self._start
        self.expat.EndElementHandler = self._end
        self.expat.CharacterDataHandler = self._text
        self.expat.EntityDeclHandler = _refuse_entities
        self._rows: list[ManifestRow] = []
        self._line = 0
        self._cells: dict[str, str] | None = None
        self._depth = 0
        self._name = ""

    def pop_rows(self) -> list[ManifestRow]:
        """Return the rows since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def _start(self, name: str, _: dict[str, str]) -> None:
        if self._cells is None:
            if name.rpartition(":")[2] in _ROW_ELEMENTS:
                self._cells, self._line, self._depth = {}, self.expat.CurrentLineNumber, 0
            return
        self._depth += 1
        if self._depth == 1:
            # Of an element that comes several times, such as additional images, the first counts.
            self._name = "" if name in self._cells else name
            if self._name:
                self._cells[name] = ""

    def _text(self, text: str) -> None:
        if self._cells is not None and self._depth == 1 and self._name:
            self._cells[self._name] = (self._cells[self._name] + text)[:MAX_CELL_CHARACTERS]

    def _end(self, _: str) -> None:
        if self._cells is None:
            return
        if self._depth == 0:
            cells = {name: cell.strip() for name, cell in self._cells.items()}
            self._rows.append(_keyed_row(self._line, cells, {}, is_text=True))
            self._cells = None
        else:
            self._depth -= 1


def _refuse_entities(*_: object) -> None:
    raise ParameterInvalid("the manifest declares XML entities: export it without them", pointer="/manifest")


def _keyed_row(line: int, body: Mapping[str, Any], columns: Mapping[str, int], *, is_text: bool = False) -> ManifestRow:
    """Read an object as a row; `parameters` may hold several. columns: of each name."""
    names = known_names(body)
    row = read_row(line, body, names, columns, is_text=is_text)
    nested = body[names["parameters"]] if "parameters" in names else None
    if isinstance(nested, dict):
        return replace(row, parameters={**row.parameters, **nested})
    if nested in (None, ""):
        return row
    return row.with_error("row_malformed", "`parameters` is not an object", field="parameters")
