"""The gateway under test: over a store in memory, a doorbell that shows its rings, and a clock moved by hand."""

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
    """A small valid picture."""
    out = io.BytesIO()
    Image.new("RGB", (side_px, side_px), colour).save(out, format_)
    return out.getvalue()


IMAGE = encode_image()


@dataclass
class ManualTime:
    """Monotonic seconds that pass only while somebody sleeps; `then` holds what happens during each sleep to come."""

    now_s: float = 0.0
    then: list[Callable[[], object]] = field(default_factory=list)

    def monotonic(self) -> float:
        """The time in seconds."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Let the time pass, and the next thing happen."""
        self.now_s += seconds
        if self.then:
            self.then.pop(0)()


def public_egress(*addresses: str) -> Egress:
    """An egress to which every name has these addresses, a public one by default; it can dial nothing."""
    answers = addresses or (PUBLIC_ADDRESS,)
    return Egress(resolve=lambda _host, _timeout_s: answers, dial=_no_dial)


def _no_dial(address: str, port: int, timeout_s: float) -> Any:
    raise AssertionError(f"dialled {address}:{port} within {timeout_s} s")


class Client:
    """A client of the app itself, without a network between; every call has an event loop of its own."""

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
    """A gateway with everything around it within reach."""

    store: ObjectStore
    queue: JobQueue
    jobs: JobRepository
    clock: ManualClock
    time: ManualTime
    client: Client

    def submit(self, headers: dict[str, str] | None = None, **fields: str) -> dict[str, Any]:
        """Submit the picture as a form, a second after whatever came before; the answer's body."""
        self.clock.advance(1)
        answer = self.client.post("/v1/jobs", files={"image": ("a.png", IMAGE)}, data=fields, headers=headers)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> Job:
        """A job as the ledger has it."""
        return self.jobs.read(job_id).record

    def uploaded(self, body: bytes = IMAGE, caller: str = "local") -> str:
        """The id of a picture that was uploaded."""
        upload_id = keys.new_id("up", self.store.now())
        self.store.put(keys.upload(caller, upload_id), body)
        return upload_id

    def stored(self) -> list[str]:
        """All that the store holds."""
        return [entry.key for entry in self.store.list("")]

    def succeed(self, job_id: str, artifacts: Iterable[str] = ("model", "state", "poster")) -> Job:
        """Play the worker to a good end."""
        held = self.jobs.claim(job_id, "worker")
        assert held
        made = {name: new_artifact(job_id, held.record.attempt, name) for name in artifacts}
        return self.jobs.succeed(held, artifacts=made, timings={"shape": 1.5}).record

    def fail(self, job_id: str) -> Job:
        """Play the worker to a bad end."""
        held = self.jobs.claim(job_id, "worker")
        assert held
        error = JobError(code="no_object_found", detail="nothing stands out", retryable=False)
        return self.jobs.fail(held, error).record


def new_artifact(job_id: str, attempt: int, name: str) -> Artifact:
    """An artifact of a kind, as a worker would name it."""
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
    """A gateway with the given parts, and plain ones for the rest."""
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
    """The id of a job that is not the local caller's."""
    return submitted(gateway.jobs, caller="somebody-else").id
