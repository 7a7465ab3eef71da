"""Rows of catalogs that name each cell: JSON lines and XML."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shared.manifest.columns import DELIVERIES, IDS, IMAGES, PARAMETERS, UPLOADS, metres, plain, side_of, value_of
from shared.manifest.row import ManifestRow


def row_of(line: int, body: Mapping[str, Any], places: Mapping[str, int], *, is_text: bool = False) -> ManifestRow:
    """The row that an object stands for. places: the column of each name; is_text: whether every value is text."""
    # Of `id` and `g:id`, which Atom has both, Google's own counts.
    names = {plain(name): name for name in sorted(body, key=lambda name: name.startswith("g:"))}
    found = {known: body[name] for known, name in names.items() if body[name] not in (None, "")}
    id_name = next((name for name in IDS if name in found), "")
    image_name = next((name for name in (*IMAGES, *UPLOADS) if name in found), "")
    image = found.get(image_name, "") if image_name not in UPLOADS else ""
    source = image if isinstance(image, dict) else {"url": image}
    given = {name: value for name, value in found.items() if name in PARAMETERS}
    roles = {"custom_id": names.get(id_name, ""), "image": names.get(image_name, "")}
    row = ManifestRow(
        line=line,
        cells={name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()},
        custom_id=str(found.get(id_name, "")),
        image=str(source.get("url") or source.get("name") or ""),
        upload_id=str(source.get("upload_id") or next((found[name] for name in UPLOADS if name in found), "")),
        given={name: value_of(name, value) for name, value in given.items()} if is_text else given,
        deliver={DELIVERIES[name]: str(value) for name, value in found.items() if name in DELIVERIES},
        places={**places, **{role: places[name] for role, name in roles.items() if name in places}},
    )
    return _with_dimensions(_with_parameters(row, found.get("parameters")), names, found)


def _with_parameters(row: ManifestRow, parameters: Any) -> ManifestRow:
    if isinstance(parameters, dict):
        return replace(row, given={**row.given, **parameters})
    if parameters is not None:
        return row.wrong("row_malformed", "`parameters` is not an object", field="parameters")
    return row


def _with_dimensions(row: ManifestRow, names: Mapping[str, str], found: Mapping[str, Any]) -> ManifestRow:
    dimensions: dict[str, float] = {}
    for name, value in found.items():
        if side := side_of(name):
            try:
                dimensions[side.name] = metres(side, str(value))
            except ValueError as error:
                row = row.wrong("dimension_invalid", str(error), field=names[name])
    return replace(row, dimensions=dimensions)
