"""Holds finished files to their bounds: every number is read from the file, none from what made it."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from PIL import Image

from shared.domain.job import Check
from shared.domain.parameters import Target
from worker.extraction.formats.glb_validation import read_chunks, read_view


def check_limits(glb: bytes, target: Target, max_bytes: int | None) -> Iterator[Check]:
    """Every bound of a target, and the caller's own, against a GLB that passed `check`."""
    document, binary = read_chunks(glb)
    pictures = [_picture(image, document, binary) for image in document["images"]]
    sides = [side for _, side in pictures]
    bytes_bounds = [bound for bound in (target.max_bytes, max_bytes) if bound]
    yield from _at_most("max_bytes", min(bytes_bounds, default=None), len(glb))
    yield from _at_most("max_triangles", target.max_triangles, _triangles(document))
    yield from _at_most("max_texture_px", target.max_texture_px, max(sides))
    yield from _at_least("min_texture_px", target.min_texture_px, min(sides))
    yield from _at_most("max_materials", target.max_materials, len(document["materials"]))
    if target.max_texture_px:
        powers = all(side & (side - 1) == 0 for side in sides)
        yield Check(name="power_of_two", limit=True, measured=powers, passed=powers)
    if target.image_formats:
        yield _among("image_formats", target.image_formats, {form for form, _ in pictures})


def _at_most(name: str, limit: int | None, measured: int) -> Iterator[Check]:
    if limit is not None:
        yield Check(name=name, limit=limit, measured=measured, passed=measured <= limit)


def _at_least(name: str, limit: int | None, measured: int) -> Iterator[Check]:
    if limit is not None:
        yield Check(name=name, limit=limit, measured=measured, passed=measured >= limit)


def _among(name: str, allowed: Iterable[str], found: set[str]) -> Check:
    passed = found <= set(allowed)
    return Check(name=name, limit=", ".join(allowed), measured=", ".join(sorted(found)), passed=passed)


def _triangles(document: dict[str, Any]) -> int:
    accessors = document["accessors"]
    primitives = (primitive for mesh in document["meshes"] for primitive in mesh["primitives"])
    return sum(accessors[primitive["indices"]]["count"] // 3 for primitive in primitives)


def _picture(image: dict[str, Any], document: dict[str, Any], binary: bytes) -> tuple[str, int]:
    """A texture's format and its longer side, from its header."""
    with Image.open(io.BytesIO(read_view(image["bufferView"], document, binary))) as picture:
        return (picture.format or "").lower(), max(picture.size)
