"""Catalogs as tables: our own CSV, Shopify's product export, Google Merchant's feed; commas, semicolons or tabs."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from shared.errors import ParameterInvalid
from shared.manifest.row import (
    DELIVERIES,
    GROUPS,
    IDS,
    IMAGES,
    PARAMETERS,
    POSITIONS,
    UPLOADS,
    DimensionColumn,
    ManifestRow,
    dimension_column,
    normalize,
    parameter_value,
)
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

    def first_of(self, indices: Sequence[int]) -> str:
        """Return the first of these cells that is not empty."""
        return next((cell for index in indices if (cell := self.at(index))), "")


@dataclass(slots=True)
class Header:
    """The names of the columns, and the indices (from 0) of those with a meaning."""

    names: list[str]
    ids: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    uploads: list[int] = field(default_factory=list)
    group: int | None = None
    position: int | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    deliveries: dict[str, int] = field(default_factory=dict)
    dimensions: dict[int, DimensionColumn] = field(default_factory=dict)

    @classmethod
    def of(cls, names: list[str], *, needs_image: bool) -> "Header":
        """Read the first record.

        Raises:
            ParameterInvalid: no column has ids, or none has images.
        """
        known = [normalize(name) for name in names]

        def indices(candidates: tuple[str, ...]) -> list[int]:
            return [known.index(name) for name in candidates if name in known]

        header = cls(
            names=_unique(names),
            ids=indices(IDS),
            images=indices(IMAGES),
            uploads=indices(UPLOADS),
            group=next(iter(indices(GROUPS)), None),
            position=next(iter(indices(POSITIONS)), None),
            parameters={name: index for index, name in enumerate(known) if name in PARAMETERS},
            deliveries={DELIVERIES[name]: index for index, name in enumerate(known) if name in DELIVERIES},
            dimensions={index: column for index, name in enumerate(known) if (column := dimension_column(name))},
        )
        if not header.ids:
            raise _missing_column("ids", IDS, names)
        if needs_image and not header.images and not header.uploads:
            raise _missing_column("images", IMAGES, names)
        return header

    def columns(self) -> dict[str, int]:
        """Return the column of each field, from 1."""
        roles = {"custom_id": self.ids, "image": self.images or self.uploads}
        columns = {role: indices[0] + 1 for role, indices in roles.items() if indices}
        columns |= {self.names[index]: index + 1 for index in self.dimensions}
        return columns | {name: index + 1 for name, index in self.parameters.items()}


def table_rows(lines: Iterator[Line], *, needs_image: bool) -> Iterator[ManifestRow]:
    """Read the rows of a table; Shopify's continuation rows are part of their product's row.

    Raises:
        ParameterInvalid: the first record is not a usable header.
    """
    records = _records(lines)
    first = next(records, None)
    if first is None or first.error:
        raise ParameterInvalid("the manifest has no header: its first line names the columns", pointer="/manifest")
    header = Header.of(first.cells, needs_image=needs_image)
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
    if header.group is None or record.error or first.error:
        return False
    handle = record.at(header.group)
    return bool(handle) and handle == first.at(header.group)


def _row(header: Header, group: list[Cells]) -> ManifestRow:
    first = group[0]
    cells = {name: first.at(index) for index, name in enumerate(header.names)}
    if first.error:
        columns = {"": first.column} if first.column else {}
        return ManifestRow(line=first.line, cells=cells, columns=columns).with_error("row_malformed", first.error)
    row = ManifestRow(
        line=first.line,
        cells=cells,
        custom_id=first.first_of(header.ids),
        image=_image(header, group),
        upload_id=first.first_of(header.uploads),
        parameters={
            name: parameter_value(name, cell) for name, index in header.parameters.items() if (cell := first.at(index))
        },
        deliver={name: url for name, index in header.deliveries.items() if (url := first.at(index))},
        columns=header.columns(),
    )
    if extra := next((index for index in range(len(header.names), len(first.cells)) if first.cells[index]), None):
        detail = f"the row has {len(first.cells)} cells, the header {len(header.names)}"
        row = replace(row, columns=row.columns | {"": extra + 1}).with_error("row_malformed", detail)
    return row.with_dimensions(
        (header.names[index], column, cell) for index, column in header.dimensions.items() if (cell := first.at(index))
    )


def _image(header: Header, group: list[Cells]) -> str:
    """Return the image with the lowest position; without positions, the first image."""

    def position(record: Cells) -> float:
        cell = "" if header.position is None else record.at(header.position)
        return float(cell) if cell.isdigit() else float("inf")

    records = [record for record in group if record.first_of(header.images)]
    return min(records, key=position).first_of(header.images) if records else ""


def _unique(names: list[str]) -> list[str]:
    """Number those names of columns that are empty or occur twice."""
    unique: list[str] = []
    for index, name in enumerate(names):
        stripped = name.strip()
        unique.append(stripped if stripped and stripped not in unique else f"{stripped or 'column'}_{index + 1}")
    return unique


def _missing_column(content: str, candidates: tuple[str, ...], names: list[str]) -> ParameterInvalid:
    present = ", ".join(name.strip() for name in names)[:300]
    detail = f"no column has {content}: name one {', '.join(candidates)}; the columns are: {present}"
    return ParameterInvalid(detail, pointer="/manifest")
