"""Deployed functions of Modal: their inputs wait, run and end, and are counted."""

import asyncio
import itertools
import threading
from collections import Counter
from typing import Any

from modal_proto import api_pb2

POLL_S, POLLS = 0.02, 50


class Functions:
    """The calls behind `spawn` and `get_current_stats`. Simulated containers start inputs with `start_input`."""

    def __init__(self) -> None:
        self._ids = (f"fc-{number}" for number in itertools.count(1))
        self._waiting: list[tuple[str, str]] = []  # (function id, call id) of each input
        self._spawned = threading.Condition()
        self.spawned: Counter[str] = Counter()
        self.running = 0
        self.stats_lag = False

    async def FunctionGet(self, request: Any) -> Any:  # noqa: N802 - each method has the name of its call
        """Look up a deployed function by its name."""
        name = request.object_tag
        metadata = api_pb2.FunctionHandleMetadata(
            function_name=name,
            function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
            supported_input_formats=[api_pb2.DATA_FORMAT_PICKLE],
            supported_output_formats=[api_pb2.DATA_FORMAT_PICKLE],
        )
        only = api_pb2.FunctionData.RankedFunction(function=api_pb2.Function(function_name=name))
        data = api_pb2.FunctionData(function_name=name, ranked_functions=[only])
        return api_pb2.FunctionGetResponse(function_id=f"fu-{name}", handle_metadata=metadata, function=data)

    async def FunctionMap(self, request: Any) -> Any:  # noqa: N802
        """Accept one input."""
        with self._spawned:
            call_id = next(self._ids)
            self._waiting.append((request.function_id, call_id))
            self.spawned[request.function_id] += 1
            self._spawned.notify()
        accepted = api_pb2.FunctionPutInputsResponseItem(input_id=f"in-{call_id}")
        return api_pb2.FunctionMapResponse(function_call_id=call_id, pipelined_inputs=[accepted])

    async def FunctionGetCurrentStats(self, request: Any) -> Any:  # noqa: N802, ARG002 - one function at a time
        """Count the waiting and running inputs; none while the statistics lag."""
        if self.stats_lag:
            return api_pb2.FunctionStats()
        return api_pb2.FunctionStats(
            backlog=len(self._waiting), num_total_tasks=self.running, num_running_inputs=self.running
        )

    def enqueue_input(self, function_id: str) -> None:
        """Enqueue an input as Modal's scheduler does for a cron."""
        with self._spawned:
            self._waiting.append((function_id, next(self._ids)))
            self._spawned.notify()

    def start_input(self, timeout_s: float, of: frozenset[str] | None = None) -> str:
        """Start an input, of one of these functions if any are named; return its call or "". `finish_input` ends it."""

        def first_match() -> tuple[str, str] | None:
            return next((entry for entry in self._waiting if of is None or entry[0] in of), None)

        with self._spawned:
            self._spawned.wait_for(first_match, timeout_s)
            if (first := first_match()) is None:
                return ""
            self._waiting.remove(first)
            self.running += 1
            return first[1]

    def pending_functions(self) -> set[str]:
        """Return the functions with waiting inputs."""
        with self._spawned:
            return {function_id for function_id, _ in self._waiting}

    def finish_input(self) -> None:
        """End an input."""
        with self._spawned:
            self.running -= 1

    def reset_inputs(self) -> None:
        """Forget every input."""
        with self._spawned:
            self._waiting.clear()
            self.spawned.clear()
            self.running = 0
            self.stats_lag = False


class Containers:
    """The calls that the container's runtime makes; inputs come from `Functions`."""

    def __init__(self) -> None:
        self.inputs_ended: Counter[str] = Counter()
        self.tasks_ended: Counter[str] = Counter()
        self.outputs: dict[str, Any] = {}  # by call id
        self.stopped = False  # whether a container has asked for no more inputs
        self.method = "run"  # which the inputs call; empty for a plain function

    async def ContainerHello(self, _: Any) -> None:  # noqa: N802 - each method has the name of its call
        """Accept the container's start."""

    async def ContainerHeartbeat(self, _: Any) -> Any:  # noqa: N802
        """Accept a heartbeat."""
        return api_pb2.ContainerHeartbeatResponse()

    async def FunctionGetInputs(self, request: Any) -> Any:  # noqa: N802
        """Return the next input of a function within a second; a class has a short name, too."""
        own = frozenset({request.function_id, request.function_id.removesuffix(".*").lower()})
        for _ in range(POLLS):
            if self.stopped:
                return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
            if call_id := self.start_input(timeout_s=0, of=own):  # type: ignore[attr-defined]
                nothing = b"\x80\x04)}\x86."  # a pickle of ((), {}): called with no arguments
                input_ = api_pb2.FunctionInput(
                    args=nothing, method_name=self.method, data_format=api_pb2.DATA_FORMAT_PICKLE
                )
                item = api_pb2.FunctionGetInputsItem(input_id=f"in-{call_id}", function_call_id=call_id, input=input_)
                return api_pb2.FunctionGetInputsResponse(inputs=[item])
            await asyncio.sleep(POLL_S)
        return api_pb2.FunctionGetInputsResponse()

    async def ContainerStop(self, _: Any) -> Any:  # noqa: N802
        """Note that a container takes no more inputs and ends after its running ones."""
        self.stopped = True
        return api_pb2.ContainerStopResponse()

    async def FunctionPutOutputs(self, request: Any) -> None:  # noqa: N802
        """Record how inputs ended."""
        for output in request.outputs:
            self.inputs_ended[api_pb2.GenericResult.GenericStatus.Name(output.result.status)] += 1
            self.outputs[output.input_id.removeprefix("in-")] = output
            self.finish_input()  # type: ignore[attr-defined]

    async def FunctionGetOutputs(self, request: Any) -> Any:  # noqa: N802
        """Return the output of a call within a second."""
        for _ in range(POLLS):
            if ended := self.outputs.get(request.function_call_id):
                output = api_pb2.FunctionGetOutputsItem(result=ended.result, data_format=ended.data_format)
                return api_pb2.FunctionGetOutputsResponse(outputs=[output])
            await asyncio.sleep(POLL_S)
        return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)

    async def TaskResult(self, request: Any) -> None:  # noqa: N802
        """Accept the container's end."""
        self.tasks_ended[api_pb2.GenericResult.GenericStatus.Name(request.result.status)] += 1

    async def FunctionGetDynamicConcurrency(self, _: Any) -> Any:  # noqa: N802
        """Return the deployed concurrency."""
        return api_pb2.FunctionGetDynamicConcurrencyResponse(concurrency=2)

    async def VolumeCommit(self, _: Any) -> Any:  # noqa: N802
        """Accept a commit; no volume is mounted."""
        return api_pb2.VolumeCommitResponse()
