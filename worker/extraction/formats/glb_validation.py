"""Validate every GLB before it is stored, and check finished files against limits.

All numbers are read from the file, none from the data that it was written from.
"""

import io
import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.domain.job import Check
from shared.domain.parameters import Target
from shared.errors import OutputInvalid
from worker.extraction.formats.glb import BINARY_CHUNK, FLOAT, JSON_CHUNK, MAGIC, UNSIGNED_INT, UNSIGNED_SHORT

_DTYPES: dict[int, str] = {FLOAT: "<f4", UNSIGNED_SHORT: "<u2", UNSIGNED_INT: "<u4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}


def validate(glb: bytes) -> None:
    """Validate chunks, views, accessors, indices, numbers and images of a GLB as `glb.write` writes it.

    Raises:
        OutputInvalid: describes the first fault.
    """
    try:
        document, binary = read_chunks(glb)
        accessors = [_read_accessor(accessor, document, binary) for accessor in document["accessors"]]
        for mesh in document["meshes"]:
            for primitive in mesh["primitives"]:
                _check_primitive(primitive, accessors)
        for image in document["images"]:
            _check_image(image, document, binary)
    except (KeyError, IndexError, TypeError, ValueError, struct.error, OSError) as error:
        raise OutputInvalid(f"the GLB cannot be read back: {error!r}") from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise OutputInvalid(message)


def read_chunks(glb: bytes) -> tuple[dict[str, Any], bytes]:
    """Return a GLB's JSON document and binary chunk. Raises OutputInvalid if header and chunks are inconsistent."""
    magic, version, length = struct.unpack_from("<III", glb)
    _require((magic, version, length) == (MAGIC, 2, len(glb)), "the GLB's header does not match its content")
    text_bytes, text_type = struct.unpack_from("<II", glb, 12)
    binary_bytes, binary_type = struct.unpack_from("<II", glb, 20 + text_bytes)
    _require((text_type, binary_type) == (JSON_CHUNK, BINARY_CHUNK), "the GLB's chunks are not JSON and binary")
    _require(28 + text_bytes + binary_bytes == len(glb), "the GLB's chunks do not add up to its length")
    _require(text_bytes % 4 == binary_bytes % 4 == 0, "the GLB's chunks are not aligned")
    document = json.loads(glb[20 : 20 + text_bytes])
    _require(0 <= binary_bytes - document["buffers"][0]["byteLength"] < 4, "the buffer does not match the binary chunk")
    return document, glb[28 + text_bytes :]


def read_view(number: int, document: dict[str, Any], binary: bytes) -> bytes:
    """Return the bytes of a buffer view. Raises OutputInvalid if it is outside of the buffer."""
    view = document["bufferViews"][number]
    start, length = view["byteOffset"], view["byteLength"]
    _require(start >= 0 and length > 0 and start + length <= len(binary), f"view {number} is outside of the buffer")
    return binary[start : start + length]


def _read_accessor(accessor: dict[str, Any], document: dict[str, Any], binary: bytes) -> NDArray[Any]:
    content = read_view(accessor["bufferView"], document, binary)
    dtype, width = np.dtype(_DTYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
    _require(len(content) == accessor["count"] * width * dtype.itemsize, "an accessor does not match its view")
    rows: NDArray[Any] = np.frombuffer(content, dtype).reshape(-1, width)
    _require(bool(np.isfinite(rows).all()), "an accessor has numbers that are not finite")
    if "min" in accessor:
        bounds = [rows.min(axis=0).tolist(), rows.max(axis=0).tolist()]
        _require(bounds == [accessor["min"], accessor["max"]], "an accessor's bounds are not those of its numbers")
    return rows


def _check_primitive(primitive: dict[str, Any], accessors: list[NDArray[Any]]) -> None:
    attributes = {name: accessors[number] for name, number in primitive["attributes"].items()}
    indices = accessors[primitive["indices"]]
    count = len(attributes["POSITION"])
    _require(all(len(rows) == count for rows in attributes.values()), "the attributes are not equally long")
    _require(len(indices) > 0 and len(indices) % 3 == 0, "the indices are not whole triangles")
    _require(int(indices.max()) < count, "an index names a vertex that does not exist")
    length = np.linalg.norm(attributes["NORMAL"], axis=1)
    _require(bool((np.abs(length - 1) < 1e-3).all()), "a normal is not of length one")


def _check_image(image: dict[str, Any], document: dict[str, Any], binary: bytes) -> None:
    """Validate the header only: decoding a texture takes as long as encoding it."""
    with Image.open(io.BytesIO(read_view(image["bufferView"], document, binary))) as header:
        _require(header.format == _FORMATS[image["mimeType"]], "a texture is not of the format that it claims")
        _require(header.width == header.height, "a texture is not square")
        _require(header.width & (header.width - 1) == 0, "a texture's side is not a power of two")


def check_limits(glb: bytes, target: Target, max_bytes: int | None) -> Iterator[Check]:
    """Check a valid GLB against all limits of a target, and against the caller's `max_bytes`."""
    document, binary = read_chunks(glb)
    textures = [_read_texture(image, document, binary) for image in document["images"]]
    sides = [side for _, side in textures]
    bytes_limits = [limit for limit in (target.max_bytes, max_bytes) if limit]
    yield from _at_most("max_bytes", min(bytes_limits, default=None), len(glb))
    yield from _at_most("max_triangles", target.max_triangles, _count_triangles(document))
    yield from _at_most("max_texture_px", target.max_texture_px, max(sides))
    yield from _at_least("min_texture_px", target.min_texture_px, min(sides))
    yield from _at_most("max_materials", target.max_materials, len(document["materials"]))
    if target.max_texture_px:
        powers = all(side & (side - 1) == 0 for side in sides)
        yield Check(name="power_of_two", limit=True, measured=powers, passed=powers)
    if target.image_formats:
        yield _among("image_formats", target.image_formats, {form for form, _ in textures})


def _at_most(name: str, limit: int | None, measured: int) -> Iterator[Check]:
    if limit is not None:
        yield Check(name=name, limit=limit, measured=measured, passed=measured <= limit)


def _at_least(name: str, limit: int | None, measured: int) -> Iterator[Check]:
    if limit is not None:
        yield Check(name=name, limit=limit, measured=measured, passed=measured >= limit)


def _among(name: str, allowed: Iterable[str], formats: set[str]) -> Check:
    passed = formats <= set(allowed)
    return Check(name=name, limit=", ".join(allowed), measured=", ".join(sorted(formats)), passed=passed)


def _count_triangles(document: dict[str, Any]) -> int:
    accessors = document["accessors"]
    primitives = (primitive for mesh in document["meshes"] for primitive in mesh["primitives"])
    return sum(accessors[primitive["indices"]]["count"] // 3 for primitive in primitives)


def _read_texture(image: dict[str, Any], document: dict[str, Any], binary: bytes) -> tuple[str, int]:
    """Return a texture's format and its longer side in pixels, from its header."""
    with Image.open(io.BytesIO(read_view(image["bufferView"], document, binary))) as header:
        return (header.format or "").lower(), max(header.size)
