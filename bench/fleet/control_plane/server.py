"""Serve a control plane over gRPC on loopback in its own thread, with faults on demand."""

import asyncio
import random
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import grpclib.server
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from modal_proto import api_pb2

from bench.fleet.control_plane.deployments import Deployments
from bench.fleet.control_plane.functions import Containers, Functions
from bench.fleet.control_plane.queues import Queues

SERVICE = api_pb2.DESCRIPTOR.services_by_name["ModalClient"]
Stream = grpclib.server.Stream[Any, Any]


@dataclass
class Faults:
    """Faults of calls of one kind. fail_before, fail_after: the share (0-1) that fails before or after it has acted.

    lose: how many of the next calls fail after they have acted. delay_s: how long each call takes.
    """

    fail_before: float = 0.0
    fail_after: float = 0.0
    lose: int = 0
    delay_s: float = 0.0
    status: Status = Status.UNAVAILABLE


class UnaryService:
    """Answers one request with one message; `answers` are coroutine methods named for their call."""

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.faults: dict[str, Faults] = defaultdict(Faults)
        self.calls: Counter[str] = Counter()
        self.unanswered: set[str] = set()
        self._random = random.Random(7)

    def __mapping__(self) -> dict[str, Handler]:
        """Return a handler for every call of the SDK, as grpclib expects."""
        return {f"/{SERVICE.full_name}/{method.name}": self._handler(method) for method in SERVICE.methods}

    def _handler(self, method: Any) -> Handler:
        request, reply = (GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        answer = getattr(self, method.name, None)
        cardinality = Cardinality.UNARY_STREAM if method.server_streaming else Cardinality.UNARY_UNARY
        return Handler(partial(self._serve, method.name, answer), cardinality, request, reply)

    async def _serve(self, name: str, answer: Callable[[Any], Awaitable[Any]] | None, stream: Stream) -> None:
        request = await stream.recv_message()
        if answer is None:
            self.unanswered.add(name)
            raise GRPCError(Status.UNIMPLEMENTED, f"the control plane does not answer {name}")
        self.calls[name] += 1
        faults = self.faults[name]
        await asyncio.sleep(self.latency_s + faults.delay_s)
        if self._random.random() < faults.fail_before:
            raise GRPCError(faults.status, f"{name} did nothing")
        reply = await answer(request)
        faults.lose -= 1
        if faults.lose >= 0 or self._random.random() < faults.fail_after:
            raise GRPCError(faults.status, f"{name} was done, but its answer is lost")
        await stream.send_message(Empty() if reply is None else reply)

    def reset_faults(self) -> None:
        """Remove all faults and counts."""
        self.latency_s = 0.0
        self.faults.clear()
        self.calls.clear()


class ControlPlane(UnaryService, Queues, Functions, Deployments, Containers):
    """The part of Modal that the SDK needs to enqueue, dequeue, spawn, deploy and run."""

    def __init__(self) -> None:
        UnaryService.__init__(self)
        Queues.__init__(self)
        Functions.__init__(self)
        Deployments.__init__(self)
        Containers.__init__(self)

    def reset_inputs(self) -> None:
        """Forget every input; no secret is missing."""
        Functions.reset_inputs(self)
        self.outputs.clear()
        self.inputs_ended.clear()
        self.stopped = False
        self.missing_secrets = set()


@dataclass
class GrpcServer:
    """A gRPC server in its own thread."""

    service: Any
    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _listening: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> str:
        """Listen on a free loopback port; return the URL."""
        self._thread = threading.Thread(target=self._run, name="control-plane", daemon=True)
        self._thread.start()
        self._listening.wait()
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Close every connection."""
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = grpclib.server.Server([self.service])
        self._loop.run_until_complete(server.start("127.0.0.1", 0))
        self.port = cast(asyncio.Server, server._server).sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(server.wait_closed())


async def nothing() -> AsyncIterator[None]:
    """An empty stream."""
    return
    yield
