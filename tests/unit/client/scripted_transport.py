"""A service that responds from a script, and the bodies of its responses."""

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
    """Returns its answers in order, one for each request; with `forever` repeats the last one."""

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
        """Advance the clock without waiting."""
        self.pauses.append(seconds)
        self.now_s += seconds

    def clock(self) -> float:
        """The seconds passed to `pause`."""
        return self.now_s

    @property
    def transport(self) -> httpx.MockTransport:
        """The script as a transport of httpx, blocking or async."""
        return httpx.MockTransport(self)

    @property
    def lines(self) -> list[str]:
        """The requests, as method and URL."""
        return [f"{request.method} {request.url}" for request in self.requests]

    def client(self, **options: Any) -> Client:
        """Make a client of this service."""
        return Client("https://3d.example.com", transport=self.transport, pause=self.pause, clock=self.clock, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """Make an async client of this service."""

        async def pause(seconds: float) -> None:
            self.pause(seconds)

        return AsyncClient("https://3d.example.com", transport=self.transport, pause=pause, clock=self.clock, **options)


def job_body(status: str = "queued", **fields: Any) -> dict[str, Any]:
    """The JSON of a job."""
    return {"id": "job_1", "status": status, "created_at": "2026-01-01T00:00:00Z", "progress": 0.0} | fields


def model(body: bytes = GLB) -> dict[str, Any]:
    """The `artifacts` of a job whose model is `body`."""
    artifact = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "content_type": "model/gltf-binary"}
    return {"model": artifact}


def job(status: str = "queued", code: int = 200, etag: str = '"1"', **fields: Any) -> httpx.Response:
    """A response with a job."""
    return httpx.Response(code, json=job_body(status, **fields), headers={"ETag": etag})


def problem(
    status: int, code: str = "some_code", headers: Mapping[str, str] | None = None, **fields: Any
) -> httpx.Response:
    """A response with an error."""
    body = {"type": f"/docs#{code}", "title": "Title", "status": status, "detail": "It is so.", "code": code}
    typed = {"Content-Type": "application/problem+json", **(headers or {})}
    return httpx.Response(status, json=body | fields, headers=typed)


def located(url: str = "https://bucket.example.net/model.glb?signature=abc") -> httpx.Response:
    """The redirect to an artifact's bytes."""
    return httpx.Response(307, headers={"Location": url})


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in chunks; a chunk that is an exception is raised."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self._chunks = chunks
        self.closed = False

    def close(self) -> None:
        """Record that the body was closed."""
        self.closed = True

    async def aclose(self) -> None:
        """Record that the body was closed."""
        self.closed = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def streamed(*chunks: bytes | Exception, content_type: str = "text/event-stream") -> httpx.Response:
    """A response whose body arrives in chunks."""
    return httpx.Response(200, headers={"Content-Type": content_type}, stream=Body(*chunks))


def rest(first_byte: int, *chunks: bytes | Exception) -> httpx.Response:
    """The response to a Range request, from `first_byte` on."""
    return httpx.Response(206, headers={"Content-Range": f"bytes {first_byte}-999/1000"}, stream=Body(*chunks))


def event(event_id: int, status: str, name: str = "progress", **fields: Any) -> bytes:
    """The bytes of one event."""
    return f"id: {event_id}\nevent: {name}\ndata: {json.dumps(job_body(status, **fields))}\n\n".encode()
