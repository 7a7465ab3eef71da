"""A service that many images can be sent to at once; what becomes of each job is told by its picture's name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Barrier, Event, Lock

import httpx

from tests.unit.client.scripted_transport import GLB, event, job_body, located, model, problem

PATIENCE_S = 20.0


@dataclass
class Studio:
    """Its jobs succeed, but for images in `ends`: `failed`, `refused`, `unknown key`, or `held` until canceled.

    together: no job ends, and no key is refused, before so many of them are there.
    """

    ends: dict[str, str] = field(default_factory=dict)
    together: int = 1
    images: dict[str, str] = field(default_factory=dict)
    canceled: list[str] = field(default_factory=list)
    in_hand: int = 0
    most_in_hand: int = 0
    asked: int = 0

    def __post_init__(self) -> None:
        self.is_holding = Event()
        self._let_go = Event()
        self._lock = Lock()
        self._barrier = Barrier(self.together)

    @property
    def transport(self) -> httpx.MockTransport:
        """The way to it."""
        return httpx.MockTransport(self)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer as the service would."""
        if request.url.path.startswith("/model"):
            return httpx.Response(200, content=GLB)
        match request.url.path.split("/"):
            case ["", "v1", "jobs"]:
                return self._submitted(request)
            case ["", "v1", "jobs", job_id]:
                return httpx.Response(200, json=self.body(job_id))
            case ["", "v1", "jobs", job_id, "events"]:
                return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=_Told(self, job_id))
            case ["", "v1", "jobs", job_id, "cancel"]:
                self.canceled.append(self.images[job_id])
                self._let_go.set()
                return httpx.Response(200, json=job_body("canceled", id=job_id))
        return located("https://bucket.example.net/model.glb")

    def told(self, job_id: str) -> Iterator[bytes]:
        """The events of a job, as they come."""
        yield event(1, "running", id=job_id, stage="shape", progress=0.5)
        picture = self.images[job_id]
        if self.ends.get(picture) == "held":
            self.is_holding.set()
            assert self._let_go.wait(PATIENCE_S)
        else:
            self._barrier.wait(PATIENCE_S)
        with self._lock:
            self.in_hand -= 1
        body = self.body(job_id)
        yield event(2, body["status"], **{name: value for name, value in body.items() if name != "status"})

    def body(self, job_id: str) -> dict[str, object]:
        """A job as it ends."""
        match self.ends.get(self.images[job_id]):
            case "failed":
                error = {"code": "no_object_found", "detail": "nothing stands out", "retryable": False}
                return job_body("failed", id=job_id, error=error)
            case "held":
                return job_body("canceled", id=job_id)
        return job_body("succeeded", id=job_id, artifacts=model())

    def _submitted(self, request: httpx.Request) -> httpx.Response:
        name = re.search(rb'filename="([^"]+)"', request.read())
        assert name
        picture = name[1].decode()
        if self.ends.get(picture) == "unknown key":
            self._barrier.wait(PATIENCE_S)
            self.asked += 1
            return problem(401)
        with self._lock:
            self.asked += 1
            if self.ends.get(picture) == "refused":
                return problem(422)
            self.in_hand += 1
            self.most_in_hand = max(self.most_in_hand, self.in_hand)
            job_id = f"job_{len(self.images) + 1}"
            self.images[job_id] = picture
        return httpx.Response(202, json=job_body(id=job_id))


class _Told(httpx.SyncByteStream):
    def __init__(self, studio: Studio, job_id: str) -> None:
        self._studio, self._job_id = studio, job_id

    def __iter__(self) -> Iterator[bytes]:
        yield from self._studio.told(self._job_id)
