"""The parameters of a job as command line options, with TRELLIS.2's own names."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trellis2_modal.resources.jobs import Parameter


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a parser that accepts one of these texts."""

    def parse(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return parse


def integer(low: int, high: int) -> Callable[[str], int]:
    """Make a parser of integers from `low` to `high`."""
    return lambda text: int(_parse_within(text, int, low, high))


def number(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of numbers from `low` to `high`."""
    return lambda text: _parse_within(text, float, low, high)


def _parse_within(text: str, parse: Callable[[str], float], low: float, high: float) -> float:
    try:
        value = parse(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        kind = "a whole number" if parse is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r} is not {kind} from {low} to {high}")
    return value


def dimensions(text: str) -> dict[str, str | float]:
    """Parse `width=0.12,height=0.095,fit=exact`: lengths in metres, and how to fit them."""
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        return {name.strip(): value if name.strip() == "fit" else float(value) for name, value in parts.items()}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} does not look like width=0.12,height=0.095") from None


def name_list(*choices: str) -> Callable[[str], list[str]]:
    """Make a parser of names separated by commas (`glb,usdz`); without choices it accepts any name."""
    return lambda text: [one_of(*(choices or (name.strip(),)))(name.strip()) for name in text.split(",")]


@dataclass(frozen=True, slots=True)
class Option:
    """The parser and the help of one parameter. choices: all its values if it has few, for shell completion."""

    parse: Callable[[str], Parameter]
    help: str
    choices: tuple[str, ...] = ()


def _choice_option(help: str, *choices: str, convert: Callable[[str], Parameter] = str) -> Option:
    check = one_of(*choices)
    return Option(lambda text: convert(check(text)), help, choices)


def _boolean_option(help: str) -> Option:
    return _choice_option(help, "true", "false", convert=lambda text: text == "true")


PRESETS = ("max_quality", "web", "game", "mobile", "low_poly", "shopify", "google", "amazon", "ar_ios")
LANES = ("interactive", "standard", "batch")

EXPORT = {
    "decimation_target": Option(integer(1_000, 1_000_000), "triangles, 1000-1000000"),
    "texture_size": _choice_option("512, 1024, 2048 or 4096 pixels", "512", "1024", "2048", "4096", convert=int),
    "remesh": _boolean_option("true or false"),
    "remesh_band": Option(number(0.1, 4), "width of the remeshing band in voxels, 0.1-4"),
    "remesh_project": Option(number(0, 1), "how far vertices are moved back to the surface, 0-1"),
    "keep_hidden": _boolean_option("true keeps surfaces that cannot be seen from outside"),
    "texture_format": _choice_option("auto, png, jpeg or webp", "auto", "png", "jpeg", "webp"),
    "max_bytes": Option(
        integer(50_000, 1_000_000_000), "largest size of the GLB, which is reduced to fit, 50000-1000000000"
    ),
    "dimensions_m": Option(dimensions, "real dimensions, such as height=0.095 or width=0.1,height=0.2,fit=exact"),
    "formats": Option(name_list("glb", "usdz", "meshopt"), "glb, usdz, meshopt, separated by commas"),
}

GENERATE = EXPORT | {
    "pipeline_type": _choice_option(
        "512, 1024, 1024_cascade or 1536_cascade", "512", "1024", "1024_cascade", "1536_cascade"
    ),
    "seed": Option(integer(0, 2**32 - 1), "for reproducible results, 0-4294967295"),
    **{
        f"{stage}_{name}": Option(parse, label + meaning)
        for stage, label in (("ss", "sparse structure"), ("shape_slat", "shape"), ("tex_slat", "texture"))
        for name, parse, meaning in (
            ("sampling_steps", integer(1, 50), ": steps, 1-50"),
            ("guidance_strength", number(0, 20), ": how closely to follow the image, 0-20"),
            ("guidance_rescale", number(0, 1), ": guidance rescale, 0-1"),
            ("rescale_t", number(1, 10), ": time rescale, 1-10"),
        )
    },
    "max_num_tokens": Option(integer(1_024, 131_072), "largest number of tokens of a cascade, 1024-131072"),
    "allow_degrade": _boolean_option("true: use the next lower pipeline_type if the GPU's memory is too small"),
    "background": _choice_option("auto, keep or remove", "auto", "keep", "remove"),
}


def add_parameters(parser: argparse.ArgumentParser, options: dict[str, Option]) -> None:
    """Add `--preset` and each parameter, spelled with underscores or hyphens; omitted ones are not in the namespace."""
    group = parser.add_argument_group("parameters", "these override the preset")
    group.add_argument("--preset", metavar="NAME", choices=PRESETS, help=", ".join(PRESETS))
    for name, option in options.items():
        group.add_argument(f"--{name}", type=option.parse, default=argparse.SUPPRESS, metavar="X", help=option.help)
        if "_" in name:
            hyphenated = f"--{name.replace('_', '-')}"
            group.add_argument(
                hyphenated, dest=name, type=option.parse, default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )


def given_parameters(args: argparse.Namespace, options: dict[str, Option]) -> dict[str, Any]:
    """Select the parameters that the user set, by name."""
    return {name: value for name, value in vars(args).items() if name in options}
