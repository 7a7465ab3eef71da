"""What a store supports, measured by a probe: S3-compatible stores differ most in how they take conditions."""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from infra.s3.client import translated
from shared.errors import ObjectNotFound, PreconditionFailed, StoreRefused

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

FOLDER = "probe/"
NOTE = "probe/capabilities.json"
_FIRST, _SECOND, _REFUSED = b"first", b"second", b"must not be written"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How a store takes conditions; the defaults are AWS's."""

    # Whether If-Match takes the ETag in its quotes, as HTTP has it.
    quotes_etags: bool = True
    # Whether an ETag is the MD5 of the body, so that it can verify the body of a GET.
    etag_is_md5: bool = False
    # Whether a copy is refused when its source has changed.
    keeps_copy_condition: bool = True

    def note(self) -> bytes:
        """Serialize for other processes, so that they need no probe."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of_note(cls, body: bytes) -> "Capabilities | None":
        """Parse a note; None where another version of this service wrote it."""
        noted = json.loads(body)
        return cls(**noted) if set(noted) == {field.name for field in fields(cls)} else None


class Probe:
    """Writes and deletes one object to measure what the store supports."""

    def __init__(self, client: "S3Client", bucket: str, wait: Callable[[], None]) -> None:
        """`wait` pauses for the time that the store requires between two writes of a key."""
        self._client = client
        self._bucket = bucket
        self._wait = wait
        self._key = f"{FOLDER}{secrets.token_hex(8)}"

    def run(self) -> Capabilities:
        """Create, refuse to create again, change, refuse a stale change, refuse a stale copy.

        Raises:
            StoreRefused: the store does not keep a condition that job records need.
            StoreUnavailable: it did not answer.
        """
        try:
            first = self._write(_FIRST, IfNoneMatch="*")
            if self._is_written(_REFUSED, IfNoneMatch="*"):
                raise StoreRefused("the store overwrites in spite of If-None-Match: *")
            for quotes in (True, False):
                if self._is_written(_SECOND, IfMatch=_etag(first, quotes=quotes)):
                    break
            else:
                raise StoreRefused("the store takes no If-Match, quoted or unquoted")
            if self._is_written(_REFUSED, IfMatch=_etag(first, quotes=quotes)):
                raise StoreRefused("the store overwrites in spite of a stale If-Match")
            is_md5 = first == hashlib.md5(_FIRST, usedforsecurity=False).hexdigest()
            keeps_copy_condition = not self._is_copied(_etag(first, quotes=quotes))
            if not keeps_copy_condition and not is_md5:
                raise StoreRefused("the store copies in spite of a stale If-Match, and its ETags do not show it")
            return Capabilities(quotes, is_md5, keeps_copy_condition)
        finally:
            for key in (self._key, f"{self._key}.copy"):
                with translated(key):
                    self._client.delete_object(Bucket=self._bucket, Key=key)

    def _write(self, body: bytes, **condition: Any) -> str:
        self._wait()
        with translated(self._key):
            written = self._client.put_object(Bucket=self._bucket, Key=self._key, Body=body, **condition)
        return written["ETag"].strip('"')

    def _is_written(self, body: bytes, **condition: Any) -> bool:
        try:
            self._write(body, **condition)
        except (PreconditionFailed, ObjectNotFound):
            return False
        return True

    def _is_copied(self, stale: str) -> bool:
        try:
            with translated(self._key):
                self._client.copy_object(
                    Bucket=self._bucket,
                    Key=f"{self._key}.copy",
                    CopySource={"Bucket": self._bucket, "Key": self._key},
                    CopySourceIfMatch=stale,
                )
        except PreconditionFailed:
            return False
        return True


def _etag(etag: str, *, quotes: bool) -> str:
    return f'"{etag}"' if quotes else etag
