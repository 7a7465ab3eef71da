"""The store's clock, and URLs and forms signed by its time: the machine's may be wrong by more than they last."""

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from botocore.auth import S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from shared.storage.ports import SignedPost

SECOND = timedelta(seconds=1)
_TIMESTAMP = "%Y%m%dT%H%M%SZ"
_ALGORITHM = "AWS4-HMAC-SHA256"


class StoreClock:
    """Keeps time by `monotonic`, set by the store: the machine's own date is never read.

    A store dates its answers to the second, at some moment between question and answer. Each answer therefore bounds
    the difference between the two clocks from both sides, and the bounds of many answers close in on it.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """`monotonic` counts seconds from any beginning."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._bounds: tuple[datetime, datetime] | None = None  # the store's time when `monotonic` was 0

    @property
    def is_set(self) -> bool:
        """Whether an answer has set it."""
        return self._bounds is not None

    def learn(self, date: datetime, *, asked_at: float, answered_at: float) -> None:
        """Narrow the bounds by the `Date` of an answer; the other times are by `monotonic`."""
        earliest = date - timedelta(seconds=answered_at)
        latest = date + SECOND - timedelta(seconds=asked_at)
        with self._lock:
            lower, upper = self._bounds or (earliest, latest)
            closer = max(earliest, lower), min(latest, upper)
            # Bounds that cross mean that one of the clocks was set or has drifted: start again.
            self._bounds = closer if closer[0] <= closer[1] else (earliest, latest)

    def now(self) -> datetime:
        """Return the store's time, never ahead of it; exact to a second, and soon to the length of a round trip."""
        if not self._bounds:
            raise AssertionError("the clock was read before an answer set it")
        return (self._bounds[0] + timedelta(seconds=self._monotonic())).astimezone(UTC)


class _DatedQueryAuth(S3SigV4QueryAuth):
    """botocore's signer of URLs, at a given time."""

    def __init__(self, credentials: ReadOnlyCredentials, region: str, *, expires_s: int, at: datetime) -> None:
        super().__init__(credentials, "s3", region, expires=expires_s)
        self._at = at

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._at.strftime(_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # the stubs leave it out


@dataclass(frozen=True, slots=True)
class S3Signer:
    """Signature V4 of one bucket's URLs and forms.

    credentials: may change from call to call, as those of an instance role do.
    """

    credentials: Callable[[], ReadOnlyCredentials]
    region: str
    now: Callable[[], datetime]

    def get_url(self, url: str, *, expires_s: int, filename: str | None) -> str:
        """Sign an object's URL; the store names it `filename` in the response."""
        request = AWSRequest("GET", url)
        if filename:
            request.params = {
                "response-content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
            }
        _DatedQueryAuth(self.credentials(), self.region, expires_s=expires_s, at=self.now()).add_auth(request)
        return str(request.url)

    def post_form(self, url: str, *, bucket: str, key: str, max_bytes: int, expires_s: int) -> SignedPost:
        """Sign a form for a bucket's URL: one key, at most `max_bytes`.

        See "Browser-Based Uploads Using POST (AWS Signature Version 4)" in the S3 API reference.
        """
        now, credentials = self.now(), self.credentials()
        auth = S3SigV4PostAuth(credentials, "s3", self.region)
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
