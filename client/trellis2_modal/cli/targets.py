"""Where the results of several pictures are written."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from trellis2_modal.picture import url_of


class TargetsUnclear(ValueError):
    """The output that was asked for does not fit the pictures."""


def label_of(picture: str) -> str:
    """A picture's file name, for people."""
    if url := url_of(picture):
        return PurePosixPath(unquote(urlsplit(url).path)).name or "picture"
    return Path(picture).name


def targets(pictures: Sequence[str], output: str | None, suffix: str) -> list[Path]:
    """A file for each picture: `output` itself for one, `<output>/<picture's name><suffix>` for several.

    Where `output` is a folder or ends with a slash it is a folder for one, too; without it, the present folder.

    Raises:
        TargetsUnclear: several pictures and one file, or two pictures of the same name.
    """
    is_folder = output is None or output.endswith("/") or Path(output).is_dir()
    if output is not None and not is_folder and len(pictures) == 1:
        return [Path(output)]
    if output is not None and not is_folder and Path(output).suffix:
        raise TargetsUnclear(f"{len(pictures)} pictures cannot all be written to {output}: name a folder")
    files = [Path(output or ".") / (Path(label_of(picture)).stem + suffix) for picture in pictures]
    if twice := next((file for file in files if files.count(file) > 1), None):
        raise TargetsUnclear(f"two pictures would be written to {twice}")
    return files
