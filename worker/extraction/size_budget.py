"""Keep a GLB within `max_bytes`: lower the textures until it fits, and if that is not enough, the triangles.

Textures are encoded again from the baked texels; only fewer triangles require another extraction.
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

MIN_TRIANGLES = 1_000
MIN_TEXTURE_PX = 512
VERTEX_BYTES, SHORT_TRIANGLE_BYTES = 32, 6  # position, normal and uv; three 16-bit indices
# Bytes of one triangle with its share of the vertices: of a closed mesh without seams, and of an unwrapped one.
MIN_TRIANGLE_BYTES, TRIANGLE_BYTES = 22, 32
GEOMETRY_SHARE = 0.5  # of the bytes, if triangles must be removed; textures get the rest
SAFETY = 0.9  # part of the computed triangles to aim for: with fewer triangles, seams duplicate more vertices


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
    """Extract a GLB of the requested dimensions within `max_bytes`, with textures as large as the target requires.

    The target's other limits are left to the checks: the parameters decide about them.

    Raises:
        AssetTooLarge: the file is too large even with the fewest triangles and the smallest textures.
        EmptySurface, OutputInvalid: as for `extract`.
    """
    triangles = _choose_first_target(parameters)
    while True:
        attempt = parameters.model_copy(update={"decimation_target": triangles})
        asset = _scale(
            extract(surface, attempt, provenance=provenance, progress=progress, device=device), parameters, provenance
        )
        fitted, smallest_bytes, room_bytes = _fit_textures(asset, parameters, target, provenance)
        if fitted is not None:
            return _record_triangles(fitted, parameters.decimation_target, triangles)
        if min(triangles, asset.triangles) <= MIN_TRIANGLES:
            raise AssetTooLarge(
                f"the smallest GLB of this shape has {smallest_bytes:,} bytes; max_bytes is {parameters.max_bytes:,}",
                pointer="/max_bytes",
            )
        triangles_that_fit = min(_estimate_triangles(room_bytes, asset), asset.triangles)
        triangles = max(int(triangles_that_fit * SAFETY), MIN_TRIANGLES)


def texture_settings(texture_format: TextureFormat, texture_px: int, smallest_px: int) -> Iterator[TextureSetting]:
    """Yield settings from the requested one down: format, then quality, then size; each size begins at high quality."""
    if texture_format == "png":
        yield TextureSetting("png", "high", texture_px)
        texture_format = "jpeg"
    while True:
        yield from (TextureSetting(texture_format, quality, texture_px) for quality in encoding.QUALITIES)
        texture_px //= 2
        if texture_px < smallest_px:
            return


def _choose_first_target(parameters: ExportParameters) -> int:
    """Return the triangles of the first attempt: fewer than requested if those cannot fit with any textures."""
    requested, max_bytes = parameters.decimation_target, parameters.max_bytes
    if max_bytes is None or requested * MIN_TRIANGLE_BYTES <= max_bytes:
        return requested
    return max(int(max_bytes * GEOMETRY_SHARE) // TRIANGLE_BYTES, MIN_TRIANGLES)


def _estimate_triangles(room_bytes: float, asset: Asset) -> float:
    """Estimate how many triangles of this shape fit into so many bytes; few vertices allow 16-bit indices."""
    vertices_per_triangle = asset.vertices / asset.triangles
    with_long_indices = room_bytes / (vertices_per_triangle * VERTEX_BYTES + 2 * SHORT_TRIANGLE_BYTES)
    if with_long_indices * vertices_per_triangle >= glb.SHORT_INDICES_UP_TO:
        return with_long_indices
    with_short_indices = room_bytes / (vertices_per_triangle * VERTEX_BYTES + SHORT_TRIANGLE_BYTES)
    return min(with_short_indices, glb.SHORT_INDICES_UP_TO / vertices_per_triangle)


def _scale(asset: Asset, parameters: ExportParameters, provenance: Provenance) -> Asset:
    if parameters.dimensions_m is None:
        return asset
    stretch = check_stretch(asset.mesh, parameters.dimensions_m)
    mesh = scale_to_dimensions(asset.mesh, parameters.dimensions_m)
    body = glb.write(mesh, asset.base_colour, asset.metallic_roughness, asset.alpha_mode, provenance)
    validate(body)
    return replace(asset, mesh=mesh, glb=body, checks=(stretch,) if stretch else ())


def _fit_textures(
    asset: Asset, parameters: ExportParameters, target: Target, provenance: Provenance
) -> tuple[Asset | None, int, float]:
    """Lower the textures until the asset fits.

    Returns:
        The asset with the best textures that fit, its bytes and 0; or, if none do, None, the bytes with the smallest
        textures, and the bytes of geometry that would leave enough for textures.
    """
    max_bytes = parameters.max_bytes
    if max_bytes is None or len(asset.glb) <= max_bytes:
        return asset, len(asset.glb), 0.0
    geometry_bytes = len(asset.glb) - len(asset.base_colour.body) - len(asset.metallic_roughness.body)
    texels, textures_bytes = asset.texels, 0
    for setting in texture_settings(
        parameters.texture_format, asset.texture_px, target.min_texture_px or MIN_TEXTURE_PX
    ):
        if setting.texture_px < len(texels):
            texels = encoding.halve(texels)
        base_colour, metallic_roughness = encoding.encode_textures(
            texels, asset.alpha_mode, setting.texture_format, setting.quality
        )
        textures_bytes = len(base_colour.body) + len(metallic_roughness.body)
        if geometry_bytes + textures_bytes > max_bytes:
            continue
        body = glb.write(asset.mesh, base_colour, metallic_roughness, asset.alpha_mode, provenance)
        if len(body) <= max_bytes:
            validate(body)
            degradations = _list_degradations(parameters, setting)
            fitted = replace(
                asset,
                glb=body,
                texels=texels,
                texture_px=setting.texture_px,
                base_colour=base_colour,
                metallic_roughness=metallic_roughness,
            )
            return replace(fitted, degradations=degradations), len(body), 0.0
    room = min(max_bytes * GEOMETRY_SHARE, max_bytes - textures_bytes)
    return None, geometry_bytes + textures_bytes, max(room, 0)


def _list_degradations(parameters: ExportParameters, setting: TextureSetting) -> tuple[Degradation, ...]:
    changes = (
        Degradation(name="texture_format", requested=parameters.texture_format, actual=setting.texture_format),
        Degradation(name="texture_quality", requested="high", actual=setting.quality),
        Degradation(name="texture_size", requested=parameters.texture_size, actual=setting.texture_px),
    )
    return tuple(change for change in changes if change.requested != change.actual)


def _record_triangles(asset: Asset, requested: int, triangles: int) -> Asset:
    if triangles == requested:
        return asset
    change = Degradation(name="decimation_target", requested=requested, actual=triangles)
    return replace(asset, degradations=(*asset.degradations, change))
