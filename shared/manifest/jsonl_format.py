"""Catalogs as JSON, one object a line: `{"custom_id": "MUG-7", "image": "https://...", "seed": 7}`."""

import json
from collections.abc import Iterator
from dataclasses import replace

from shared.manifest.mapping import row_of
from shared.manifest.row import ManifestRow
from shared.manifest.text_lines import Line


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
    places = {name: at + 1 for name in body if (at := line.text.find(f'"{name}"')) >= 0}
    return row_of(line.number, body, places)
