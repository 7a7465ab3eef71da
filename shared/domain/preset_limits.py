"""What a file must keep to, by the preset that it was made under."""

from dataclasses import dataclass

from shared.domain.parameters import PresetName


@dataclass(frozen=True, slots=True)
class Target:
    """Bounds of a GLB; None where there is none. Sides of textures are in pixels."""

    max_bytes: int | None = None
    max_triangles: int | None = None
    min_texture_px: int | None = None
    max_texture_px: int | None = None
    max_materials: int | None = None
    image_formats: tuple[str, ...] | None = ("jpeg", "png")  # some importers refuse all others


# Sources: Khronos Asset Auditor's defaults (web); Khronos 3D Commerce publishing guidelines, mobile AR (game) and
# banner (mobile) with the preset's own triangles and texture; Google Merchant Center's and Shopify's help on 3D models;
# Amazon's 3D model requirements; Apple's guidance for AR Quick Look.
TARGETS: dict[PresetName, Target] = {
    "web": Target(5_120_000, 100_000, 512, 2048, max_materials=5),
    "game": Target(3_000_000, 10_000, None, 1024),
    "mobile": Target(500_000, 5_000, None, 512),
    "shopify": Target(14_900_000, None, None, None, max_materials=1),  # under 15 MB, or it is optimised again
    "google": Target(10_000_000, None, None, 2048),
    "amazon": Target(None, 149_999, 2048, 4096),
    "ar_ios": Target(None, 100_000, None, 2048, max_materials=1),
}
UNBOUND = Target(image_formats=None)


def target_of(preset: PresetName | None) -> Target:
    """The bounds that a preset stands for."""
    return TARGETS.get(preset, UNBOUND) if preset else UNBOUND
