"""A quick look over every GLB before it leaves: what is broken here must never be stored."""

import io
import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import OutputInvalid
from worker.extraction.formats.glb import BINARY_CHUNK, FLOAT, JSON_CHUNK, MAGIC, UNSIGNED_INT, UNSIGNED_SHORT

_DTYPES: dict[int, str] = {FLOAT: "<f4", UNSIGNED_SHORT: "<u2", UNSIGNED_INT: "<u4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}


def validate(glb: bytes) -> None:
    """Check chunks, views, accessors, indices, numbers and pictures of a GLB that `glb.write` may have written.

    Raises:
        OutputInvalid: with a sentence on the first fault found.
    """
    try:
        document, binary = read_chunks(glb)
        accessors = [_read(accessor, document, binary) for accessor in document["accessors"]]
        for mesh in document["meshes"]:
            for primitive in mesh["primitives"]:
                _check_primitive(primitive, accessors)
        for image in document["images"]:
            _check_image(image, document, binary)
    except (KeyError, IndexError, TypeError, ValueError, struct.error, OSError) as error:
        raise OutputInvalid(f"the GLB cannot be read back: {error!r}") from error


def _expect(holds: bool, sentence: str) -> None:
    if not holds:
        raise OutputInvalid(sentence)


def read_chunks(glb: bytes) -> tuple[dict[str, Any], bytes]:
    """A GLB's document and its binary. Raises OutputInvalid where header and chunks do not fit."""
    magic, version, length = struct.unpack_from("<III", glb)
    _expect((magic, version, length) == (MAGIC, 2, len(glb)), "the GLB's header does not fit its content")
    text_bytes, text_type = struct.unpack_from("<II", glb, 12)
    binary_bytes, binary_type = struct.unpack_from("<II", glb, 20 + text_bytes)
    _expect((text_type, binary_type) == (JSON_CHUNK, BINARY_CHUNK), "the GLB's chunks are not JSON and binary")
    _expect(28 + text_bytes + binary_bytes == len(glb), "the GLB's chunks do not add up to its length")
    _expect(text_bytes % 4 == binary_bytes % 4 == 0, "the GLB's chunks are not aligned")
    document = json.loads(glb[20 : 20 + text_bytes])
    _expect(0 <= binary_bytes - document["buffers"][0]["byteLength"] < 4, "the buffer does not fit the binary chunk")
    return document, glb[28 + text_bytes :]


def read_view(number: int, document: dict[str, Any], binary: bytes) -> bytes:
    """The bytes of a view of the binary. Raises OutputInvalid where it lies outside."""
    found = document["bufferViews"][number]
    start, length = found["byteOffset"], found["byteLength"]
    _expect(start >= 0 and length > 0 and start + length <= len(binary), f"view {number} lies outside the buffer")
    return binary[start : start + length]


def _read(accessor: dict[str, Any], document: dict[str, Any], binary: bytes) -> NDArray[Any]:
    content = read_view(accessor["bufferView"], document, binary)
    dtype, width = np.dtype(_DTYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
    _expect(len(content) == accessor["count"] * width * dtype.itemsize, "an accessor does not fit its view")
    rows: NDArray[Any] = np.frombuffer(content, dtype).reshape(-1, width)
    _expect(bool(np.isfinite(rows).all()), "an accessor has numbers that are not finite")
    if "min" in accessor:
        bounds = [rows.min(axis=0).tolist(), rows.max(axis=0).tolist()]
        _expect(bounds == [accessor["min"], accessor["max"]], "an accessor's bounds are not those of its numbers")
    return rows


def _check_primitive(primitive: dict[str, Any], accessors: list[NDArray[Any]]) -> None:
    attributes = {name: accessors[number] for name, number in primitive["attributes"].items()}
    indices = accessors[primitive["indices"]]
    count = len(attributes["POSITION"])
    _expect(all(len(rows) == count for rows in attributes.values()), "the attributes are not equally long")
    _expect(len(indices) > 0 and len(indices) % 3 == 0, "the indices are not whole triangles")
    _expect(int(indices.max()) < count, "an index names a vertex that does not exist")
    length = np.linalg.norm(attributes["NORMAL"], axis=1)
    _expect(bool((np.abs(length - 1) < 1e-3).all()), "a normal is not of length one")


def _check_image(image: dict[str, Any], document: dict[str, Any], binary: bytes) -> None:
    """Read the header only: decoding every texture again would cost as much as encoding it."""
    with Image.open(io.BytesIO(read_view(image["bufferView"], document, binary))) as picture:
        _expect(picture.format == _FORMATS[image["mimeType"]], "a texture is not of the format that it claims")
        _expect(picture.width == picture.height, "a texture is not square")
        _expect(picture.width & (picture.width - 1) == 0, "a texture's side is not a power of two")
