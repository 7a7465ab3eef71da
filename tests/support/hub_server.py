"""A Hub on loopback: as much of Hugging Face's HTTP interface as `huggingface_hub` uses to list and download files."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO = "maker/model"
REVISION = "c0ffee" * 6 + "c0ff"
TOKEN = "hf_good"
SMALL_BYTES = 1_000  # larger files are kept as git LFS keeps them, with a sha256


@dataclass
class HubServer:
    """One repository at one commit.

    Args:
        files: bodies by name.
        altered: how many of the next downloads of a large file come with another last byte.
        cut: how many of the next downloads of a large file end after half of it.
        served: names of the files that were downloaded, a pair of name and `Range` header each.
    """

    files: Mapping[str, bytes]
    altered: int = 0
    cut: int = 0
    served: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def running(self) -> Iterator["HubServer"]:
        """Serve on a free port."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def tree(self) -> list[dict[str, object]]:
        """The files as `/api/models/<repo>/tree/<revision>` lists them."""
        return [self._entry(name, body) for name, body in self.files.items()]

    def _entry(self, name: str, body: bytes) -> dict[str, object]:
        git_sha1 = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(body), "oid": git_sha1}
        if len(body) > SMALL_BYTES:
            sha256 = hashlib.sha256(body).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(body), "pointerSize": 134}
        return entry


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}
            self._send(403, gated, b"", with_body=with_body)
        elif path == f"/api/models/{REPO}/auth-check":
            self._send(200, {}, b"OK", with_body=with_body)
        elif path == f"/api/models/{REPO}/tree/{REVISION}":
            self._send(200, {}, json.dumps(self.hub.tree()).encode(), with_body=with_body)
        elif (name := path.removeprefix(f"/{REPO}/resolve/{REVISION}/")) in self.hub.files:
            self._send_file(name, with_body=with_body)
        else:
            self._send(404, {"X-Error-Code": "EntryNotFound"}, b"", with_body=with_body)

    def _send_file(self, name: str, *, with_body: bool) -> None:
        body = self.hub.files[name]
        is_large = len(body) > SMALL_BYTES
        etag = hashlib.sha256(body).hexdigest() if is_large else hashlib.md5(body, usedforsecurity=False).hexdigest()
        headers = {"X-Repo-Commit": REVISION, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if not with_body:
            self._send(200, headers, body, with_body=False)
            return
        wanted = self.headers.get("Range", "")
        self.hub.served.append((name, wanted))
        if is_large and self.hub.altered > 0:
            self.hub.altered -= 1
            body = body[:-1] + bytes([body[-1] ^ 1])
        if part := re.fullmatch(r"bytes=(\d+)-", wanted):
            first = int(part[1])
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            self._send(206, headers, body[first:], with_body=True)
        elif is_large and self.hub.cut > 0:
            self.hub.cut -= 1
            self._send(200, headers, body, with_body=True, sent_bytes=len(body) // 2)
            self.close_connection = True
        else:
            self._send(200, headers, body, with_body=True)

    def _send(
        self, status: int, headers: Mapping[str, str], body: bytes, *, with_body: bool, sent_bytes: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body[:sent_bytes])
