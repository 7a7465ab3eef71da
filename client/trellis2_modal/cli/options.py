"""The parameters of a job as command line options, under TRELLIS.2's own names."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trellis2_modal.resources.jobs import Parameter

Read = Callable[[str], Parameter]


def boolean(text: str) -> bool:
    """`true` or `false`."""
    return one_of("true", "false")(text) == "true"


def one_of(*choices: str) -> Callable[[str], str]:
    """A text that is one of these."""

    def read(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return read


def whole(low: int, high: int) -> Callable[[str], int]:
    """An integer within bounds."""

    def read(text: str) -> int:
        return int(_within(text, int, low, high))

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """A number within bounds."""

    def read(text: str) -> float:
        return _within(text, float, low, high)

    return read


def _within(text: str, read: Callable[[str], float], low: float, high: float) -> float:
    try:
        value = read(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        kind = "a whole number" if read is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r} is not {kind} from {low} to {high}")
    return value


def dimensions(text: str) -> dict[str, str | float]:
    """`width=0.12,height=0.095,fit=exact`: sides in metres, and how to fit them."""
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        return {name.strip(): value if name.strip() == "fit" else float(value) for name, value in parts.items()}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like width=0.12,height=0.095") from None


def names(*choices: str) -> Callable[[str], list[str]]:
    """`glb,usdz`: some of these, by commas; any names at all where there are no choices."""
    return lambda text: [one_of(*(choices or (name.strip(),)))(name.strip()) for name in text.split(",")]


@dataclass(frozen=True, slots=True)
class Option:
    """How one parameter is read from the command line, and what the help says of it.

    choices: all the values there are, where they can be counted: what a shell completes.
    """

    read: Read
    help: str
    choices: tuple[str, ...] = ()


def _choice(help: str, *choices: str) -> Option:
    return Option(one_of(*choices), help, choices)


def _texture_size(text: str) -> int:
    return int(one_of(*_TEXTURE_SIZES)(text))


_TEXTURE_SIZES = ("512", "1024", "2048", "4096")
_YES_OR_NO = ("true", "false")

PRESETS = ("max_quality", "web", "game", "mobile", "low_poly", "shopify", "google", "amazon", "ar_ios")
LANES = ("interactive", "standard", "batch")

EXPORT = {
    "decimation_target": Option(whole(1_000, 1_000_000), "triangles, 1000-1000000"),
    "texture_size": Option(_texture_size, "512, 1024, 2048 or 4096 pixels", _TEXTURE_SIZES),
    "remesh": Option(boolean, "true or false", _YES_OR_NO),
    "remesh_band": Option(number(0.1, 4), "width of the remeshing band, voxels, 0.1-4"),
    "remesh_project": Option(number(0, 1), "0-1, back to the surface"),
    "keep_hidden": Option(boolean, "true keeps walls that nobody outside can see", _YES_OR_NO),
    "texture_format": _choice("auto, png, jpeg or webp", "auto", "png", "jpeg", "webp"),
    "max_bytes": Option(whole(50_000, 1_000_000_000), "the GLB is made smaller until it fits, 50000-1000000000"),
    "dimensions_m": Option(dimensions, "real dimensions, such as height=0.095 or width=0.1,height=0.2,fit=exact"),
    "formats": Option(names("glb", "usdz", "meshopt"), "glb, usdz, meshopt, by commas"),
}

GENERATE = EXPORT | {
    "pipeline_type": _choice("512, 1024, 1024_cascade or 1536_cascade", "512", "1024", "1024_cascade", "1536_cascade"),
    "seed": Option(whole(0, 2**32 - 1), "for the same shape again, 0-4294967295"),
    **{
        f"{stage}_{name}": Option(read, of + meaning)
        for stage, of in (("ss", "sparse structure"), ("shape_slat", "shape"), ("tex_slat", "texture"))
        for name, read, meaning in (
            ("sampling_steps", whole(1, 50), ": steps, 1-50"),
            ("guidance_strength", number(0, 20), ": how closely to follow the picture, 0-20"),
            ("guidance_rescale", number(0, 1), ": guidance rescale, 0-1"),
            ("rescale_t", number(1, 10), ": time rescale, 1-10"),
        )
    },
    "max_num_tokens": Option(whole(1_024, 131_072), "the most tokens a cascade may use, 1024-131072"),
    "allow_degrade": Option(
        boolean, "true: run at the next lower pipeline_type if the GPU's memory is too small", _YES_OR_NO
    ),
    "background": _choice("auto, keep or remove", "auto", "keep", "remove"),
}


def add_parameters(parser: argparse.ArgumentParser, options: dict[str, Option]) -> None:
    """Add `--preset` and each parameter, spelled with underscores or hyphens; absent ones stay out of the namespace."""
    group = parser.add_argument_group("parameters", "an explicit one wins over the preset")
    group.add_argument("--preset", metavar="NAME", choices=PRESETS, help=", ".join(PRESETS))
    for name, option in options.items():
        group.add_argument(f"--{name}", type=option.read, default=argparse.SUPPRESS, metavar="X", help=option.help)
        if "_" in name:
            hyphened = f"--{name.replace('_', '-')}"
            group.add_argument(hyphened, dest=name, type=option.read, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def given(args: argparse.Namespace, options: dict[str, Option]) -> dict[str, Any]:
    """The parameters that were given, by name."""
    return {name: value for name, value in vars(args).items() if name in options}
