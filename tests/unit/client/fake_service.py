"""A service that many threads can send images to; the name of an image selects how its job ends."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Barrier, Event, Lock

import httpx

from tests.unit.client.scripted_transport import GLB, event, job_body, located, model, problem

TIMEOUT_S = 20.0


@dataclass
class FakeService:
    """Jobs succeed, except for images in `ends`: `failed`, `refused`, `unknown key`, or `held` until canceled.

    together: the number of jobs that must be submitted before one ends (or before an unknown key is refused).
    """

    ends: dict[str, str] = field(default_factory=dict)
    together: int = 1
    images: dict[str, str] = field(default_factory=dict)
    canceled: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    asked: int = 0

    def __post_init__(self) -> None:
        self.is_holding = Event()
        self._release = Event()
        self._lock = Lock()
        self._barrier = Barrier(self.together)

    @property
    def transport(self) -> httpx.MockTransport:
        """An httpx transport to this service."""
        return httpx.MockTransport(self)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Respond as the service does."""
        if request.url.path.startswith("/model"):
            return httpx.Response(200, content=GLB)
        match request.url.path.split("/"):
            case ["", "v1", "jobs"]:
                return self._submit(request)
            case ["", "v1", "jobs", job_id]:
                return httpx.Response(200, json=self.body(job_id))
            case ["", "v1", "jobs", job_id, "events"]:
                return httpx.Response(
                    200, headers={"Content-Type": "text/event-stream"}, stream=_EventStream(self, job_id)
                )
            case ["", "v1", "jobs", job_id, "cancel"]:
                self.canceled.append(self.images[job_id])
                self._release.set()
                return httpx.Response(200, json=job_body("canceled", id=job_id))
        return located("https://bucket.example.net/model.glb")

    def events(self, job_id: str) -> Iterator[bytes]:
        """Yield the events of a job as they happen."""
        yield event(1, "running", id=job_id, stage="shape", progress=0.5)
        image = self.images[job_id]
        if self.ends.get(image) == "held":
            self.is_holding.set()
            assert self._release.wait(TIMEOUT_S)
        else:
            self._barrier.wait(TIMEOUT_S)
        with self._lock:
            self.running -= 1
        body = self.body(job_id)
        yield event(2, body["status"], **{name: value for name, value in body.items() if name != "status"})

    def body(self, job_id: str) -> dict[str, object]:
        """The record of an ended job."""
        match self.ends.get(self.images[job_id]):
            case "failed":
                error = {"code": "no_object_found", "detail": "nothing stands out", "retryable": False}
                return job_body("failed", id=job_id, error=error)
            case "held":
                return job_body("canceled", id=job_id)
        return job_body("succeeded", id=job_id, artifacts=model())

    def _submit(self, request: httpx.Request) -> httpx.Response:
        name = re.search(rb'filename="([^"]+)"', request.read())
        assert name
        image = name[1].decode()
        if self.ends.get(image) == "unknown key":
            self._barrier.wait(TIMEOUT_S)
            self.asked += 1
            return problem(401)
        with self._lock:
            self.asked += 1
            if self.ends.get(image) == "refused":
                return problem(422)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            job_id = f"job_{len(self.images) + 1}"
            self.images[job_id] = image
        return httpx.Response(202, json=job_body(id=job_id))


class _EventStream(httpx.SyncByteStream):
    def __init__(self, service: FakeService, job_id: str) -> None:
        self._service, self._job_id = service, job_id

    def __iter__(self) -> Iterator[bytes]:
        yield from self._service.events(self._job_id)
