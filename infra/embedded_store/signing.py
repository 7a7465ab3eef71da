"""Signed URLs and forms of the embedded store: who holds one may read or write one object until it expires."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

from shared.storage.ports import SignedPost

FILES_PATH = "/v1/files"


class UrlSigner:
    """Signs with HMAC-SHA256 over method, key, expiry, size limit and file name."""

    def __init__(self, secret: bytes, base_url: str) -> None:
        """`base_url` is where the gateway answers, without a slash at its end; empty for URLs relative to it."""
        if not secret:
            raise ValueError("signed URLs need a secret")
        self._secret = secret
        self._url = base_url.rstrip("/") + FILES_PATH

    def get_url(self, key: str, *, expires_at: int, filename: str | None) -> str:
        """A URL that reads `key` until `expires_at`, seconds since 1970."""
        query = {"expires": str(expires_at)} | ({"filename": filename} if filename else {})
        return f"{self._url}/{key}?{urlencode(query | {'signature': self._get_signature(key, query)})}"

    def post_form(self, key: str, *, max_bytes: int, expires_at: int) -> SignedPost:
        """A form that writes `key` until `expires_at`, seconds since 1970."""
        fields = {"key": key, "expires": str(expires_at), "max_bytes": str(max_bytes)}
        return SignedPost(self._url, fields | {"signature": self._post_signature(fields)})

    def allows_get(self, key: str, query: Mapping[str, str], *, now: datetime) -> bool:
        """Whether a GET's query carries a signature of ours that has not expired."""
        return self._holds(query, self._get_signature(key, query), now)

    def allows_post(self, fields: Mapping[str, str], *, now: datetime) -> bool:
        """Whether a form carries a signature of ours that has not expired; its other fields are then ours too."""
        return self._holds(fields, self._post_signature(fields), now)

    def _get_signature(self, key: str, query: Mapping[str, str]) -> str:
        return self._signature("GET", key, query.get("expires", ""), "", query.get("filename", ""))

    def _post_signature(self, fields: Mapping[str, str]) -> str:
        return self._signature(
            "POST", fields.get("key", ""), fields.get("expires", ""), fields.get("max_bytes", ""), ""
        )

    def _signature(self, *signed: str) -> str:
        return hmac.new(self._secret, json.dumps(signed).encode(), hashlib.sha256).hexdigest()

    def _holds(self, given: Mapping[str, str], expected: str, now: datetime) -> bool:
        """Only after the signature holds is the expiry a number that we wrote ourselves."""
        return hmac.compare_digest(given.get("signature", "").encode(), expected.encode()) and now.timestamp() < int(
            given["expires"]
        )
