"""Catalogs as JSON, one object a line: `{"custom_id": "MUG-7", "image": "https://...", "seed": 7}`."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from shared.manifest import ManifestRow
from shared.manifest_columns import DELIVERIES, IDS, IMAGES, PARAMETERS, UPLOADS, metres, plain, side_of
from shared.manifest_lines import Line


def json_rows(lines: Iterator[Line]) -> Iterator[ManifestRow]:
    """The rows; a line that is no object is a row with an error. Empty lines are none."""
    return (_row(line) for line in lines if line.text.strip())


def _row(line: Line) -> ManifestRow:
    row = ManifestRow(line=line.number)
    if line.is_cut or line.bad_column:
        detail = "the line is too long" if line.is_cut else "the line is not UTF-8"
        return replace(row, places={"": line.bad_column or 1}).wrong("row_malformed", detail)
    try:
        body = json.loads(line.text)
    except json.JSONDecodeError as error:
        return replace(row, places={"": error.colno}).wrong("row_malformed", f"the line is not JSON: {error.msg}")
    except RecursionError:
        return row.wrong("row_malformed", "the line is nested too deeply")
    if not isinstance(body, dict):
        return replace(row, places={"": 1}).wrong("row_malformed", "the line is not a JSON object")
    return _read(line, body)


def _read(line: Line, body: dict[str, Any]) -> ManifestRow:
    found = {plain(name): value for name, value in body.items() if value not in (None, "")}
    image = next((found[name] for name in IMAGES if name in found), "")
    source = image if isinstance(image, dict) else {"url": image}
    parameters = found.get("parameters")
    row = ManifestRow(
        line=line.number,
        cells={name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()},
        custom_id=str(next((found[name] for name in IDS if name in found), "")),
        image=str(source.get("url") or source.get("name") or ""),
        upload_id=str(source.get("upload_id") or next((found[name] for name in UPLOADS if name in found), "")),
        given={name: value for name, value in found.items() if name in PARAMETERS},
        deliver={DELIVERIES[name]: str(value) for name, value in found.items() if name in DELIVERIES},
        places={name: at + 1 for name in body if (at := line.text.find(f'"{name}"')) >= 0},
    )
    if isinstance(parameters, dict):
        row = replace(row, given={**row.given, **parameters})
    elif parameters is not None:
        row = row.wrong("row_malformed", "`parameters` is not an object", field="parameters")
    return _with_dimensions(row, found)


def _with_dimensions(row: ManifestRow, found: dict[str, Any]) -> ManifestRow:
    dimensions: dict[str, float] = {}
    for name, value in found.items():
        if side := side_of(name):
            try:
                dimensions[side.name] = metres(side, str(value))
            except ValueError as error:
                row = row.wrong("dimension_invalid", str(error), field=name)
    return replace(row, dimensions=dimensions)
