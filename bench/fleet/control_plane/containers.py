"""Modal's side of a running container: it hands out inputs, hears of their ends, and commits volumes."""

import asyncio
from collections import Counter
from typing import Any

from modal_proto import api_pb2

POLL_S, POLLS = 0.02, 50


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
            if call_id := self.next_input(timeout_s=0, of=own):  # type: ignore[attr-defined]
                nothing = b"\x80\x04)}\x86."  # a pickle of ((), {}): called with no arguments
                wanted = api_pb2.FunctionInput(
                    args=nothing, method_name=self.method, data_format=api_pb2.DATA_FORMAT_PICKLE
                )
                item = api_pb2.FunctionGetInputsItem(input_id=f"in-{call_id}", function_call_id=call_id, input=wanted)
                return api_pb2.FunctionGetInputsResponse(inputs=[item])
            await asyncio.sleep(POLL_S)
        return api_pb2.FunctionGetInputsResponse()

    async def ContainerStop(self, _: Any) -> Any:  # noqa: N802
        """A container wants no more inputs, and to end after those in hand."""
        self.stopped = True
        return api_pb2.ContainerStopResponse()

    async def FunctionPutOutputs(self, request: Any) -> None:  # noqa: N802
        """Inputs that ended, and how."""
        for output in request.outputs:
            self.inputs_ended[api_pb2.GenericResult.GenericStatus.Name(output.result.status)] += 1
            self.outputs[output.input_id.removeprefix("in-")] = output
            self.input_done()  # type: ignore[attr-defined]

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
