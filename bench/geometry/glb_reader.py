"""Read a GLB by the glTF specification, independently of the code that wrote it."""

import io
import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Model:
    """The content of a file with one primitive, as a viewer reads it.

    positions, normals: float32 [vertices, 3]. uv: float32 [vertices, 2]. faces: int64 [faces, 3].
    colour: uint8 [rows, columns, 4]. surface: uint8 [rows, columns, 3]. document: the JSON chunk.
    """

    positions: NDArray[np.float32]
    normals: NDArray[np.float32]
    uv: NDArray[np.float32]
    faces: NDArray[np.int64]
    colour: NDArray[np.uint8]
    surface: NDArray[np.uint8]
    document: dict[str, Any]


def read_glb(glb: bytes) -> Model:
    """Decode the only primitive of a GLB and its two textures."""
    (text_bytes,) = struct.unpack_from("<I", glb, 12)
    document = json.loads(glb[20 : 20 + text_bytes])
    binary = glb[28 + text_bytes :]

    def view(number: int) -> bytes:
        found = document["bufferViews"][number]
        return binary[found["byteOffset"] : found["byteOffset"] + found["byteLength"]]

    def accessor(number: int) -> NDArray[Any]:
        found = document["accessors"][number]
        dtype = {5123: "<u2", 5125: "<u4", 5126: "<f4"}[found["componentType"]]
        return np.frombuffer(view(found["bufferView"]), dtype).reshape(found["count"], -1)

    def read_texture(texture: dict[str, Any], mode: str) -> NDArray[np.uint8]:
        found = document["textures"][texture["index"]]
        source = found.get("source", found.get("extensions", {}).get("EXT_texture_webp", {}).get("source"))
        body = view(document["images"][source]["bufferView"])
        return np.asarray(Image.open(io.BytesIO(body)).convert(mode))

    primitive = document["meshes"][0]["primitives"][0]
    attributes = {name: accessor(number) for name, number in primitive["attributes"].items()}
    shading = document["materials"][0]["pbrMetallicRoughness"]
    return Model(
        positions=attributes["POSITION"],
        normals=attributes["NORMAL"],
        uv=attributes["TEXCOORD_0"],
        faces=accessor(primitive["indices"]).astype(np.int64).reshape(-1, 3),
        colour=read_texture(shading["baseColorTexture"], "RGBA"),
        surface=read_texture(shading["metallicRoughnessTexture"], "RGB"),
        document=document,
    )
