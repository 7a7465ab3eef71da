"""Which pictures are meant: files, URLs, folders of them, and patterns."""

import os
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from trellis2_modal._image import url_of

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class NoPictures(ValueError):
    """A folder or a pattern that leads to no picture."""


def pictures_of(arguments: Sequence[str]) -> list[str]:
    """Every picture that is meant, each once, in the order of the arguments.

    A file and a URL mean themselves, a folder the pictures directly in it, a pattern (`photos/**/*.png`) whatever fits
    it, for shells that leave it to us.

    Raises:
        NoPictures: a folder holds none, or a pattern fits none.
    """
    found = [picture for argument in arguments for picture in _meant(argument)]
    return list({_identity(picture): picture for picture in reversed(found)}.values())[::-1]


def _meant(argument: str) -> Iterator[str]:
    if url_of(argument):
        yield argument
    elif os.path.isdir(argument):  # noqa: PTH112 - a text goes in and texts come out
        yield from _some(argument, (str(path) for path in Path(argument).iterdir()), "holds no PNG, JPEG or WebP files")
    elif has_magic(argument) and not os.path.exists(argument):  # noqa: PTH110 - likewise
        yield from _some(argument, glob(argument, recursive=True), "fits no PNG, JPEG or WebP file")  # noqa: PTH207
    else:
        yield argument


def _some(argument: str, paths: Iterable[str], lacking: str) -> list[str]:
    pictures = sorted(path for path in paths if path.lower().endswith(ENDINGS) and os.path.isfile(path))  # noqa: PTH113
    if not pictures:
        raise NoPictures(f"{argument} {lacking}")
    return pictures


def _identity(picture: str) -> str:
    return picture if url_of(picture) else os.path.realpath(picture)
