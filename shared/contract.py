"""What callers may ask for: TRELLIS.2's own parameter names, defaults and ranges, and the presets over them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

PipelineType = Literal["512", "1024", "1024_cascade", "1536_cascade"]
PresetName = Literal["max_quality", "web", "game", "mobile", "low_poly", "shopify", "google", "amazon", "ar_ios"]
TextureFormat = Literal["auto", "png", "jpeg", "webp"]
Background = Literal["auto", "keep", "remove"]

Steps = Annotated[int, Field(ge=1, le=50)]
Guidance = Annotated[float, Field(ge=0, le=20)]
Rescale = Annotated[float, Field(ge=0, le=1)]
RescaleT = Annotated[float, Field(ge=1, le=10)]

MAX_SEED = 2**32 - 1


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
    texture_format: Annotated[
        TextureFormat, Field(description="`auto`: JPEG where opaque, PNG where alpha matters.")
    ] = "auto"


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
    max_num_tokens: Annotated[int, Field(ge=1_024, le=131_072)] = 49_152
    allow_degrade: Annotated[
        bool, Field(description="Let a job that the GPU's memory is too small for run at the next lower pipeline_type.")
    ] = False
    background: Annotated[Background, Field(description="`auto` uses the alpha channel where there is one.")] = "auto"


# Triangles and texture of each preset; the delivery targets keep to what their importers accept.
PRESETS: dict[PresetName, dict[str, Any]] = {
    "max_quality": {"decimation_target": 1_000_000, "texture_size": 4096},
    "web": {"decimation_target": 100_000, "texture_size": 2048},
    "game": {"decimation_target": 10_000, "texture_size": 1024},
    "mobile": {"decimation_target": 5_000, "texture_size": 512},
    "low_poly": {"decimation_target": 2_000, "texture_size": 512},
    "shopify": {"decimation_target": 100_000, "texture_size": 2048, "texture_format": "jpeg"},
    "google": {"decimation_target": 100_000, "texture_size": 2048},
    "amazon": {"decimation_target": 140_000, "texture_size": 2048},
    "ar_ios": {"decimation_target": 90_000, "texture_size": 2048},
}

# Limits of a picture; read from its header, before anything decodes it.
MAX_PICTURE_BYTES = 20_000_000
MAX_PICTURE_PIXELS = 40_000_000
MAX_PICTURE_SIDE_PX = 16_384


def resolve(explicit: dict[str, Any], preset: PresetName | None) -> Parameters:
    """Lay explicit parameters over the preset's, and those over the defaults.

    Raises:
        pydantic.ValidationError: a name is unknown, or a value is of the wrong type or out of its range.
    """
    return Parameters.model_validate({**(PRESETS[preset] if preset else {}), **explicit})
