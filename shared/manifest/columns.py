"""What the columns of a catalog mean, by the names that shop systems give them."""

import json
import re
from dataclasses import dataclass
from typing import Any

from shared.domain.parameters import Parameters

# The first that is there and not empty gives the asset its name.
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
GROUPS = ("handle", "url_handle")  # Shopify: rows with the same one are one product
POSITIONS = ("image_position",)
UPLOADS = ("upload_id",)
DELIVERIES = {"put_url": "model", "model_put_url": "model", "poster_put_url": "poster"}
PARAMETERS = frozenset(Parameters.model_fields) | {"preset", "engine"}
_TEXTS = {"preset", "engine", "pipeline_type", "texture_format", "background"}

# https://support.google.com/merchants/answer/11018531 and its neighbours; ours without `product_`.
_SIDES = {"width": "width", "height": "height", "depth": "depth", "length": "depth"}
_UNITS_M = {"mm": 0.001, "cm": 0.01, "m": 1.0, "in": 0.0254, "inch": 0.0254, "inches": 0.0254, "ft": 0.3048}
_LENGTH = re.compile(r"([0-9]+(?:[.,][0-9]+)?)\s*([a-z]*)")


def plain(name: str) -> str:
    """A column's name without the differences that do not matter: `Image Src`, `image-src`, `g:image_src`."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower().removeprefix("g:")).strip("_")


@dataclass(frozen=True, slots=True)
class Side:
    """A column with one of the dimensions; unit: what its name says, empty where each cell says it."""

    name: str
    unit: str


def side_of(column: str) -> Side | None:
    """Which dimension a column (by its plain name) holds, if any: `width_cm`, `product_height`, `depth`."""
    words = column.removeprefix("product_").split("_")
    unit = words[1] if len(words) == 2 and words[1] in _UNITS_M else ""
    if words[0] in _SIDES and len(words) == (2 if unit else 1):
        return Side(_SIDES[words[0]], unit)
    return None


def metres(side: Side, cell: str) -> float:
    """A length in metres: `20 cm`, `8in`, or a bare number where the column says the unit.

    Raises:
        ValueError: it is no length, or has no unit.
    """
    match = _LENGTH.fullmatch(cell.strip().lower())
    unit = (match[2] if match else "") or side.unit
    if match is None or unit not in _UNITS_M:
        raise ValueError(f"{cell!r} is no length; write `20 cm`, with mm, cm, m, in or ft")
    return float(match[1].replace(",", ".")) * _UNITS_M[unit]


def value_of(name: str, cell: str) -> Any:
    """A cell as a parameter's value: text where the parameter is text, else as JSON reads it, else as it stands."""
    if name in _TEXTS:
        return cell
    try:
        return json.loads(cell.lower())
    except (ValueError, RecursionError):
        return cell
