"""The gateway under test, over a store and a queue in memory and a clock that the test moves."""

import asyncio
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI
from PIL import Image

from api.app import create_app
from api.context.services import Dependencies
from api.middleware.body_limit import RequestLimits
from bench.support.memory_store import MemoryStore
from shared.domain.job import Artifact, Job, JobError
from shared.net.egress import Egress
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import JobRepository
from shared.storage import keys
from shared.storage.ports import JobQueue, ObjectStore
from tests.support.fakes import ListQueue, ManualClock, no_pause, submitted

LOCAL = "http://127.0.0.1:8080"
PUBLIC_ADDRESS = "93.184.215.14"


def encode_image(side_px: int = 8, colour: str = "teal", format_: str = "PNG") -> bytes:
    """Encode a small valid image."""
    out = io.BytesIO()
    Image.new("RGB", (side_px, side_px), colour).save(out, format_)
    return out.getvalue()


IMAGE = encode_image()


@dataclass
class ManualTime:
    """Monotonic seconds that pass only in `sleep`; `then` holds what to call during each of the next sleeps."""

    now_s: float = 0.0
    then: list[Callable[[], object]] = field(default_factory=list)

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Let the time pass and make the next call."""
        self.now_s += seconds
        if self.then:
            self.then.pop(0)()


def public_egress(*addresses: str) -> Egress:
    """Create an egress that resolves every name to these addresses, by default a public one, and cannot dial."""
    answers = addresses or (PUBLIC_ADDRESS,)
    return Egress(resolve=lambda _host, _timeout_s: answers, dial=_no_dial)


def _no_dial(address: str, port: int, timeout_s: float) -> Any:
    raise AssertionError(f"dialled {address}:{port} within {timeout_s} s")


class Client:
    """A client that calls the app without a network; every call has its own event loop."""

    def __init__(self, app: FastAPI, *, base_url: str, address: str) -> None:
        self._app = app
        self._base_url = base_url
        self._address = address

    def many(self, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """Send (method, path, options) all at once."""

        async def send() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False, client=(self._address, 50_000))
            async with httpx.AsyncClient(transport=transport, base_url=self._base_url) as client:
                calls = [client.request(method, path, **options) for method, path, options in requests]
                return list(await asyncio.gather(*calls))

        return asyncio.run(send())

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.many(("GET", path, options))[0]

    def post(self, path: str, **options: Any) -> httpx.Response:
        """POST."""
        return self.many(("POST", path, options))[0]

    def delete(self, path: str, **options: Any) -> httpx.Response:
        """DELETE."""
        return self.many(("DELETE", path, options))[0]


@dataclass
class GatewayHarness:
    """A gateway with its dependencies."""

    store: ObjectStore
    queue: JobQueue
    jobs: JobRepository
    clock: ManualClock
    time: ManualTime
    client: Client

    def submit(self, headers: dict[str, str] | None = None, **fields: str) -> dict[str, Any]:
        """Submit the image as a form, a second later; return the answer's body."""
        self.clock.advance(1)
        answer = self.client.post("/v1/jobs", files={"image": ("a.png", IMAGE)}, data=fields, headers=headers)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> Job:
        """Read a job's record."""
        return self.jobs.read(job_id).record

    def uploaded(self, body: bytes = IMAGE, caller: str = "local") -> str:
        """Store an upload; return its id."""
        upload_id = keys.new_id("up", self.store.now())
        self.store.put(keys.upload(caller, upload_id), body)
        return upload_id

    def stored(self) -> list[str]:
        """List every key of the store."""
        return [entry.key for entry in self.store.list("")]

    def succeed(self, job_id: str, artifacts: Iterable[str] = ("model", "state", "poster")) -> Job:
        """Claim and finish a job as a worker does."""
        held = self.jobs.claim(job_id, "worker")
        assert held
        produced = {name: new_artifact(job_id, held.record.attempt, name) for name in artifacts}
        return self.jobs.succeed(held, artifacts=produced, timings={"shape": 1.5}).record

    def fail(self, job_id: str) -> Job:
        """Claim and fail a job as a worker does."""
        held = self.jobs.claim(job_id, "worker")
        assert held
        error = JobError(code="no_object_found", detail="nothing stands out", retryable=False)
        return self.jobs.fail(held, error).record


def new_artifact(job_id: str, attempt: int, name: str) -> Artifact:
    """Create an artifact as a worker names it."""
    filename, content_type = {
        "model": ("model.glb", "model/gltf-binary"),
        "state": ("state.safetensors", "application/octet-stream"),
        "poster": ("poster.webp", "image/webp"),
    }[name]
    return Artifact(key=keys.artifact(job_id, attempt, filename), bytes=10, sha256="ab" * 32, content_type=content_type)


def build_gateway(
    *,
    store: ObjectStore | None = None,
    queue: JobQueue | None = None,
    egress: Egress | None = None,
    limits: RequestLimits | None = None,
    base_url: str = LOCAL,
    address: str = "127.0.0.1",
    **deps: Any,
) -> GatewayHarness:
    """Build a gateway from the given parts and default fakes."""
    clock = ManualClock()
    store = store or MemoryStore(clock)
    queue = queue or ListQueue()
    jobs = build_job_repository(store, pause=no_pause)
    time = ManualTime()
    app = create_app(
        Dependencies(
            store=store,
            jobs=jobs,
            queue=queue,
            egress=egress or public_egress(),
            engines=("relief", "trellis"),
            limits=limits or RequestLimits(),
            monotonic=time.monotonic,
            sleep=time.sleep,
            **deps,
        )
    )
    return GatewayHarness(store, queue, jobs, clock, time, Client(app, base_url=base_url, address=address))


def another_callers_job(gateway: GatewayHarness) -> str:
    """Submit a job of another caller; return its id."""
    return submitted(gateway.jobs, caller="mallory").id
