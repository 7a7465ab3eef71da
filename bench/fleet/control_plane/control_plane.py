"""The whole control plane: queues, functions and deployments behind one server."""

from bench.fleet.control_plane.containers import Containers
from bench.fleet.control_plane.deployments import Deployments
from bench.fleet.control_plane.functions import Functions
from bench.fleet.control_plane.queues import Queues
from bench.fleet.control_plane.server import Unary


class ControlPlane(Unary, Queues, Functions, Deployments, Containers):
    """As much of Modal as the SDK must meet to put, take, spawn, deploy and run."""

    def __init__(self) -> None:
        Unary.__init__(self)
        Queues.__init__(self)
        Functions.__init__(self)
        Deployments.__init__(self)
        Containers.__init__(self)

    def forget_inputs(self) -> None:
        """As if nothing had ever run, and everything were there."""
        Functions.forget_inputs(self)
        self.outputs.clear()
        self.inputs_ended.clear()
        self.stopped = False
        self.missing_secrets = set()
