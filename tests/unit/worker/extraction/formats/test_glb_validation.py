"""The last look over a GLB notices what is broken."""

import json
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared.errors import OutputInvalid
from worker.extraction.formats.glb_validation import validate

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made


def rewritten(glb: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with its document changed and its lengths put right."""
    (text_bytes,) = struct.unpack_from("<I", glb, 12)
    document = json.loads(glb[20 : 20 + text_bytes])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = glb[20 + text_bytes :]
    header = struct.pack("<III", 0x46546C67, 2, 20 + len(text) + len(rest))
    return header + struct.pack("<II", len(text), 0x4E4F534A) + text + rest


def overwritten(glb: bytes, accessor: int, content: bytes) -> bytes:
    """The file with other bytes at the beginning of an accessor."""
    (text_bytes,) = struct.unpack_from("<I", glb, 12)
    document = json.loads(glb[20 : 20 + text_bytes])
    view = document["bufferViews"][document["accessors"][accessor]["bufferView"]]
    start = 28 + text_bytes + view["byteOffset"]
    return glb[:start] + content + glb[start + len(content) :]


def test_good_file_passes(made: "Made") -> None:
    """As extraction leaves it, and with its document written in another way."""
    validate(made("parts").glb)
    validate(rewritten(made("parts").glb, lambda _: None))


@pytest.mark.parametrize(
    "broken",
    [
        lambda _: b"",
        lambda glb: glb[:11],
        lambda glb: b"PNG!" + glb[4:],
        lambda glb: glb[:-4],
        lambda glb: glb + b"\0\0\0\0",
        lambda glb: glb[:20] + b"\xff" + glb[21:],
        lambda glb: glb[:16] + b"NOSJ" + glb[20:],
    ],
    ids=["nothing", "half a header", "magic", "cut", "longer", "not json", "chunk type"],
)
def test_broken_container_is_noticed(made: "Made", broken: Callable[[bytes], bytes]) -> None:
    """Header, lengths, chunk types and the document's syntax."""
    with pytest.raises(OutputInvalid):
        validate(broken(made("parts").glb))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["bufferViews"][0].update(byteLength=10**9),
        lambda document: document["bufferViews"][0].update(byteOffset=-4),
        lambda document: document["accessors"][0].update(count=3),
        lambda document: document["accessors"][0].update(componentType=5125),
        lambda document: document["accessors"][0]["max"].__setitem__(1, 9.0),
        lambda document: document["buffers"][0].update(byteLength=8),
        lambda document: document["images"][0].update(mimeType="image/png"),
        lambda document: document["images"][0].update(bufferView=0),
        lambda document: document["meshes"][0]["primitives"][0].update(indices=9),
        lambda document: document.pop("meshes"),
    ],
    ids=[
        "view too long",
        "view before",
        "count",
        "type",
        "bounds",
        "buffer",
        "mime",
        "no image",
        "accessor",
        "no mesh",
    ],
)
def test_broken_document_is_noticed(made: "Made", change: Callable[[dict[str, Any]], None]) -> None:
    """Views, accessors, bounds, buffer and pictures."""
    with pytest.raises(OutputInvalid):
        validate(rewritten(made("parts").glb, change))


@pytest.mark.parametrize(
    ("accessor", "content"),
    [
        (0, np.array([np.nan], "<f4").tobytes()),
        (1, np.array([3, 3, 3], "<f4").tobytes()),
        (2, np.array([np.inf], "<f4").tobytes()),
        (3, np.array([65_534], "<u2").tobytes()),
    ],
    ids=["position", "normal", "texture coordinate", "index"],
)
def test_broken_numbers_are_noticed(made: "Made", accessor: int, content: bytes) -> None:
    """Not finite, not of length one, or naming no vertex."""
    with pytest.raises(OutputInvalid):
        validate(overwritten(made("parts").glb, accessor, content))
