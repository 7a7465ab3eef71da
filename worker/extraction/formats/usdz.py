"""Write an asset as USDZ for AR Quick Look on iOS, with OpenUSD (`usd-core`), which is imported when it is needed."""

import os
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from shared.errors import FormatUnavailable, OutputInvalid
from worker.extraction.model.asset import Asset, EncodedImage, Mesh, Provenance
from worker.extraction.texture import encoding

ROOT, MESH, MATERIAL = "/Asset", "/Asset/Mesh", "/Asset/Material"
SUFFIXES = {"image/jpeg": "jpg", "image/png": "png"}
FILE_TIME = (2010, 1, 1, 0, 0, 0, 0, 1, -1)  # the package stores local file times; a fixed one keeps equal assets equal
MASK_CUTOFF = 0.5  # glTF's default


def is_available() -> bool:
    """Return whether OpenUSD is installed."""
    return find_spec("pxr") is not None


def write(asset: Asset, provenance: Provenance) -> bytes:
    """Write a package of one binary layer and two textures, and validate it; equal arguments give equal bytes.

    One mesh in metres, Y up, with one UsdPreviewSurface. Quick Look reads JPEG and PNG only: WebP is encoded again.

    Raises:
        FormatUnavailable: OpenUSD is not installed.
        OutputInvalid: OpenUSD's validators reject the package.
    """
    if not is_available():
        raise FormatUnavailable("this worker has no OpenUSD to write USDZ with", pointer="/formats")
    from pxr import Sdf

    with TemporaryDirectory(prefix="usdz-") as name:
        folder = Path(name)
        textures = _supported_textures(asset)
        roles = ("colour", "finish")
        files = [f"{role}.{SUFFIXES[each.mime_type]}" for role, each in zip(roles, textures, strict=True)]
        for file, texture in zip(files, textures, strict=True):
            (folder / file).write_bytes(texture.body)
        layer, package = folder / "asset.usdc", folder / "asset.usdz"
        _write_layer(layer, asset, provenance, *files)
        archive = Sdf.ZipFileWriter.CreateNew(str(package))
        for path in (layer, *(folder / file for file in files)):  # a viewer opens the first file
            os.utime(path, (time.mktime(FILE_TIME),) * 2)
            archive.AddFile(str(path), path.name)
        if not archive.Save():
            raise OutputInvalid("OpenUSD could not pack the USDZ")
        return read_validated(package)


def read_validated(package: Path) -> bytes:
    """Return the bytes of a valid package. Raises OutputInvalid if a validator reports a fault."""
    if faults := list(find_faults(package)):
        raise OutputInvalid(f"the USDZ is not valid: {'; '.join(faults)}")
    return package.read_bytes()


def _supported_textures(asset: Asset) -> tuple[EncodedImage, EncodedImage]:
    if "image/webp" in (asset.base_colour.mime_type, asset.metallic_roughness.mime_type):
        return encoding.encode_textures(asset.texels, asset.alpha_mode, "auto")
    return asset.base_colour, asset.metallic_roughness


def _write_layer(path: Path, asset: Asset, provenance: Provenance, colour: str, finish: str) -> None:
    from pxr import Kind, Usd, UsdGeom

    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, ROOT)
    stage.SetDefaultPrim(root.GetPrim())
    Usd.ModelAPI(root).SetKind(Kind.Tokens.component)
    root.GetPrim().SetDisplayName(provenance.custom_id or "asset")
    layer = stage.GetRootLayer()
    layer.customLayerData = {"creator": provenance.generator, "engine": provenance.engine, "seed": str(provenance.seed)}
    _define_mesh(stage, asset.mesh)
    _define_material(stage, asset.alpha_mode, colour, finish)
    layer.Save()


def _define_mesh(stage: Any, mesh: Mesh) -> None:
    from pxr import Sdf, UsdGeom, Vt

    prim = UsdGeom.Mesh.Define(stage, MESH)
    corners = Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.positions))
    prim.CreatePointsAttr(corners)
    prim.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(corners))
    prim.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    prim.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.reshape(-1).astype(np.int32)))
    prim.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.normals)))
    prim.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    prim.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    prim.CreateDoubleSidedAttr(mesh.is_open)
    upward = np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], axis=1).astype(np.float32)  # v goes up in USD, down in glTF
    primvars = UsdGeom.PrimvarsAPI(prim)
    st = primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
    st.Set(Vt.Vec2fArray.FromNumpy(upward))


def _define_material(stage: Any, alpha_mode: str, colour: str, finish: str) -> None:
    """Define glTF's metallic-roughness material as a UsdPreviewSurface; a texture reader has one output per channel."""
    from pxr import Sdf, UsdShade

    kinds = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, MATERIAL)
    surface = _shader(stage, "Surface", "UsdPreviewSurface")
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", kinds.Token))
    reader = _shader(stage, "Place", "UsdPrimvarReader_float2")
    reader.CreateInput("varname", kinds.String).Set("st")
    st = reader.CreateOutput("result", kinds.Float2)
    base, packed = _texture(stage, "Colour", colour, "sRGB", st), _texture(stage, "Finish", finish, "raw", st)
    surface.CreateInput("diffuseColor", kinds.Color3f).ConnectToSource(base.CreateOutput("rgb", kinds.Float3))
    surface.CreateInput("roughness", kinds.Float).ConnectToSource(packed.CreateOutput("g", kinds.Float))
    surface.CreateInput("metallic", kinds.Float).ConnectToSource(packed.CreateOutput("b", kinds.Float))
    if alpha_mode != "OPAQUE":
        surface.CreateInput("opacity", kinds.Float).ConnectToSource(base.CreateOutput("a", kinds.Float))
    if alpha_mode == "MASK":
        surface.CreateInput("opacityThreshold", kinds.Float).Set(MASK_CUTOFF)
    UsdShade.MaterialBindingAPI.Apply(stage.GetPrimAtPath(MESH)).Bind(material)


def _shader(stage: Any, name: str, identifier: str) -> Any:
    from pxr import UsdShade

    shader = UsdShade.Shader.Define(stage, f"{MATERIAL}/{name}")
    shader.CreateIdAttr(identifier)
    return shader


def _texture(stage: Any, name: str, file: str, colour_space: str, st: Any) -> Any:
    from pxr import Sdf

    kinds = Sdf.ValueTypeNames
    reader = _shader(stage, name, "UsdUVTexture")
    reader.CreateInput("file", kinds.Asset).Set(f"./{file}")
    reader.CreateInput("sourceColorSpace", kinds.Token).Set(colour_space)
    reader.CreateInput("st", kinds.Float2).ConnectToSource(st)
    reader.CreateInput("wrapS", kinds.Token).Set("clamp")
    reader.CreateInput("wrapT", kinds.Token).Set("clamp")
    return reader


def find_faults(package: Path) -> Iterator[str]:
    """Yield a message for each fault that OpenUSD's validators, including those for packages, report."""
    from pxr import Usd, UsdValidation

    stage = Usd.Stage.Open(str(package))
    registry = UsdValidation.ValidationRegistry()
    context = UsdValidation.ValidationContext(registry.GetOrLoadAllValidators())
    for error in context.Validate(stage):
        yield error.GetErrorAsString()
