"""A file that is still arriving, beside the one that it is to become."""

import hashlib
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_READ_BYTES = 1_000_000


class Partial:
    """Bytes that have come so far, under a name that no other process writes to. Use it in a `with`.

    What is left at the end is removed, or with `keep` put under a name of its sha256's, where the next one finds it.
    """

    def __init__(self, target: Path, sha256: str, *, keep: bool) -> None:
        self._target = target
        self._sha256 = sha256
        self._kept = target.with_name(f".{target.name}.{sha256[:16]}.part") if keep else None
        self._path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        if self._kept:
            with suppress(FileNotFoundError):
                self._kept.replace(self._path)  # whoever renames it has it; nobody else finds it there now
        self._file = self._path.open("a+b")
        self._read_what_is_there()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        finally:  # on a full disk closing fails, too, and what has come must go all the same
            if self._kept and self.size and self._path.exists():
                self._path.replace(self._kept)
            self._path.unlink(missing_ok=True)

    @property
    def is_right(self) -> bool:
        """Whether the bytes are those that the sha256 stands for."""
        return self._digest.hexdigest() == self._sha256

    def add(self, chunk: bytes) -> None:
        """Write what comes next."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget what has come."""
        self._file.truncate(0)
        self._digest, self.size = hashlib.sha256(), 0

    def become_target(self) -> None:
        """Take the target's name, whatever was there."""
        self._file.close()
        self._path.replace(self._target)

    def _read_what_is_there(self) -> None:
        self._digest, self.size = hashlib.sha256(), 0
        self._file.seek(0)
        while chunk := self._file.read(_READ_BYTES):
            self._digest.update(chunk)
            self.size += len(chunk)
