"""Modal's functions, once they are deployed: inputs wait, run and end; the numbers of both are told."""

import itertools
import threading
from collections import Counter
from typing import Any

from modal_proto import api_pb2


class Functions:
    """The calls behind `spawn` and `get_current_stats`. Whoever plays the containers takes inputs from `next_input`."""

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

    def give_input(self, function_id: str) -> None:
        """What Modal's own scheduler does for a cron."""
        with self._spawned:
            self._waiting.append((function_id, next(self._ids)))
            self._spawned.notify()

    def next_input(self, timeout_s: float, of: frozenset[str] | None = None) -> str:
        """Begin an input, of one of these functions if any are named; its call, or "". `input_done` ends it."""

        def found() -> tuple[str, str] | None:
            return next((one for one in self._waiting if of is None or one[0] in of), None)

        with self._spawned:
            self._spawned.wait_for(found, timeout_s)
            if (first := found()) is None:
                return ""
            self._waiting.remove(first)
            self.running += 1
            return first[1]

    def wanted(self) -> set[str]:
        """The functions that inputs wait for."""
        with self._spawned:
            return {function_id for function_id, _ in self._waiting}

    def input_done(self) -> None:
        """End an input."""
        with self._spawned:
            self.running -= 1

    def forget_inputs(self) -> None:
        """As if none had ever been."""
        with self._spawned:
            self._waiting.clear()
            self.spawned.clear()
            self.running = 0
            self.stats_lag = False
