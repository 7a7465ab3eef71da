"""Catalogs as tables: our own CSV, Shopify's product export, Google Merchant's feed; commas, semicolons or tabs."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from shared.errors import ParameterInvalid
from shared.manifest.row import GROUPS, IDS, IMAGES, POSITIONS, UPLOADS, ManifestRow, known_names, read_row
from shared.manifest.text_lines import Line

_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Cells:
    """One record of the table. error: why its line is not a record; column: where, from 1."""

    line: int
    cells: list[str]
    error: str = ""
    column: int | None = None

    def at(self, index: int) -> str:
        """Return the cell at an index from 0; empty past the record's end."""
        return self.cells[index].strip() if index < len(self.cells) else ""


class Header:
    """The columns of a table.

    names: in their order, each once. known: those with a meaning, by their normalized names. columns: the numbers of
    these from 1, by both names.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = _unique(names)
        self.known = known_names(reversed(self.names))  # of columns with the same meaning the first counts
        numbers = {name: number for number, name in enumerate(self.names, 1)}
        self.columns = {name: numbers[own] for name, own in self.known.items()}
        self.columns |= {own: numbers[own] for own in self.known.values()}

    def require(self, content: str, candidates: tuple[str, ...]) -> None:
        """Raise ParameterInvalid unless there is one of these columns."""
        if not any(name in self.known for name in candidates):
            present = ", ".join(self.names)[:300]
            detail = f"no column has {content}: name one {', '.join(candidates)}; the columns are: {present}"
            raise ParameterInvalid(detail, pointer="/manifest")

    def cell(self, record: Cells, candidates: Sequence[str]) -> str:
        """Return the first cell under one of these names that is not empty."""
        cells = (record.at(self.columns[self.known[name]] - 1) for name in candidates if name in self.known)
        return next(filter(None, cells), "")


def table_rows(lines: Iterator[Line], *, needs_image: bool) -> Iterator[ManifestRow]:
    """Read the rows of a table; Shopify's continuation rows are part of their product's row.

    Raises:
        ParameterInvalid: the first record is not a usable header.
    """
    records = _records(lines)
    first = next(records, None)
    if first is None or first.error:
        raise ParameterInvalid("the manifest has no header: its first line names the columns", pointer="/manifest")
    header = Header(first.cells)
    header.require("ids", IDS)
    if needs_image:
        header.require("images", (*IMAGES, *UPLOADS))
    yield from (_row(header, group) for group in _grouped(header, records))


def csv_header(lines: Iterator[Line]) -> list[str]:
    """Read the names of the columns."""
    first = next(_records(lines), None)
    return _unique(first.cells) if first and not first.error else []


def _records(lines: Iterator[Line]) -> Iterator[Cells]:
    """Read record by record. A line that is not CSV is an error by itself: the next line starts a new record."""
    buffer = _LineBuffer(lines)
    while True:
        reader = csv.reader(buffer, delimiter=buffer.delimiter, strict=True)
        try:
            for cells in reader:
                if any(cells):
                    yield buffer.record(cells)
                buffer.lines.clear()
        except csv.Error as error:
            yield Cells(buffer.lines[0].number, [], f"the line is not CSV: {error}", column=1)
            buffer.push_back_all_but_first()
        else:
            return


class _LineBuffer:
    """The input of a CSV reader; keeps the lines of a record until it is complete."""

    def __init__(self, lines: Iterator[Line]) -> None:
        first = next(lines, None)
        self.delimiter = max(_DELIMITERS, key=first.text.count) if first else ","
        self.lines: list[Line] = []
        self._remaining = chain([first] if first else [], lines)

    def __iter__(self) -> "_LineBuffer":
        return self

    def __next__(self) -> str:
        line = next(self._remaining)
        self.lines.append(line)
        return line.text

    def record(self, cells: list[str]) -> Cells:
        bad = next((line for line in self.lines if line.problem), None)
        return Cells(self.lines[0].number, cells, bad.problem if bad else "", bad.bad_column if bad else None)

    def push_back_all_but_first(self) -> None:
        self._remaining = chain(self.lines[1:], self._remaining)
        self.lines = []


def _grouped(header: Header, records: Iterator[Cells]) -> Iterator[list[Cells]]:
    """Group the records of one product."""
    group: list[Cells] = []
    for record in records:
        if group and not _continues(header, group[0], record):
            yield group
            group = []
        group.append(record)
    if group:
        yield group


def _continues(header: Header, first: Cells, record: Cells) -> bool:
    handle = header.cell(record, GROUPS)
    return bool(handle and not record.error and not first.error) and handle == header.cell(first, GROUPS)


def _row(header: Header, group: list[Cells]) -> ManifestRow:
    first = group[0]
    cells = dict.fromkeys(header.names, "") | dict(zip(header.names, map(str.strip, first.cells), strict=False))
    if first.error:
        columns = {"": first.column} if first.column else {}
        return ManifestRow(line=first.line, cells=cells, columns=columns).with_error("row_malformed", first.error)
    row = read_row(first.line, cells, header.known, header.columns, is_text=True)
    row = replace(row, image=_image(header, group))
    if extra := next((index for index in range(len(header.names), len(first.cells)) if first.cells[index]), None):
        detail = f"the row has {len(first.cells)} cells, the header {len(header.names)}"
        row = replace(row, columns=row.columns | {"": extra + 1}).with_error("row_malformed", detail)
    return row


def _image(header: Header, group: list[Cells]) -> str:
    """Return the image with the lowest position; without positions, the first image."""

    def position(record: Cells) -> float:
        cell = header.cell(record, POSITIONS)
        return float(cell) if cell.isdigit() else float("inf")

    records = [record for record in group if header.cell(record, IMAGES)]
    return header.cell(min(records, key=position), IMAGES) if records else ""


def _unique(names: list[str]) -> list[str]:
    """Number those names of columns that are empty or occur twice."""
    unique: list[str] = []
    for index, name in enumerate(names):
        stripped = name.strip()
        unique.append(stripped if stripped and stripped not in unique else f"{stripped or 'column'}_{index + 1}")
    return unique
