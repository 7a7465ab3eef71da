"""URLs and forms signed for S3, dated by the store's clock: the machine's may be wrong by more than they last."""

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import quote

from botocore.auth import S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from shared.storage.ports import SignedPost

_TIMESTAMP = "%Y%m%dT%H%M%SZ"
_ALGORITHM = "AWS4-HMAC-SHA256"


class _DatedQueryAuth(S3SigV4QueryAuth):
    """botocore's signer of URLs, told the time."""

    def __init__(self, credentials: ReadOnlyCredentials, region: str, *, expires_s: int, at: datetime) -> None:
        super().__init__(credentials, "s3", region, expires=expires_s)
        self._at = at

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._at.strftime(_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # the stubs leave it out


class S3Signer:
    """Signature V4 of one bucket's URLs and forms."""

    def __init__(
        self, credentials: Callable[[], ReadOnlyCredentials], region: str, now: Callable[[], datetime]
    ) -> None:
        """`credentials` may change from call to call, as an instance role's do."""
        self._credentials = credentials
        self._region = region
        self._now = now

    def get_url(self, url: str, *, expires_s: int, filename: str | None) -> str:
        """Sign an object's URL; the store will say that it is to be saved as `filename`."""
        request = AWSRequest("GET", url)
        if filename:
            request.params = {
                "response-content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
            }
        _DatedQueryAuth(self._credentials(), self._region, expires_s=expires_s, at=self._now()).add_auth(request)
        return str(request.url)

    def post_form(self, url: str, *, bucket: str, key: str, max_bytes: int, expires_s: int) -> SignedPost:
        """Sign a form for a bucket's URL: one key, at most `max_bytes`.

        See "Browser-Based Uploads Using POST (AWS Signature Version 4)" in the S3 API reference.
        """
        now, credentials = self._now(), self._credentials()
        auth = S3SigV4PostAuth(credentials, "s3", self._region)
        request = AWSRequest("POST", url)
        request.context["timestamp"] = now.strftime(_TIMESTAMP)
        fields = {
            "key": key,
            "x-amz-algorithm": _ALGORITHM,
            "x-amz-credential": auth.scope(request),
            "x-amz-date": request.context["timestamp"],
        }
        if credentials.token:
            fields["x-amz-security-token"] = credentials.token
        policy = {
            "expiration": (now + timedelta(seconds=expires_s)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "conditions": [
                {"bucket": bucket},
                ["content-length-range", 0, max_bytes],
                *({name: value} for name, value in fields.items()),
            ],
        }
        encoded = base64.b64encode(json.dumps(policy).encode()).decode()
        return SignedPost(url, fields | {"policy": encoded, "x-amz-signature": auth.signature(encoded, request)})
