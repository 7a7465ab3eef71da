"""Catalogs as XML: Google Merchant's feed, RSS 2.0 or Atom; each `item` or `entry` is a row, each child a column."""

from collections.abc import Iterator
from xml.parsers import expat

from shared.errors import ParameterInvalid
from shared.manifest.mapping import row_of
from shared.manifest.row import ManifestRow
from shared.manifest.text_lines import WINDOW_BYTES, ReadAt

MAX_CELL_CHARACTERS = 131_072
_ROWS = {"item", "entry"}


def xml_rows(read_at: ReadAt) -> Iterator[ManifestRow]:
    """The rows; the file is read a window at a time, and no entity of its own is expanded.

    A file that stops being XML gives one more row, with the error of that line: what comes after it cannot be told.

    Raises:
        ParameterInvalid: the file declares entities.
    """
    feed = _Feed()
    offset = 0
    while window := read_at(offset, WINDOW_BYTES):
        offset += len(window)
        try:
            feed.parser.Parse(window, len(window) < WINDOW_BYTES)
        except expat.ExpatError as error:
            yield from feed.taken()
            row = ManifestRow(line=error.lineno, places={"": error.offset + 1})
            yield row.wrong("row_malformed", f"the line is not XML: {expat.ErrorString(error.code)}")
            return
        yield from feed.taken()
        if len(window) < WINDOW_BYTES:
            return


class _Feed:
    """Rows as their elements end."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = _refuse_entities
        self._rows: list[ManifestRow] = []
        self._line = 0
        self._cells: dict[str, str] | None = None
        self._depth = 0
        self._name = ""

    def taken(self) -> list[ManifestRow]:
        """The rows that have ended since the last time."""
        rows, self._rows = self._rows, []
        return rows

    def _start(self, name: str, _: dict[str, str]) -> None:
        if self._cells is None:
            if name.rpartition(":")[2] in _ROWS:
                self._cells, self._line, self._depth = {}, self.parser.CurrentLineNumber, 0
            return
        self._depth += 1
        if self._depth == 1:
            # An element that comes several times, such as additional pictures, counts where it came first.
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
            self._rows.append(row_of(self._line, cells, {}, is_text=True))
            self._cells = None
        else:
            self._depth -= 1


def _refuse_entities(*_: object) -> None:
    raise ParameterInvalid("the manifest declares entities of its own: export it without", pointer="/manifest")
