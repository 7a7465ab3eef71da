"""How large and how slow a request may be."""

from dataclasses import dataclass

from starlette.types import Scope

from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.manifest.zip_format import MAX_ZIP_BYTES

UPLOADS_PATH = "/v1/files"  # where a store that the gateway serves itself takes signed forms


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds on request bodies. Sizes in bytes, times in seconds.

    multipart_bytes: largest form with a picture. json_bytes: largest submit as JSON; a picture within base64 grows by
    a third. catalog_bytes: largest batch as JSON, its catalog escaped within. small_bytes: largest other body under
    /v1. upload_bytes: largest signed form, which says itself what it may hold. body_s, upload_s: a whole body, or a
    signed form, must have arrived by then. linger_s: how long a client that is cut off may go on sending, so that it
    reads why.
    """

    multipart_bytes: int = MAX_IMAGE_BYTES + 1_000_000
    json_bytes: int = MAX_IMAGE_BYTES * 4 // 3 + 1_000_000
    catalog_bytes: int = 4_500_000
    small_bytes: int = 64_000
    upload_bytes: int = MAX_ZIP_BYTES + 1_000_000
    body_s: float = 120.0
    upload_s: float = 3_600.0
    linger_s: float = 1.0

    def max_bytes(self, scope: Scope) -> int:
        """The largest body that a request may have."""
        form = next((value for name, value in scope["headers"] if name == b"content-type"), b"").startswith(
            b"multipart/"
        )
        if scope["path"] == "/v1/jobs":
            return self.multipart_bytes if form else self.json_bytes
        if scope["path"] == UPLOADS_PATH:
            return self.upload_bytes
        if scope["path"] == "/v1/batches" and not form:
            return self.catalog_bytes
        return self.multipart_bytes if form and not scope["path"].startswith("/v1/jobs/") else self.small_bytes

    def max_seconds(self, scope: Scope) -> float:
        """How long a request's body may take."""
        return self.upload_s if scope["path"] == UPLOADS_PATH else self.body_s
