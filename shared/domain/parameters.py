"""What callers may ask for: TRELLIS.2's own parameter names, defaults and ranges, and the presets over them."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

PipelineType = Literal["512", "1024", "1024_cascade", "1536_cascade"]
PresetName = Literal["max_quality", "web", "game", "mobile", "low_poly", "shopify", "google", "amazon", "ar_ios"]
TextureFormat = Literal["auto", "png", "jpeg", "webp"]
Background = Literal["auto", "keep", "remove"]
Format = Literal["glb", "usdz", "meshopt"]
FORMATS: tuple[Format, ...] = get_args(Format)

Steps = Annotated[int, Field(ge=1, le=50, description="Steps of the sampler: more are finer and slower.")]
Guidance = Annotated[
    float, Field(ge=0, le=20, description="How closely it keeps to the image; high values exaggerate.")
]
Rescale = Annotated[float, Field(ge=0, le=1, description="How much of the guidance's exaggeration is taken back.")]
RescaleT = Annotated[float, Field(ge=1, le=10, description="How much of the sampling goes to the rough form first.")]
Metres = Annotated[float, Field(ge=0.001, le=1_000)]

MAX_SEED = 2**32 - 1


class Dimensions(BaseModel):
    """How large the object really is, by the box around it: give the sides that you know.

    width: along x, as seen from the front. height: along y, up. depth: along z, from back to front.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: Annotated[Metres | None, Field(description="From side to side, metres.")] = None
    height: Annotated[Metres | None, Field(description="From the floor up, metres.")] = None
    depth: Annotated[Metres | None, Field(description="From front to back, metres.")] = None
    fit: Annotated[
        Literal["uniform", "exact"],
        Field(description="`uniform`: proportions stay, the largest side given fits. `exact`: every side given fits."),
    ] = "uniform"

    @model_validator(mode="after")
    def _some_side(self) -> "Dimensions":
        if self.sides == (None, None, None):
            raise ValueError("give width, height or depth")
        return self

    @property
    def sides(self) -> tuple[float | None, float | None, float | None]:
        """Along x, y and z, metres; None where it is not known."""
        return self.width, self.height, self.depth


class ExportParameters(BaseModel):
    """How a surface becomes a GLB: all that a re-export of a stored state may change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decimation_target: Annotated[int, Field(ge=1_000, le=1_000_000, description="Target triangle count.")] = 1_000_000
    texture_size: Annotated[Literal[512, 1024, 2048, 4096], Field(description="Side of the textures, pixels.")] = 4096
    remesh: Annotated[bool, Field(description="Rebuild the topology before simplifying.")] = True
    remesh_band: Annotated[float, Field(ge=0.1, le=4, description="Width of the remeshing band, voxels.")] = 1.0
    remesh_project: Annotated[
        float, Field(ge=0, le=1, description="How far remeshed vertices move back to the surface.")
    ] = 0.0
    keep_hidden: Annotated[
        bool, Field(description="Keep walls that are invisible from outside, as TRELLIS.2 does.")
    ] = False
    texture_format: Annotated[
        TextureFormat, Field(description="`auto`: JPEG where opaque, PNG where alpha matters.")
    ] = "auto"
    max_bytes: Annotated[
        int | None,
        Field(ge=50_000, le=1_000_000_000, description="Bound of the GLB: textures, then triangles are lowered to it."),
    ] = None
    dimensions_m: Annotated[Dimensions | None, Field(description="Real dimensions; the model is scaled to them.")] = (
        None
    )
    formats: Annotated[
        tuple[Format, ...],
        Field(max_length=8, description="What to make; `glb` always is. `usdz`: for AR on iOS. `meshopt`: packed."),
    ] = ("glb",)

    @field_validator("formats", mode="after")
    @classmethod
    def _in_order(cls, named: tuple[Format, ...]) -> tuple[Format, ...]:
        return tuple(one for one in FORMATS if one in named or one == "glb")


class Parameters(ExportParameters):
    """Everything that shapes one asset. Unknown names are refused."""

    pipeline_type: Annotated[PipelineType, Field(description="Resolution of the sampled shape.")] = "1024_cascade"
    seed: Annotated[int | None, Field(ge=0, le=MAX_SEED, description="Random if absent; always reported.")] = None
    ss_sampling_steps: Steps = 12
    ss_guidance_strength: Guidance = 7.5
    ss_guidance_rescale: Rescale = 0.7
    ss_rescale_t: RescaleT = 5.0
    shape_slat_sampling_steps: Steps = 12
    shape_slat_guidance_strength: Guidance = 7.5
    shape_slat_guidance_rescale: Rescale = 0.5
    shape_slat_rescale_t: RescaleT = 3.0
    tex_slat_sampling_steps: Steps = 12
    tex_slat_guidance_strength: Guidance = 1.0
    tex_slat_guidance_rescale: Rescale = 0.0
    tex_slat_rescale_t: RescaleT = 3.0
    max_num_tokens: Annotated[
        int,
        Field(
            ge=1_024, le=131_072, description="Bound of the shape's size in memory; the resolution is lowered to it."
        ),
    ] = 49_152
    allow_degrade: Annotated[
        bool, Field(description="Let a job that the GPU's memory is too small for run at the next lower pipeline_type.")
    ] = False
    background: Annotated[Background, Field(description="`auto` uses the alpha channel where there is one.")] = "auto"


# What each preset sets; `TARGETS` has the bounds that its files must keep.
PRESETS: dict[PresetName, dict[str, Any]] = {
    "max_quality": {"decimation_target": 1_000_000, "texture_size": 4096},
    "web": {"decimation_target": 100_000, "texture_size": 2048, "max_bytes": 5_120_000},
    "game": {"decimation_target": 10_000, "texture_size": 1024, "max_bytes": 3_000_000},
    "mobile": {"decimation_target": 5_000, "texture_size": 512, "max_bytes": 500_000},
    "low_poly": {"decimation_target": 2_000, "texture_size": 512},
    "shopify": {
        "decimation_target": 100_000,
        "texture_size": 2048,
        "texture_format": "jpeg",
        "max_bytes": 14_900_000,
    },
    "google": {"decimation_target": 100_000, "texture_size": 2048, "max_bytes": 10_000_000},
    "amazon": {"decimation_target": 140_000, "texture_size": 2048},
    "ar_ios": {"decimation_target": 90_000, "texture_size": 2048, "formats": ("glb", "usdz")},
}

# Limits of an image; read from its header, before anything decodes it.
MAX_IMAGE_BYTES = 20_000_000
MAX_IMAGE_PIXELS = 40_000_000
MAX_IMAGE_SIDE_PX = 16_384


def resolve(explicit: dict[str, Any], preset: PresetName | None) -> Parameters:
    """Lay explicit parameters over the preset's, and those over the defaults.

    Raises:
        pydantic.ValidationError: a name is unknown, or a value is of the wrong type or out of its range.
    """
    return Parameters.model_validate({**(PRESETS[preset] if preset else {}), **explicit})


def without(parameters: Parameters, preset: PresetName | None) -> Parameters:
    """The parameters with what the preset had set back at its default, so that another may take its place."""
    of = PRESETS[preset] if preset else {}
    undone = {name: Parameters.model_fields[name].default for name in of if getattr(parameters, name) == of[name]}
    return parameters.model_copy(update=undone)


@dataclass(frozen=True, slots=True)
class Target:
    """Bounds of the GLB of one preset; None where there is none. Sides of textures are in pixels."""

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
    """Return the bounds of a preset's files."""
    return TARGETS.get(preset, UNBOUND) if preset else UNBOUND
