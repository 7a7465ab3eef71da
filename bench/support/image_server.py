"""Serve product images on loopback, over TLS: `python -m bench.support.image_server PORT FOLDER`.

FOLDER holds `tls.pem` (key and certificate) and `image.png`, the response to every path without `gone`.
"""

import sys
from pathlib import Path
from typing import Any

import uvicorn


class ImageHost:
    """An ASGI app that answers whole files and single ranges."""

    def __init__(self, image: bytes) -> None:
        self._image = image

    async def __call__(self, scope: dict[str, Any], _: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        status, body, fields = 200, self._image, [(b"etag", b'"%s"' % scope["path"].encode())]
        if b"gone" in scope["path"].encode():
            status, body = 404, b""
        elif headers.get(b"range", b"").startswith(b"bytes="):
            first, _, last = headers[b"range"].removeprefix(b"bytes=").partition(b"-")
            status, body = 206, self._image[int(first) : int(last) + 1]
            fields.append((b"content-range", b"bytes %s-%d/%d" % (first, int(first) + len(body) - 1, len(self._image))))
        fields.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    uvicorn.run(
        ImageHost((folder / "image.png").read_bytes()),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        ssl_certfile=folder / "tls.pem",
        log_level="error",
    )
