"""Write a textured mesh as binary glTF 2.0."""

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.extraction.model.asset import EncodedImage, Mesh, Provenance

# Constants of the glTF 2.0 specification.
FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071
MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
TEXTURE_CONTENTS = ("base colour", "metallic-roughness")  # for the names of the images
SHORT_INDICES_UP_TO = 65_535  # 65,535 itself is reserved for primitive restart


class _BinaryChunk:
    """The binary chunk, with the views and accessors that refer to it."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add_view(self, content: bytes, target: int | None = None) -> int:
        """Append bytes, aligned to four, and return the index of their view."""
        self.body.extend(b"\0" * (-len(self.body) % 4))
        view = {"buffer": 0, "byteOffset": len(self.body), "byteLength": len(content)}
        self.views.append(view if target is None else {**view, "target": target})
        self.body.extend(content)
        return len(self.views) - 1

    def add_attribute(self, rows: NDArray[np.float32], *, bounds: bool = False) -> int:
        """Append float vectors and return the index of their accessor."""
        accessor: dict[str, Any] = {
            "bufferView": self.add_view(rows.tobytes(), ARRAY_BUFFER),
            "componentType": FLOAT,
            "count": len(rows),
            "type": f"VEC{rows.shape[1]}",
        }
        if bounds:
            accessor |= {"min": rows.min(axis=0).tolist(), "max": rows.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_indices(self, faces: NDArray[np.int32], vertex_count: int) -> int:
        """Append triangles, as 16-bit indices if possible, and return the index of their accessor."""
        short = vertex_count < SHORT_INDICES_UP_TO
        flat = faces.reshape(-1).astype(np.uint16 if short else np.uint32)
        self.accessors.append(
            {
                "bufferView": self.add_view(flat.tobytes(), ELEMENT_ARRAY_BUFFER),
                "componentType": UNSIGNED_SHORT if short else UNSIGNED_INT,
                "count": len(flat),
                "type": "SCALAR",
            }
        )
        return len(self.accessors) - 1


def write(
    mesh: Mesh, base_colour: EncodedImage, metallic_roughness: EncodedImage, alpha_mode: str, provenance: Provenance
) -> bytes:
    """Write one mesh with one material and two textures; equal arguments give equal bytes.

    Node, mesh, material and images are named after the `custom_id`, so that the names of several imported files differ.

    base_colour: has alpha unless `alpha_mode` is OPAQUE.
    """
    binary = _BinaryChunk()
    primitive = {
        "attributes": {
            "POSITION": binary.add_attribute(mesh.positions, bounds=True),
            "NORMAL": binary.add_attribute(mesh.normals),
            "TEXCOORD_0": binary.add_attribute(mesh.uv),
        },
        "indices": binary.add_indices(mesh.faces, len(mesh.positions)),
        "material": 0,
    }
    textures = (base_colour, metallic_roughness)
    name = provenance.custom_id or "asset"
    images = [
        {"name": f"{name} {content}", "mimeType": each.mime_type, "bufferView": binary.add_view(each.body)}
        for each, content in zip(textures, TEXTURE_CONTENTS, strict=True)
    ]
    webp = any(each.mime_type == "image/webp" for each in textures)
    document = {
        "asset": {
            "version": "2.0",
            "generator": provenance.generator,
            "extensions": {"KHR_xmp_json_ld": {"packet": 0}},
        },
        "extensionsUsed": ["KHR_xmp_json_ld", *(["EXT_texture_webp"] if webp else [])],
        **({"extensionsRequired": ["EXT_texture_webp"]} if webp else {}),
        "extensions": {"KHR_xmp_json_ld": {"packets": [_xmp_packet(provenance)]}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [_material(name, alpha_mode, double_sided=mesh.is_open)],
        "textures": [_texture(number, image["mimeType"] == "image/webp") for number, image in enumerate(images)],
        "samplers": [
            {"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR, "wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE}
        ],
        "images": images,
        "accessors": binary.accessors,
        "bufferViews": binary.views,
        "buffers": [{"byteLength": len(binary.body)}],
    }
    return join_chunks(document, bytes(binary.body))


def _material(name: str, alpha_mode: str, *, double_sided: bool) -> dict[str, Any]:
    material: dict[str, Any] = {
        "name": name,
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicRoughnessTexture": {"index": 1}},
    }
    if alpha_mode != "OPAQUE":
        material["alphaMode"] = alpha_mode
    if double_sided:
        material["doubleSided"] = True
    return material


def _texture(image: int, webp: bool) -> dict[str, Any]:
    if webp:
        return {"sampler": 0, "extensions": {"EXT_texture_webp": {"source": image}}}
    return {"sampler": 0, "source": image}


def _xmp_packet(provenance: Provenance) -> dict[str, Any]:
    """Return the XMP packet in JSON-LD for KHR_xmp_json_ld."""
    packet: dict[str, Any] = {
        "@context": {
            "dc": "http://purl.org/dc/elements/1.1/",
            "xmp": "http://ns.adobe.com/xap/1.0/",
            "trellis2": "urn:trellis2-modal:1.0/",
        },
        "@id": "",
        "dc:format": "model/gltf-binary",
        "xmp:CreatorTool": provenance.generator,
        "trellis2:engine": provenance.engine,
        "trellis2:seed": provenance.seed,
    }
    return packet if provenance.custom_id is None else {**packet, "dc:identifier": provenance.custom_id}


def join_chunks(document: dict[str, Any], binary: bytes) -> bytes:
    """Return a GLB: the header and both chunks, each aligned to four bytes."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    length = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        (
            struct.pack("<III", MAGIC, 2, length),
            struct.pack("<II", len(text), JSON_CHUNK),
            text,
            struct.pack("<II", len(binary), BINARY_CHUNK),
            binary,
        )
    )
