"""The rows of a catalog, and the meaning of its columns by the names that shop systems give them.

Rows are numbered from 0 in their order; reading the same bytes again gives the same rows.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from shared.domain.job import Record
from shared.domain.parameters import Parameters

MAX_ROWS = 50_000
MAX_MANIFEST_BYTES = 200_000_000
MAX_ID_CHARACTERS = 100

# Of these columns, the first that has a value names the asset.
IDS = ("custom_id", "sku", "variant_sku", "id", "item_id", "offer_id", "product_id", "handle", "url_handle")
IMAGES = (
    "image",
    "image_url",
    "image_link",
    "image_src",
    "product_image_url",
    "picture",
    "picture_url",
    "photo",
    "main_image_url",
)
GROUPS = ("handle", "url_handle")  # Shopify: rows with the same handle are one product
POSITIONS = ("image_position",)
UPLOADS = ("upload_id",)
DELIVERIES = {"put_url": "model", "model_put_url": "model", "poster_put_url": "poster"}
PARAMETERS = frozenset(Parameters.model_fields) | {"preset", "engine"}
_MEANINGS = {*IDS, *IMAGES, *GROUPS, *POSITIONS, *UPLOADS, *DELIVERIES, *PARAMETERS, "parameters"}
_TEXT_PARAMETERS = {"preset", "engine", "pipeline_type", "texture_format", "background"}

# https://support.google.com/merchants/answer/11018531 and the pages next to it; our own names lack `product_`.
_DIMENSIONS = {"width": "width", "height": "height", "depth": "depth", "length": "depth"}
_UNITS_M = {"mm": 0.001, "cm": 0.01, "m": 1.0, "in": 0.0254, "inch": 0.0254, "inches": 0.0254, "ft": 0.3048}
_LENGTH = re.compile(r"([0-9]+(?:[.,][0-9]+)?)\s*([a-z]*)")


class RowError(Record):
    """An error of a row. line: of the file, from 1. column: of the table, or of the line's text in JSON, from 1."""

    line: int
    column: int | None = None
    field: str | None = None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One asset to make, as the catalog says it.

    line: where the row starts, from 1. cells: by the catalog's own column names. image: a URL, or the name of an
    uploaded image. parameters: with `preset` and `engine`, not validated. deliver: upload URLs by artifact.
    dimensions: metres by side. columns: the column of each field, for errors.
    """

    line: int
    number: int = 0
    cells: dict[str, str] = field(default_factory=dict)
    custom_id: str = ""
    image: str = ""
    upload_id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    deliver: dict[str, str] = field(default_factory=dict)
    dimensions: dict[str, float] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    errors: tuple[RowError, ...] = ()

    def with_error(self, code: str, detail: str, *, field: str | None = None) -> "ManifestRow":
        """Return the row with one more error, at the column of `field`."""
        error = RowError(line=self.line, column=self.columns.get(field or ""), field=field, code=code, detail=detail)
        return replace(self, errors=(*self.errors, error))


def known_names(names: Iterable[str]) -> dict[str, str]:
    """Map those normalized names that have a meaning to the catalog's own names.

    Of several the last counts; of `id` and `g:id`, which Atom has both, Google's own.
    """
    known = ((normalize(name), name) for name in sorted(names, key=lambda name: name.startswith("g:")))
    return {name: own for name, own in known if name in _MEANINGS or dimension_column(name)}


def read_row(
    line: int, body: Mapping[str, Any], names: Mapping[str, str], columns: Mapping[str, int], *, is_text: bool
) -> ManifestRow:
    """Read a row by the names of its cells.

    Args:
        line: where the row starts, from 1.
        body: values by the catalog's own names.
        names: `known_names` of the body.
        columns: the column of each name, where it is known.
        is_text: whether every value is text, as in tables and XML; then parameters are parsed.
    """
    values = {known: body[name] for known, name in names.items() if body[name] not in (None, "")}
    id_name = _first_of(IDS, values, names)
    image_name = _first_of((*IMAGES, *UPLOADS), values, names)
    image = values.get(image_name, "") if image_name not in UPLOADS else ""
    source = image if isinstance(image, dict) else {"url": image}
    parameters = {name: value for name, value in values.items() if name in PARAMETERS}
    if is_text:
        cells = dict(body)
        parameters = {name: parameter_value(name, value) for name, value in parameters.items()}
    else:
        cells = {name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()}
    roles = {"custom_id": names.get(id_name, ""), "image": names.get(image_name, "")}
    row = ManifestRow(
        line=line,
        cells=cells,
        custom_id=str(values.get(id_name, "")),
        image=str(source.get("url") or source.get("name") or ""),
        upload_id=str(source.get("upload_id") or next((values[name] for name in UPLOADS if name in values), "")),
        parameters=parameters,
        deliver={DELIVERIES[name]: str(value) for name, value in values.items() if name in DELIVERIES},
        columns={**columns, **{role: columns[name] for role, name in roles.items() if name in columns}},
    )
    for name, value in values.items():
        if column := dimension_column(name):
            row = _with_dimension(row, names[name], column, str(value))
    return row


def _first_of(candidates: Iterable[str], values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return the first candidate that has a value, else the first that the catalog has at all; empty if none."""
    return next((name for known in (values, names) for name in candidates if name in known), "")


