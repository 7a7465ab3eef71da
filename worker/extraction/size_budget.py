"""Makes a GLB that keeps to a bound: its textures are lowered until it fits, and where that is not enough, triangles.

Textures are encoded anew from the texels that were baked; only fewer triangles take another extraction.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from shared.domain.job import Degradation
from shared.domain.parameters import ExportParameters, Target, TextureFormat
from shared.errors import AssetTooLarge
from worker.engine import Surface
from worker.extraction.formats import glb
from worker.extraction.formats.glb_validation import validate
from worker.extraction.model.asset import Asset, Provenance, check_stretch, scale_to_dimensions
from worker.extraction.pipeline import extract
from worker.extraction.texture import encoding

FEWEST_TRIANGLES = 1_000
SMALLEST_TEXTURE_PX = 512
VERTEX_BYTES, SHORT_TRIANGLE_BYTES = 32, 6  # position, normal and uv; three indices, where they are short
# Bytes that one triangle takes with its share of the vertices: a closed mesh without seams, and an unwrapped one.
LEAST_TRIANGLE_BYTES, TRIANGLE_BYTES = 22, 32
GEOMETRY_SHARE = 0.5  # of the bytes, once triangles have to go: the rest is for textures again
SAFETY = 0.9  # how close to a bound to aim: seams take more vertices the fewer triangles there are


@dataclass(frozen=True, slots=True)
class TextureSetting:
    """One way to encode the textures."""

    texture_format: TextureFormat
    quality: encoding.Quality
    texture_px: int


def extract_to_fit(
    surface: Surface,
    parameters: ExportParameters,
    target: Target,
    *,
    provenance: Provenance,
    progress: Callable[[float], None],
    device: str = "cpu",
) -> Asset:
    """Turn a surface into a GLB of the wanted dimensions within `max_bytes`, with textures as large as the target asks.

    The target's other bounds are left to the checks: what exceeds them was asked for.

    Raises:
        AssetTooLarge: fewest triangles and smallest textures still make too large a file.
        EmptySurface, OutputInvalid: as `extract` says.
    """
    triangles = _first_target(parameters)
    while True:
        wish = parameters.model_copy(update={"decimation_target": triangles})
        asset = _sized(
            extract(surface, wish, provenance=provenance, progress=progress, device=device), parameters, provenance
        )
        fitted, smallest_bytes, room_bytes = _within(asset, parameters, target, provenance)
        if fitted is not None:
            return _told(fitted, parameters.decimation_target, triangles)
        if min(triangles, asset.triangles) <= FEWEST_TRIANGLES:
            raise AssetTooLarge(
                f"the smallest GLB of this shape has {smallest_bytes:,} bytes; max_bytes is {parameters.max_bytes:,}",
                pointer="/max_bytes",
            )
        fewer = min(_triangles_in(room_bytes, asset), asset.triangles)
        triangles = max(int(fewer * SAFETY), FEWEST_TRIANGLES)


def texture_settings(wanted: TextureFormat, texture_px: int, smallest_px: int) -> Iterator[TextureSetting]:
    """From the textures as they were asked for, down: format, then quality, then size, each size at its best again."""
    if wanted == "png":
        yield TextureSetting("png", "high", texture_px)
        wanted = "jpeg"
    while True:
        yield from (TextureSetting(wanted, quality, texture_px) for quality in encoding.QUALITIES)
        texture_px //= 2
        if texture_px < smallest_px:
            return


def _first_target(parameters: ExportParameters) -> int:
    """The triangles to begin with: fewer than asked for where so many could not fit with any textures."""
    wanted, most = parameters.decimation_target, parameters.max_bytes
    if most is None or wanted * LEAST_TRIANGLE_BYTES <= most:
        return wanted
    return max(int(most * GEOMETRY_SHARE) // TRIANGLE_BYTES, FEWEST_TRIANGLES)


def _triangles_in(room_bytes: float, asset: Asset) -> float:
    """How many triangles of this shape take so many bytes; indices are short where vertices are few."""
    vertices = asset.vertices / asset.triangles
    many = room_bytes / (vertices * VERTEX_BYTES + 2 * SHORT_TRIANGLE_BYTES)
    if many * vertices >= glb.SHORT_INDICES_UP_TO:
        return many
    few = room_bytes / (vertices * VERTEX_BYTES + SHORT_TRIANGLE_BYTES)
    return min(few, glb.SHORT_INDICES_UP_TO / vertices)


def _sized(asset: Asset, parameters: ExportParameters, labels: Provenance) -> Asset:
    if parameters.dimensions_m is None:
        return asset
    stretch = check_stretch(asset.mesh, parameters.dimensions_m)
    mesh = scale_to_dimensions(asset.mesh, parameters.dimensions_m)
    body = glb.write(mesh, asset.base_colour, asset.metallic_roughness, asset.alpha_mode, labels)
    validate(body)
    return replace(asset, mesh=mesh, glb=body, checks=(stretch,) if stretch else ())


def _within(
    asset: Asset, parameters: ExportParameters, target: Target, labels: Provenance
) -> tuple[Asset | None, int, float]:
    """The asset with the best textures that fit.

    Where none do: None, the bytes with the smallest, and the bytes of geometry that would leave room for textures.
    """
    most = parameters.max_bytes
    if most is None or len(asset.glb) <= most:
        return asset, len(asset.glb), 0.0
    geometry_bytes = len(asset.glb) - len(asset.base_colour.body) - len(asset.metallic_roughness.body)
    texels, pictures_bytes = asset.texels, 0
    for rung in texture_settings(
        parameters.texture_format, asset.texture_px, target.min_texture_px or SMALLEST_TEXTURE_PX
    ):
        if rung.texture_px < len(texels):
            texels = encoding.halve(texels)
        colour, finish = encoding.encode_textures(texels, asset.alpha_mode, rung.texture_format, rung.quality)
        pictures_bytes = len(colour.body) + len(finish.body)
        if geometry_bytes + pictures_bytes > most:
            continue
        body = glb.write(asset.mesh, colour, finish, asset.alpha_mode, labels)
        if len(body) <= most:
            validate(body)
            lowered = _lowered(parameters, rung)
            made = replace(
                asset,
                glb=body,
                texels=texels,
                texture_px=rung.texture_px,
                base_colour=colour,
                metallic_roughness=finish,
            )
            return replace(made, degradations=lowered), len(body), 0.0
    room = min(most * GEOMETRY_SHARE, most - pictures_bytes)
    return None, geometry_bytes + pictures_bytes, max(room, 0)


def _lowered(parameters: ExportParameters, rung: TextureSetting) -> tuple[Degradation, ...]:
    changes = (
        Degradation(name="texture_format", wanted=parameters.texture_format, made=rung.texture_format),
        Degradation(name="texture_quality", wanted="high", made=rung.quality),
        Degradation(name="texture_size", wanted=parameters.texture_size, made=rung.texture_px),
    )
    return tuple(change for change in changes if change.wanted != change.made)


def _told(asset: Asset, wanted: int, triangles: int) -> Asset:
    if triangles == wanted:
        return asset
    change = Degradation(name="decimation_target", wanted=wanted, made=triangles)
    return replace(asset, degradations=(*asset.degradations, change))
