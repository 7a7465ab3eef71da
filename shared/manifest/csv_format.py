"""Catalogs as tables: our own CSV, Shopify's product export, Google Merchant's feed; commas, semicolons or tabs."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from shared.errors import ParameterInvalid
from shared.manifest.columns import (
    DELIVERIES,
    GROUPS,
    IDS,
    IMAGES,
    PARAMETERS,
    POSITIONS,
    UPLOADS,
    Side,
    metres,
    plain,
    side_of,
    value_of,
)
from shared.manifest.row import ManifestRow
from shared.manifest.text_lines import Line

_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Cells:
    """One record of the table; error where its line is no record."""

    line: int
    cells: list[str]
    error: str = ""
    column: int | None = None


@dataclass(slots=True)
class Header:
    """What each column is: its own name, and the places of those that mean something, counted from 0."""

    names: list[str]
    ids: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    uploads: list[int] = field(default_factory=list)
    group: int | None = None
    position: int | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    deliveries: dict[str, int] = field(default_factory=dict)
    sides: dict[int, Side] = field(default_factory=dict)

    @classmethod
    def of(cls, names: list[str], *, needs_image: bool) -> "Header":
        """Read the first record.

        Raises:
            ParameterInvalid: no column names the assets, or none their pictures.
        """
        found = [plain(name) for name in names]
        header = cls(
            names=_unique(names),
            ids=[found.index(name) for name in IDS if name in found],
            images=[found.index(name) for name in IMAGES if name in found],
            uploads=[found.index(name) for name in UPLOADS if name in found],
            group=next((found.index(name) for name in GROUPS if name in found), None),
            position=next((found.index(name) for name in POSITIONS if name in found), None),
            parameters={name: at for at, name in enumerate(found) if name in PARAMETERS},
            deliveries={DELIVERIES[name]: at for at, name in enumerate(found) if name in DELIVERIES},
            sides={at: side for at, name in enumerate(found) if (side := side_of(name))},
        )
        if not header.ids:
            raise ParameterInvalid(_missing("the assets", IDS, names), pointer="/manifest")
        if needs_image and not header.images and not header.uploads:
            raise ParameterInvalid(_missing("their pictures", IMAGES, names), pointer="/manifest")
        return header


def table_rows(lines: Iterator[Line], *, needs_image: bool) -> Iterator[ManifestRow]:
    """The rows of a table; Shopify's continuation rows are part of the product's.

    Raises:
        ParameterInvalid: the first record is no header that can be used.
    """
    records = _records(lines)
    first = next(records, None)
    if first is None or first.error:
        raise ParameterInvalid("the manifest has no header: its first line names the columns", pointer="/manifest")
    header = Header.of(first.cells, needs_image=needs_image)
    yield from (_row(header, group) for group in _grouped(header, records))


def header_of(lines: Iterator[Line]) -> list[str]:
    """The names of the columns."""
    first = next(_records(lines), None)
    return _unique(first.cells) if first and not first.error else []


def _records(lines: Iterator[Line]) -> Iterator[Cells]:
    """Records one by one. A line that breaks the rules is an error by itself: the next line begins a new record."""
    feed = _Feed(lines)
    while True:
        reader = csv.reader(feed, delimiter=feed.delimiter, strict=True)
        try:
            for cells in reader:
                if any(cells):
                    yield feed.record(cells)
                feed.taken.clear()
        except csv.Error as error:
            yield Cells(feed.taken[0].number, [], f"the line is not CSV: {error}", column=1)
            feed.return_all_but_first()
        else:
            return


class _Feed:
    """Lines on their way into a CSV reader, kept until their record is whole."""

    def __init__(self, lines: Iterator[Line]) -> None:
        first = next(lines, None)
        self.delimiter = max(_DELIMITERS, key=first.text.count) if first else ","
        self.taken: list[Line] = []
        self._lines = chain([first] if first else [], lines)

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken.append(line)
        return line.text

    def record(self, cells: list[str]) -> Cells:
        bad = next((line for line in self.taken if line.bad_column or line.is_cut), None)
        why = "" if bad is None else "the line is too long" if bad.is_cut else "the line is not UTF-8"
        return Cells(self.taken[0].number, cells, why, bad.bad_column if bad else None)

    def return_all_but_first(self) -> None:
        self._lines = chain(self.taken[1:], self._lines)
        self.taken = []


def _grouped(header: Header, records: Iterator[Cells]) -> Iterator[list[Cells]]:
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
    handle = _cell(record, header.group)
    return bool(handle) and handle == _cell(first, header.group)


def _row(header: Header, group: list[Cells]) -> ManifestRow:
    first = group[0]
    row = ManifestRow(
        line=first.line,
        cells={name: _cell(first, at) for at, name in enumerate(header.names)},
        custom_id=_first(first, header.ids),
        image=_image(header, group),
        upload_id=_first(first, header.uploads),
        deliver={name: url for name, at in header.deliveries.items() if (url := _cell(first, at))},
        places=_places(header),
    )
    if first.error:
        places = {"": first.column} if first.column else {}
        return ManifestRow(line=first.line, cells=row.cells, places=places).wrong("row_malformed", first.error)
    if extra := next((at for at in range(len(header.names), len(first.cells)) if first.cells[at]), None):
        detail = f"the row has {len(first.cells)} cells, the header {len(header.names)}"
        row = replace(row, places=row.places | {"": extra + 1}).wrong("row_malformed", detail)
    given = {name: value_of(name, cell) for name, at in header.parameters.items() if (cell := _cell(first, at))}
    return _with_dimensions(header, first, replace(row, given=given))


def _with_dimensions(header: Header, first: Cells, row: ManifestRow) -> ManifestRow:
    found: dict[str, float] = {}
    for at, side in header.sides.items():
        if cell := _cell(first, at):
            try:
                found[side.name] = metres(side, cell)
            except ValueError as error:
                row = row.wrong("dimension_invalid", str(error), field=header.names[at])
    return replace(row, dimensions=found)


def _image(header: Header, group: list[Cells]) -> str:
    """The picture whose position is the lowest; where no positions are given, the first."""

    def position(record: Cells) -> float:
        cell = "" if header.position is None else _cell(record, header.position)
        return float(cell) if cell.isdigit() else float("inf")

    pictured = [record for record in group if _first(record, header.images)]
    return _first(min(pictured, key=position), header.images) if pictured else ""


def _places(header: Header) -> dict[str, Any]:
    roles = {"custom_id": header.ids, "image": header.images or header.uploads}
    places = {role: at[0] + 1 for role, at in roles.items() if at}
    own = {header.names[at]: at + 1 for at in header.sides}
    return places | own | {name: at + 1 for name, at in header.parameters.items()}


def _first(record: Cells, places: list[int]) -> str:
    return next((cell for at in places if (cell := _cell(record, at))), "")


def _cell(record: Cells, at: int) -> str:
    return record.cells[at].strip() if at < len(record.cells) else ""


def _unique(names: list[str]) -> list[str]:
    """The names of the columns, told apart where two are alike or empty."""
    unique: list[str] = []
    for at, name in enumerate(names):
        stripped = name.strip()
        unique.append(stripped if stripped and stripped not in unique else f"{stripped or 'column'}_{at + 1}")
    return unique


def _missing(what: str, wanted: tuple[str, ...], names: list[str]) -> str:
    found = ", ".join(name.strip() for name in names)[:300]
    return f"no column names {what}: one must be called {', '.join(wanted)}; there are: {found}"
