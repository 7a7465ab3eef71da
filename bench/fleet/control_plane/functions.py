"""Modal's functions, once they are deployed: inputs wait, run and end; their counts are reported."""

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
        self._waiting: list[tuple[str, str]] = []  # functions, and the calls that their inputs are of
        self._spawned = threading.Condition()
        self.spawned: Counter[str] = Counter()
        self.running = 0
        self.stats_lag = False

    async def FunctionGet(self, request: Any) -> Any:  # noqa: N802 - named for its call, as all of them
        """A deployed function by its name."""
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
        """Take one input."""
        with self._spawned:
            call_id = next(self._ids)
            self._waiting.append((request.function_id, call_id))
            self.spawned[request.function_id] += 1
            self._spawned.notify()
        accepted = api_pb2.FunctionPutInputsResponseItem(input_id=f"in-{call_id}")
        return api_pb2.FunctionMapResponse(function_call_id=call_id, pipelined_inputs=[accepted])

    async def FunctionGetCurrentStats(self, request: Any) -> Any:  # noqa: N802, ARG002 - one function at a time
        """How many inputs wait and run; none, as long as the numbers lag."""
        if self.stats_lag:
            return api_pb2.FunctionStats()
        return api_pb2.FunctionStats(
            backlog=len(self._waiting), num_total_tasks=self.running, num_running_inputs=self.running
        )

    def enqueue_input(self, function_id: str) -> None:
        """What Modal's own scheduler does for a cron."""
        with self._spawned:
            self._waiting.append((function_id, next(self._ids)))
            self._spawned.notify()

    def start_input(self, timeout_s: float, of: frozenset[str] | None = None) -> str:
        """Begin an input, of one of these functions if any are named; its call, or "". `finish_input` ends it."""

        def first_match() -> tuple[str, str] | None:
            return next((one for one in self._waiting if of is None or one[0] in of), None)

        with self._spawned:
            self._spawned.wait_for(first_match, timeout_s)
            if (first := first_match()) is None:
                return ""
            self._waiting.remove(first)
            self.running += 1
            return first[1]

    def pending_functions(self) -> set[str]:
        """The functions that inputs wait for."""
        with self._spawned:
            return {function_id for function_id, _ in self._waiting}

    def finish_input(self) -> None:
        """End an input."""
        with self._spawned:
            self.running -= 1

    def reset_inputs(self) -> None:
        """As if none had ever been."""
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
        self.outputs: dict[str, Any] = {}  # by the call
        self.stopped = False  # whether a container has asked for no more inputs
        self.method = "run"  # that the inputs call; none for a plain function

    async def ContainerHello(self, _: Any) -> None:  # noqa: N802 - named for its call, as all of them
        """It has started."""

    async def ContainerHeartbeat(self, _: Any) -> Any:  # noqa: N802
        """It lives."""
        return api_pb2.ContainerHeartbeatResponse()

    async def FunctionGetInputs(self, request: Any) -> Any:  # noqa: N802
        """The next input of this function, waited for a second at most; a class answers to its short name too."""
        own = frozenset({request.function_id, request.function_id.removesuffix(".*").lower()})
        for _ in range(POLLS):
            if self.stopped:
                return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
            if call_id := self.start_input(timeout_s=0, of=own):  # type: ignore[attr-defined]
                nothing = b"\x80\x04)}\x86."  # a pickle of ((), {}): called with no arguments
                wanted = api_pb2.FunctionInput(
                    args=nothing, method_name=self.method, data_format=api_pb2.DATA_FORMAT_PICKLE
                )
                item = api_pb2.FunctionGetInputsItem(input_id=f"in-{call_id}", function_call_id=call_id, input=wanted)
                return api_pb2.FunctionGetInputsResponse(inputs=[item])
            await asyncio.sleep(POLL_S)
        return api_pb2.FunctionGetInputsResponse()

    async def ContainerStop(self, _: Any) -> Any:  # noqa: N802
        """Note that a container takes no more inputs and ends after its running ones."""
        self.stopped = True
        return api_pb2.ContainerStopResponse()

    async def FunctionPutOutputs(self, request: Any) -> None:  # noqa: N802
        """Inputs that ended, and how."""
        for output in request.outputs:
            self.inputs_ended[api_pb2.GenericResult.GenericStatus.Name(output.result.status)] += 1
            self.outputs[output.input_id.removeprefix("in-")] = output
            self.finish_input()  # type: ignore[attr-defined]

    async def FunctionGetOutputs(self, request: Any) -> Any:  # noqa: N802
        """What a call came to, waited for a second at most."""
        for _ in range(POLLS):
            if ended := self.outputs.get(request.function_call_id):
                output = api_pb2.FunctionGetOutputsItem(result=ended.result, data_format=ended.data_format)
                return api_pb2.FunctionGetOutputsResponse(outputs=[output])
            await asyncio.sleep(POLL_S)
        return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)

    async def TaskResult(self, request: Any) -> None:  # noqa: N802
        """The container has ended, and how."""
        self.tasks_ended[api_pb2.GenericResult.GenericStatus.Name(request.result.status)] += 1

    async def FunctionGetDynamicConcurrency(self, _: Any) -> Any:  # noqa: N802
        """As many as it was deployed with."""
        return api_pb2.FunctionGetDynamicConcurrencyResponse(concurrency=2)

    async def VolumeCommit(self, _: Any) -> Any:  # noqa: N802
        """Nothing was mounted, and nothing is kept."""
        return api_pb2.VolumeCommitResponse()
