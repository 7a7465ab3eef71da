"""Finds the image files that a command is given, and names the files that its results are saved to."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from trellis2_modal._submission import IMAGE_SUFFIXES, image_url
from trellis2_modal.cli.parsers import WrongUsage

SUFFIXES = {"model": ".glb", "usdz": ".usdz", "meshopt": ".meshopt.glb", "poster": ".webp"}  # by artifact
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


def find_images(arguments: Sequence[str]) -> list[str]:
    """List every image once, in the order of the arguments.

    An argument is a file or a URL, a folder (its own images, not those of subfolders), or a pattern such as
    `photos/**/*.png`, which some shells do not expand.

    Raises:
        WrongUsage: a folder contains no image, or a pattern matches none.
    """
    images = [image for argument in arguments for image in _expand(argument)]
    return list({_identity(image): image for image in reversed(images)}.values())[::-1]


def _expand(argument: str) -> Iterator[str]:
    if image_url(argument):
        yield argument
    elif os.path.isdir(argument):  # noqa: PTH112 - paths stay strings, as the user wrote them
        paths = (str(path) for path in Path(argument).iterdir())
        yield from _keep_images(argument, paths, "contains no PNG, JPEG or WebP files")
    elif has_magic(argument) and not os.path.exists(argument):  # noqa: PTH110 - likewise
        matches = glob(argument, recursive=True)  # noqa: PTH207 - likewise
        yield from _keep_images(argument, matches, "matches no PNG, JPEG or WebP file")
    else:
        yield argument


def _keep_images(argument: str, paths: Iterable[str], problem: str) -> list[str]:
    images = sorted(path for path in paths if path.lower().endswith(IMAGE_SUFFIXES) and os.path.isfile(path))  # noqa: PTH113
    if not images:
        raise WrongUsage(f"{argument} {problem}")
    return images


def _identity(image: str) -> str:
    return image if image_url(image) else os.path.realpath(image)


def label_of(image: str) -> str:
    """Return an image's file name, for messages."""
    if url := image_url(image):
        return PurePosixPath(unquote(urlsplit(url).path)).name or "image"
    return Path(image).name


def target_files(images: Sequence[str], output: str | None, suffix: str) -> list[Path]:
    """Name a file for each image: `output` itself for one, `<output>/<image's name><suffix>` for several.

    If `output` exists as a folder or ends with a slash, it is a folder also for one image; None is the current folder.
    In `output`, `{name}` stands for the image's name without suffix, `{folder}` for the name of its folder, `{number}`
    for its number among the images, from 1.

    Raises:
        WrongUsage: several images and one file, two images with the same name, or a target that is an image.
    """
    targets = [Path(file) for file in _name_targets(images, output, suffix)]
    sources = {os.path.realpath(image): image for image in images if os.path.isfile(image)}  # noqa: PTH113
    written: dict[str, str] = {}
    for image, target in zip(images, targets, strict=True):
        path = os.path.realpath(target)
        if path in sources:
            raise WrongUsage(f"the image {sources[path]} would be overwritten: choose another folder")
        # On a case-insensitive file system Mug.glb and mug.glb are the same file.
        if (first := written.setdefault(path.lower(), image)) is not image:
            raise WrongUsage(
                f"{first} and {image} would both be written to {target}: distinguish them with {{number}} or "
                f"{{folder}}, as in {Path(output or '.') / '{number}-{name}'}{suffix}"
            )
    return targets


def _name_targets(images: Sequence[str], output: str | None, suffix: str) -> list[str]:
    if output is not None and _PLACEHOLDER.search(output):
        return [_fill_pattern(output, image, number) for number, image in enumerate(images, 1)]
    is_folder = output is None or output.endswith(("/", os.sep)) or Path(output).is_dir()
    if output is not None and not is_folder and len(images) == 1:
        return [output]
    if output is not None and not is_folder and Path(output).suffix:
        raise WrongUsage(f"{len(images)} images cannot all be written to {output}: name a folder, or {{name}}{suffix}")
    return [str(Path(output or ".") / (_stem(image) + suffix)) for image in images]


def _fill_pattern(pattern: str, image: str, number: int) -> str:
    path = PurePosixPath(unquote(urlsplit(image).path)) if image_url(image) else Path(image).absolute()
    values = {"name": _stem(image), "folder": path.parent.name, "number": str(number)}

    def fill(placeholder: re.Match[str]) -> str:
        if placeholder[1] not in values:
            raise WrongUsage(f"{placeholder[0]} is not {{name}}, {{folder}} or {{number}}")
        return values[placeholder[1]]

    return _PLACEHOLDER.sub(fill, pattern)


def _stem(image: str) -> str:
    return Path(label_of(image)).stem
