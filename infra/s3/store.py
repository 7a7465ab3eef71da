"""The object store in an S3 bucket, of AWS or of a compatible store."""

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from infra.s3.capabilities import NOTE, Capabilities, Probe
from infra.s3.client import credentials_of, new_client, new_session, timestamp, translated
from infra.s3.signing import S3Signer, StoreClock
from infra.settings.service import S3Options
from shared.errors import ObjectNotFound, PreconditionFailed, StoreRefused, StoreUnavailable
from shared.storage.keys import checked, checked_prefix
from shared.storage.ports import Entry, Fetched, SignedPost

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import GetObjectRequestTypeDef

T = TypeVar("T")
CHUNK_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<size>\d+)")


class S3Store:
    """Call `probe` first: until it sets `capabilities`, conditions are sent as to AWS and no body is verified.

    The client library tries every call once. What may be repeated without harm (reads, lists, copies, deletes,
    unconditional writes) is repeated here, with jitter; conditional writes never are.
    """

    def __init__(
        self,
        options: S3Options,
        *,
        pause: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pause` waits between tries; `monotonic` counts seconds."""
        self._options = options
        self._bucket = options.bucket
        self._pause = pause
        self._monotonic = monotonic
        self._clock = StoreClock(monotonic)
        self.capabilities = Capabilities()
        session = new_session(options)
        self._client = new_client(session, options, Config(signature_version="s3v4"))
        self._client.meta.events.register("before-call.s3", self._record_request)
        self._client.meta.events.register("after-call.s3", self._record_answer)
        self._addresses = new_client(session, options, Config(signature_version=UNSIGNED))
        self._signer = S3Signer(lambda: credentials_of(session), region=self._client.meta.region_name, now=self.now)

    # --- the clock

    def now(self) -> datetime:
        """Return the store's clock, right to a second; ask the store if no response has set it yet."""
        if not self._clock.is_set:
            self._retried(self._bucket, lambda: self._client.head_bucket(Bucket=self._bucket))
        return self._clock.now()

    def _record_request(self, context: dict[str, Any], **_: object) -> None:
        context["asked_at"] = self._monotonic()

    def _record_answer(self, http_response: Any, context: dict[str, Any], **_: object) -> None:
        if date := http_response.headers.get("Date"):
            self._clock.learn(timestamp(date), asked_at=context["asked_at"], answered_at=self._monotonic())

    # --- reading

    def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
        """Read an object, or a part of it; a body that arrived damaged or cut short is requested again."""
        checked(key)
        if length == 0:
            return self._retried(key, lambda: self._head(key))
        return self._retried(key, lambda: self._get(key, first_byte, length))

    def _get(self, key: str, first_byte: int, length: int | None) -> Fetched:
        last_byte = "" if length is None else first_byte + length - 1
        whole = first_byte == 0 and length is None
        part: GetObjectRequestTypeDef = {"Bucket": self._bucket, "Key": key}
        if not whole:
            part["Range"] = f"bytes={first_byte}-{last_byte}"
        try:
            answer = self._client.get_object(**part)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 416:  # the object ends before the range begins
                return self._head(key)
            raise
        body, etag = self._read(key, answer["Body"], answer["ContentLength"]), answer["ETag"].strip('"')
        size_bytes = len(body)  # the client library has checked it against Content-Length
        if not whole:
            size_bytes = _size_of_object(answer.get("ContentRange", ""), first_byte, body)
        elif self.capabilities.etag_is_md5 and not _verifies(etag, body):
            raise StoreUnavailable(f"{key}: the body arrived damaged")
        return Fetched(body, etag, size_bytes, answer["LastModified"], _date(answer))

    def _read(self, key: str, stream: StreamingBody, size_bytes: int) -> bytes:
        deadline = self._monotonic() + self._options.deadline_s + size_bytes / self._options.slowest_bytes_per_s
        chunks = []
        with closing(stream):
            for chunk in stream.iter_chunks(CHUNK_BYTES):
                chunks.append(chunk)
                if self._monotonic() > deadline:
                    raise StoreUnavailable(f"{key}: the body arrived too slowly")
        return b"".join(chunks)

    def _head(self, key: str) -> Fetched:
        answer = self._client.head_object(Bucket=self._bucket, Key=key)
        return Fetched(b"", answer["ETag"].strip('"'), answer["ContentLength"], answer["LastModified"], _date(answer))

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """Yield objects in the order of their keys, a thousand for each request."""
        checked_prefix(prefix)
        return self._listed(prefix, after)

    def _listed(self, prefix: str, after: str) -> Iterator[Entry]:
        is_truncated = True
        while is_truncated:
            request = partial(self._client.list_objects_v2, Bucket=self._bucket, Prefix=prefix, StartAfter=after)
            page = self._retried(prefix, request)
            for item in page.get("Contents", []):
                after = item["Key"]
                yield Entry(after, item["Size"], item["LastModified"])
            is_truncated = page["IsTruncated"]

    # --- writing

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        content_type: str = "application/octet-stream",
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Write an object whole; a file-like body must be able to seek."""
        start = 0 if isinstance(body, bytes) else body.tell()
        conditions: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        if if_match is not None:
            conditions["IfMatch"] = self._condition(if_match)

        def write() -> str:
            if not isinstance(body, bytes):
                body.seek(start)
            written = self._client.put_object(
                Bucket=self._bucket, Key=checked(key), Body=body, ContentType=content_type, **conditions
            )
            return written["ETag"].strip('"')

        if not conditions:
            return self._retried(key, write)
        try:
            with translated(key):
                return write()
        except ObjectNotFound as error:  # what AWS says to If-Match for a key that is gone
            raise PreconditionFailed(str(error)) from error

    def group_commit(self) -> AbstractContextManager[None]:
        """Do nothing: each write is durable with its answer."""
        return nullcontext()

    def copy(self, source: str, target: str, *, if_match: str) -> str:
        """Copy inside the store; where it ignores the condition, delete a copy of another version again."""
        answer = self._retried(
            source,
            lambda: self._client.copy_object(
                Bucket=self._bucket,
                Key=checked(target),
                CopySource={"Bucket": self._bucket, "Key": checked(source)},
                CopySourceIfMatch=self._condition(if_match),
            ),
        )
        copied = answer["CopyObjectResult"]["ETag"].strip('"')
        if not self.capabilities.keeps_copy_condition and copied != if_match:
            self.delete(target)
            raise PreconditionFailed(f"{source} has changed")
        return copied

    def delete(self, key: str) -> None:
        with suppress(ObjectNotFound):
            self._retried(key, lambda: self._client.delete_object(Bucket=self._bucket, Key=checked(key)))

    def _condition(self, etag: str) -> str:
        return f'"{etag}"' if self.capabilities.quotes_etags else etag

    def _retried(self, key: str, call: Callable[[], T]) -> T:
        """Call until there is a usable answer, `tries` times at most and never beginning after the deadline."""
        deadline = self._monotonic() + self._options.deadline_s
        for attempt in range(1, self._options.tries + 1):
            try:
                with translated(key):
                    return call()
            except StoreUnavailable:
                if attempt == self._options.tries or self._monotonic() > deadline:
                    raise
                self._pause(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")

    # --- signing

    def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
        url = self._address("get_object", Key=checked(key))
        return self._signer.get_url(url, expires_s=expires_s, filename=filename)

    def sign_post(self, key: str, *, max_bytes: int, expires_s: int) -> SignedPost:
        """Sign a form of the store. Raises StoreRefused where the store takes none (`S3Options.signs_forms`)."""
        if not self._options.signs_forms:
            raise StoreRefused("this store takes no signed forms")
        url, bucket = self._address("head_bucket"), self._bucket
        return self._signer.post_form(url, bucket=bucket, key=checked(key), max_bytes=max_bytes, expires_s=expires_s)

    def _address(self, operation: str, **params: str) -> str:
        """Return the plain URL of an operation, as the endpoint and the addressing style require."""
        return self._addresses.generate_presigned_url(operation, Params={"Bucket": self._bucket, **params})

    # --- the start

    def probe(self, *, valid_s: float = 0.0) -> None:
        """Measure what this store supports. Call once, at the start.

        valid_s: a note of the last probe that is at most so old replaces the probe; 0: neither read nor write a note.

        Raises:
            StoreRefused: it does not keep its conditions, or refuses access; the message says which.
            StoreUnavailable: it did not answer.
        """
        wait = partial(self._pause, self._options.key_interval_s)
        try:
            if valid_s and (noted := self._noted(valid_s)):
                self.capabilities = noted
                return
            self.capabilities = self._retried(self._bucket, lambda: Probe(self._client, self._bucket, wait).run())
        except (ObjectNotFound, StoreRefused) as error:
            raise StoreRefused(f"cannot serve from bucket {self._bucket}: {error}") from error
        if valid_s:
            self.put(NOTE, self.capabilities.note())

    def _noted(self, valid_s: float) -> Capabilities | None:
        try:
            note = self.get(NOTE)
        except ObjectNotFound:
            return None
        is_fresh = (self.now() - note.modified_at).total_seconds() < valid_s
        return Capabilities.of_note(note.body) if is_fresh else None


def _date(answer: Any) -> datetime:
    return timestamp(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def _verifies(etag: str, body: bytes) -> bool:
    """Return whether an ETag is the MD5 of the body; the ETag of a multipart upload has a dash and is not checked."""
    return "-" in etag or etag == hashlib.md5(body, usedforsecurity=False).hexdigest()


def _size_of_object(content_range: str, first_byte: int, body: bytes) -> int:
    """Return the size of the whole object, if the response has the range that was requested."""
    part = _CONTENT_RANGE.fullmatch(content_range)
    if not part or int(part["first"]) != first_byte or int(part["last"]) + 1 != first_byte + len(body):
        raise StoreUnavailable(f"{len(body)} bytes came as the range {content_range!r}")
    return int(part["size"])
