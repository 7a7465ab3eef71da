"""Saves a batch's assets, named by the ids of their rows, and its reports."""

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.errors import TrellisError
from trellis2_modal.resources.batches import BatchHandle
from trellis2_modal.types.batch import Row

AT_ONCE = 8
REPORTS = ("results.csv", "errors.csv")
_ENDINGS = {"model": ".glb", "usdz": ".usdz", "meshopt": ".meshopt.glb", "poster": ".webp"}
_UNSAFE = re.compile(r"[^A-Za-z0-9._ -]+")


def save_results(handle: BatchHandle, folder: Path, *, with_files: bool, failed: Callable[[Exception], Exit]) -> Exit:
    """Save the reports, and the files of every row that has succeeded; those that are there already stay.

    What cannot be saved is told to `failed` and stops nothing else; the first exit code that gives, or DONE.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exits: list[Exit] = []
    taken: set[str] = set()

    def save(row: Row, stem: str) -> None:
        for name, ending in _ENDINGS.items():
            if name in row.artifacts:
                path = folder / f"{stem}{ending}"
                if not _is_there(path, row.artifacts[name].sha256):
                    handle.download(row, name, path)

    if with_files:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="download") as threads:
            saving = [
                threads.submit(save, row, _stem(row, taken)) for row in handle.rows() if row.status == "succeeded"
            ]
            for one in saving:
                try:
                    one.result()
                except (TrellisError, OSError) as error:
                    exits.append(failed(error))
    for report in REPORTS:
        handle.save(report, folder / report)
    return next(iter(exits), Exit.DONE)


def _stem(row: Row, taken: set[str]) -> str:
    """The id as the name of a file that no other row has."""
    stem = _UNSAFE.sub("_", row.custom_id).strip(". ") or "row"
    if stem.lower() in taken:
        stem = f"{stem}_line{row.line}"
    taken.add(stem.lower())
    return stem


def _is_there(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except FileNotFoundError:
        return False
