"""A catalog as rows: what a shop exports, read as it is, line by line and never whole in memory.

Rows are numbered from 0 in the order in which they come; reading the same bytes again gives the same rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from shared.domain.job import Record

MAX_ROWS = 50_000
MAX_MANIFEST_BYTES = 200_000_000
MAX_ID_CHARACTERS = 100


class RowError(Record):
    """What is wrong with a row. line: of the file, from 1; column: of the sheet, or of the text in JSON, from 1."""

    line: int
    column: int | None = None
    field: str | None = None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One asset that is wanted, as the catalog says it.

    line: where it begins. cells: what the catalog says of it, by its own column names. image: a URL, or the name of a
    picture that came along. given: parameters and `preset` by name, not yet judged. places: the column of each.
    """

    line: int
    number: int = 0
    cells: dict[str, str] = field(default_factory=dict)
    custom_id: str = ""
    image: str = ""
    upload_id: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    deliver: dict[str, str] = field(default_factory=dict)
    dimensions: dict[str, float] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    errors: tuple[RowError, ...] = ()

    def wrong(self, code: str, detail: str, *, field: str | None = None) -> "ManifestRow":
        """The same row with one more error."""
        error = RowError(line=self.line, column=self.places.get(field or ""), field=field, code=code, detail=detail)
        return replace(self, errors=(*self.errors, error))


def numbered(rows: Iterator[ManifestRow], *, needs_image: bool = True) -> Iterator[ManifestRow]:
    """Number the rows, and note what is wrong with a row beside the others: no id, one that is taken, no picture."""
    lines: dict[str, int] = {}
    for number, row in enumerate(rows):
        yield replace(_checked(row, lines, needs_image=needs_image), number=number)


def _checked(row: ManifestRow, lines: dict[str, int], *, needs_image: bool) -> ManifestRow:
    if row.errors and not row.custom_id:
        return row
    if not row.custom_id:
        return row.wrong("id_missing", "the row has no id", field="custom_id")
    if len(row.custom_id) > MAX_ID_CHARACTERS or not row.custom_id.isprintable():
        return row.wrong("id_invalid", f"an id has at most {MAX_ID_CHARACTERS} printable characters", field="custom_id")
    if (line := lines.setdefault(row.custom_id, row.line)) != row.line:
        return row.wrong("id_duplicate", f"the id {row.custom_id!r} is that of line {line} already", field="custom_id")
    if needs_image and not row.image and not row.upload_id:
        return row.wrong("image_missing", "the row names no picture", field="image")
    return row
