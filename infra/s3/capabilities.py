"""What a store holds to, found out by trying: S3-alikes differ most in how they take conditions."""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from infra.s3.errors import translated
from shared.errors import ObjectNotFound, PreconditionFailed, StoreRefused

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

FOLDER = "probe/"
NOTE = "probe/manners.json"
_FIRST, _SECOND, _REFUSED = b"first", b"second", b"must not be written"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How a store is to be spoken to; the defaults are AWS's."""

    # Whether If-Match takes the ETag in its quotes, as HTTP has it.
    quotes_etags: bool = True
    # Whether an ETag is the MD5 of the body, so that it can vouch for what a GET brings.
    etag_is_md5: bool = False
    # Whether a copy is refused when its source has changed.
    keeps_copy_condition: bool = True

    def note(self) -> bytes:
        """For others who come soon, so that they need not try for themselves."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of_note(cls, body: bytes) -> "Capabilities | None":
        """None where it was written by another version of this service."""
        noted = json.loads(body)
        return cls(**noted) if set(noted) == {field.name for field in fields(cls)} else None


class Probe:
    """Writes, reads and removes one object of its own."""

    def __init__(self, client: "S3Client", bucket: str, wait: Callable[[], None]) -> None:
        """`wait` lets pass the time that the store wants between two writes of a key."""
        self._client = client
        self._bucket = bucket
        self._wait = wait
        self._key = f"{FOLDER}{secrets.token_hex(8)}"

    def run(self) -> Capabilities:
        """Create, refuse to create again, change, refuse a stale change, refuse a stale copy.

        Raises:
            StoreRefused: the store does not keep a condition that the ledger stands on.
            StoreUnavailable: it did not answer.
        """
        try:
            first = self._write(_FIRST, IfNoneMatch="*")
            if self._is_written(_REFUSED, IfNoneMatch="*"):
                raise StoreRefused("the store overwrites in spite of If-None-Match: *")
            quotes = self._takes_quotes(first)
            if self._is_written(_REFUSED, IfMatch=_etag(first, quotes=quotes)):
                raise StoreRefused("the store overwrites in spite of a stale If-Match")
            is_md5 = first == hashlib.md5(_FIRST, usedforsecurity=False).hexdigest()
            keeps_copy_condition = not self._is_copied(_etag(first, quotes=quotes))
            if not keeps_copy_condition and not is_md5:
                raise StoreRefused("the store copies in spite of a stale If-Match, and its ETags tell nothing after")
            return Capabilities(quotes, is_md5, keeps_copy_condition)
        finally:
            for key in (self._key, f"{self._key}.copy"):
                with translated(key):
                    self._client.delete_object(Bucket=self._bucket, Key=key)

    def _takes_quotes(self, first: str) -> bool:
        for quotes in (True, False):
            if self._is_written(_SECOND, IfMatch=_etag(first, quotes=quotes)):
                return quotes
        raise StoreRefused("the store takes no If-Match, quoted or unquoted")

    def _write(self, body: bytes, **condition: Any) -> str:
        self._wait()
        with translated(self._key):
            return self._client.put_object(Bucket=self._bucket, Key=self._key, Body=body, **condition)["ETag"].strip(
                '"'
            )

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
