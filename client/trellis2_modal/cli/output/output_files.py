"""Where the results of several pictures are written."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from trellis2_modal._image import url_of

_PLACE = re.compile(r"\{(\w*)\}")


class TargetsUnclear(ValueError):
    """The output that was asked for does not fit the pictures."""


def label_of(picture: str) -> str:
    """A picture's file name, for people."""
    if url := url_of(picture):
        return PurePosixPath(unquote(urlsplit(url).path)).name or "picture"
    return Path(picture).name


def targets(pictures: Sequence[str], output: str | None, suffix: str) -> list[Path]:
    """A file for each picture: `output` itself for one, `<output>/<picture's name><suffix>` for several.

    Where `output` is a folder or ends with a slash it is a folder for one, too; without it, the present folder. In
    `output`, `{name}` stands for the picture's name without its ending, `{folder}` for the name of the folder that it
    is in, `{number}` for its place among the pictures, from 1.

    Raises:
        TargetsUnclear: several pictures and one file, two pictures of the same name, or a file that is a picture.
    """
    files = [Path(file) for file in _files(pictures, output, suffix)]
    taken = {os.path.realpath(picture): picture for picture in pictures if os.path.isfile(picture)}  # noqa: PTH113
    written: dict[str, str] = {}
    for picture, file in zip(pictures, files, strict=True):
        where = os.path.realpath(file)
        if where in taken:
            raise TargetsUnclear(f"the picture {taken[where]} would be overwritten: name another folder")
        # There are file systems to which Mug.glb and mug.glb are one file.
        if (other := written.setdefault(where.lower(), picture)) is not picture:
            raise TargetsUnclear(
                f"{other} and {picture} would both be written to {file}: tell them apart with {{number}} or "
                f"{{folder}}, as in {Path(output or '.') / '{number}-{name}'}{suffix}"
            )
    return files


def _files(pictures: Sequence[str], output: str | None, suffix: str) -> list[str]:
    if output is not None and _PLACE.search(output):
        return [_filled(output, picture, number) for number, picture in enumerate(pictures, 1)]
    is_folder = output is None or output.endswith(("/", os.sep)) or Path(output).is_dir()
    if output is not None and not is_folder and len(pictures) == 1:
        return [output]
    if output is not None and not is_folder and Path(output).suffix:
        raise TargetsUnclear(
            f"{len(pictures)} pictures cannot all be written to {output}: name a folder, or {{name}}{suffix}"
        )
    return [str(Path(output or ".") / (_stem(picture) + suffix)) for picture in pictures]


def _filled(pattern: str, picture: str, number: int) -> str:
    """The pattern with its places filled."""
    path = PurePosixPath(unquote(urlsplit(picture).path)) if url_of(picture) else Path(picture).absolute()
    values = {"name": _stem(picture), "folder": path.parent.name, "number": str(number)}

    def value(place: re.Match[str]) -> str:
        if place[1] not in values:
            raise TargetsUnclear(f"{place[0]} is none of {{name}}, {{folder}} and {{number}}")
        return values[place[1]]

    return _PLACE.sub(value, pattern)


def _stem(picture: str) -> str:
    return Path(label_of(picture)).stem