def _with_dimension(row: ManifestRow, name: str, column: "DimensionColumn", text: str) -> ManifestRow:
    try:
        return replace(row, dimensions=row.dimensions | {column.name: column.metres(text)})
    except ValueError as error:
        return row.with_error("dimension_invalid", str(error), field=name)


def number_rows(rows: Iterator[ManifestRow], *, needs_image: bool = True) -> Iterator[ManifestRow]:
    """Number the rows and check each: that it has an id, that no earlier row has the same, and that it has an image."""
    lines: dict[str, int] = {}
    for number, row in enumerate(rows):
        yield replace(_check(row, lines, needs_image=needs_image), number=number)


def _check(row: ManifestRow, lines: dict[str, int], *, needs_image: bool) -> ManifestRow:
    if row.errors and not row.custom_id:
        return row
    if not row.custom_id:
        return row.with_error("id_missing", "the row has no id", field="custom_id")
    if len(row.custom_id) > MAX_ID_CHARACTERS or not row.custom_id.isprintable():
        detail = f"an id has at most {MAX_ID_CHARACTERS} characters, all printable"
        return row.with_error("id_invalid", detail, field="custom_id")
    if (line := lines.setdefault(row.custom_id, row.line)) != row.line:
        return row.with_error("id_duplicate", f"line {line} has the id {row.custom_id!r} too", field="custom_id")
    if needs_image and not row.image and not row.upload_id:
        return row.with_error("image_missing", "the row names no image", field="image")
    return row


@lru_cache(1_024)  # every row has the same names
def normalize(name: str) -> str:
    """Reduce a column's name to letters, digits and underscores: `Image Src`, `image-src`, `g:image_src` are one."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower().removeprefix("g:")).strip("_")


@dataclass(frozen=True, slots=True)
class DimensionColumn:
    """A column with one dimension of the asset. unit: as the column's name says; empty where each cell names it."""

    name: str
    unit: str

    def metres(self, cell: str) -> float:
        """Read a cell in metres: `20 cm`, `8in`, or a bare number where the column names the unit.

        Raises:
            ValueError: the cell is not a length, or has no unit.
        """
        match = _LENGTH.fullmatch(cell.strip().lower())
        unit = (match[2] if match else "") or self.unit
        if match is None or unit not in _UNITS_M:
            raise ValueError(f"{cell!r} is not a length: write `20 cm`, with mm, cm, m, in or ft")
        return float(match[1].replace(",", ".")) * _UNITS_M[unit]


@lru_cache(1_024)
def dimension_column(column: str) -> DimensionColumn | None:
    """Return the dimension in a column (by its normalized name), if any: `width_cm`, `product_height`, `depth`."""
    words = column.removeprefix("product_").split("_")
    unit = words[1] if len(words) == 2 and words[1] in _UNITS_M else ""
    if words[0] in _DIMENSIONS and len(words) == (2 if unit else 1):
        return DimensionColumn(_DIMENSIONS[words[0]], unit)
    return None


def parameter_value(name: str, cell: str) -> Any:
    """Read a cell as a parameter's value: text where the parameter is text, else JSON, else the text itself."""
    if name in _TEXT_PARAMETERS:
        return cell
    try:
        return json.loads(cell.lower())
    except (ValueError, RecursionError):
        return cell
