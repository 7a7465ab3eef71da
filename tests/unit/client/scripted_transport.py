"""A service that answers from a script, and the bodies that it answers with."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from trellis2_modal import AsyncClient, Client

Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]
GLB = b"glTF" + bytes(1000)


@dataclass
class Script:
    """Gives its answers in order, one a request; the last one again and again where `forever`."""

    answers: list[Answer]
    forever: bool = False
    requests: list[httpx.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    now_s: float = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers[0] if self.forever and len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def pause(self, seconds: float) -> None:
        """Spend time without spending any."""
        self.pauses.append(seconds)
        self.now_s += seconds

    def clock(self) -> float:
        """Seconds spent."""
        return self.now_s

    @property
    def transport(self) -> httpx.MockTransport:
        """The script as httpx's way out, blocking or not."""
        return httpx.MockTransport(self)

    @property
    def lines(self) -> list[str]:
        """What was asked for, method and URL."""
        return [f"{request.method} {request.url}" for request in self.requests]

    def client(self, **options: Any) -> Client:
        """A client of this service."""
        return Client("https://3d.example.com", transport=self.transport, pause=self.pause, clock=self.clock, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """The same, awaited."""

        async def pause(seconds: float) -> None:
            self.pause(seconds)

        return AsyncClient("https://3d.example.com", transport=self.transport, pause=pause, clock=self.clock, **options)


def job_body(status: str = "queued", **fields: Any) -> dict[str, Any]:
    """A job as the service writes it."""
    return {"id": "job_1", "status": status, "created_at": "2026-01-01T00:00:00Z", "progress": 0.0} | fields


def model(body: bytes = GLB) -> dict[str, Any]:
    """The `artifacts` of a job whose model is `body`."""
    artifact = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "content_type": "model/gltf-binary"}
    return {"model": artifact}


def job(status: str = "queued", code: int = 200, etag: str = '"1"', **fields: Any) -> httpx.Response:
    """An answer with a job."""
    return httpx.Response(code, json=job_body(status, **fields), headers={"ETag": etag})


def problem(
    status: int, code: str = "some_code", headers: Mapping[str, str] | None = None, **fields: Any
) -> httpx.Response:
    """An answer with a problem."""
    body = {"type": f"/docs#{code}", "title": "Title", "status": status, "detail": "It is so.", "code": code}
    typed = {"Content-Type": "application/problem+json", **(headers or {})}
    return httpx.Response(status, json=body | fields, headers=typed)


def located(url: str = "https://bucket.example.net/model.glb?signature=abc") -> httpx.Response:
    """The redirect to where an artifact's bytes are."""
    return httpx.Response(307, headers={"Location": url})


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces; a piece that is an exception is raised."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces
        self.closed = False

    def close(self) -> None:
        """Remember that nobody reads on."""
        self.closed = True

    async def aclose(self) -> None:
        """Likewise."""
        self.closed = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def streamed(*pieces: bytes | Exception, content_type: str = "text/event-stream") -> httpx.Response:
    """An answer whose body comes in pieces."""
    return httpx.Response(200, headers={"Content-Type": content_type}, stream=Body(*pieces))


def rest(first_byte: int, *pieces: bytes | Exception) -> httpx.Response:
    """The answer to a Range request, with what is left from a byte on."""
    return httpx.Response(206, headers={"Content-Range": f"bytes {first_byte}-999/1000"}, stream=Body(*pieces))


def event(event_id: int, status: str, name: str = "progress", **fields: Any) -> bytes:
    """One event as the service writes it."""
    return f"id: {event_id}\nevent: {name}\ndata: {json.dumps(job_body(status, **fields))}\n\n".encode()
