"""The parameters of a job as command line options, under TRELLIS.2's own names."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trellis2_modal.handle import Parameter


def boolean(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def dimensions(text: str) -> dict[str, str | float]:
    """`width=0.12,height=0.095,fit=exact`: sides in metres, and how to fit them."""
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        return {name.strip(): value if name.strip() == "fit" else float(value) for name, value in parts.items()}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like width=0.12,height=0.095") from None


def names(text: str) -> list[str]:
    """`glb,usdz`."""
    return [name.strip() for name in text.split(",")]


@dataclass(frozen=True, slots=True)
class Option:
    """How one parameter is read from the command line, and what the help says of it."""

    read: Callable[[str], Parameter]
    help: str


PRESETS = ("max_quality", "web", "game", "mobile", "low_poly", "shopify", "google", "amazon", "ar_ios")

EXPORT = {
    "decimation_target": Option(int, "triangles, 1000-1000000"),
    "texture_size": Option(int, "512, 1024, 2048 or 4096 pixels"),
    "remesh": Option(boolean, "true or false"),
    "remesh_band": Option(float, "width of the remeshing band, voxels"),
    "remesh_project": Option(float, "0-1, back to the surface"),
    "keep_hidden": Option(boolean, "true keeps walls that nobody outside can see"),
    "texture_format": Option(str, "auto, png, jpeg or webp"),
    "max_bytes": Option(int, "the GLB is made smaller until it fits"),
    "dimensions_m": Option(dimensions, "real dimensions, such as height=0.095 or width=0.1,height=0.2,fit=exact"),
    "formats": Option(names, "glb, usdz, meshopt, by commas"),
}

GENERATE = EXPORT | {
    "pipeline_type": Option(str, "512, 1024, 1024_cascade or 1536_cascade"),
    "seed": Option(int, "for the same shape again"),
    **{
        f"{stage}_{name}": Option(read, of + meaning)
        for stage, of in (("ss", "sparse structure"), ("shape_slat", "shape"), ("tex_slat", "texture"))
        for name, read, meaning in (
            ("sampling_steps", int, ": steps, 1-50"),
            ("guidance_strength", float, ": how closely to follow the picture, 0-20"),
            ("guidance_rescale", float, ": guidance rescale, 0-1"),
            ("rescale_t", float, ": time rescale, 1-10"),
        )
    },
    "max_num_tokens": Option(int, "the most tokens a cascade may use"),
    "allow_degrade": Option(boolean, "true: run at the next lower pipeline_type if the GPU's memory is too small"),
    "background": Option(str, "auto, keep or remove"),
}


def add_parameters(parser: argparse.ArgumentParser, options: dict[str, Option]) -> None:
    """Add `--preset` and each parameter, spelled with underscores or hyphens; absent ones stay out of the namespace."""
    group = parser.add_argument_group("parameters", "an explicit one wins over the preset")
    group.add_argument("--preset", metavar="NAME", help=", ".join(PRESETS))
    for name, option in options.items():
        group.add_argument(f"--{name}", type=option.read, default=argparse.SUPPRESS, metavar="X", help=option.help)
        if "_" in name:
            hyphened = f"--{name.replace('_', '-')}"
            group.add_argument(hyphened, dest=name, type=option.read, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def given(args: argparse.Namespace, options: dict[str, Option]) -> dict[str, Any]:
    """The parameters that were given, by name."""
    return {name: value for name, value in vars(args).items() if name in options}
