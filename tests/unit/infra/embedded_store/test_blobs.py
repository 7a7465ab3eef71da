"""Files of large bodies that a process may have left when it died."""

import os
from pathlib import Path

import pytest

from infra.embedded_store.blobs import INLINE_BYTES, StagedFile, remove_if_left

BODY = bytes(INLINE_BYTES + 1)


@pytest.mark.parametrize("is_needed", [True, False])
def test_a_file_is_removed_only_if_no_row_needs_it(tmp_path: Path, is_needed: bool) -> None:
    """That is asked when no process can publish it any more: its row may have come since the rows were listed."""
    path = tmp_path / "left"
    path.write_bytes(BODY)
    remove_if_left(path, lambda: is_needed)
    assert path.exists() == is_needed


def test_a_file_that_is_being_written_is_not_removed(tmp_path: Path) -> None:
    """Its row is still to come. One that is gone by now is no error."""
    staged = StagedFile(tmp_path, os.fsync)
    staged.write(BODY)
    [path] = tmp_path.iterdir()
    remove_if_left(path, lambda: False)
    assert path.read_bytes() == BODY
    staged.close()
    remove_if_left(path, lambda: False)
    assert not path.exists()
