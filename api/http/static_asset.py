"""Bodies that never change while the process lives: compressed once, known by their hash."""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cached_property

from fastapi import Request, Response


class StaticAsset:
    """One body with its ETag, and gzipped for whoever takes that."""

    def __init__(self, content: bytes, media_type: str, *, is_text: bool = True) -> None:
        """`is_text`: whether compressing is worth it."""
        self.content = content
        self.media_type = media_type
        self._is_text = is_text

    @cached_property
    def etag(self) -> str:
        """A strong one, by the content."""
        return f'"{hashlib.blake2b(self.content, digest_size=12).hexdigest()}"'

    @cached_property
    def _gzipped(self) -> bytes:
        return gzip.compress(self.content, mtime=0)

    def response(self, request: Request, headers: Mapping[str, str]) -> Response:
        """200 with the body, or 304 where the client has it."""
        headers = {**headers, "ETag": self.etag, "Vary": "Accept-Encoding"}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if self._is_text and "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self._gzipped, headers={**headers, "Content-Encoding": "gzip"}, media_type=self.media_type)
        return Response(self.content, headers=headers, media_type=self.media_type)
