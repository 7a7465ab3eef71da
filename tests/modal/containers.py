"""Containers in Modal's own runtime, started as Modal's worker would start them.

The runtime is private to Modal and changes with its releases; only what is here leans on it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from modal_proto import api_pb2

from bench.fleet.control_plane.deployments import Manifest
from bench.fleet.control_plane.server import ControlPlane


@contextmanager
def running(
    plane: ControlPlane,
    function: str,
    *,
    folder: Path,
    environment: Mapping[str, str],
    method: str = "",
) -> Iterator[subprocess.Popen[bytes]]:
    """A container of one function of what was deployed last; its inputs call `method`.

    `environment` is what Modal adds from secrets; `folder` is where the container's arguments are left for it.
    """
    plane.method = method
    arguments = folder / "arguments"
    arguments.write_bytes(_arguments(plane.manifest, function).SerializeToString())
    (definition, *_) = plane.manifest.functions[function]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MODAL_TOKEN", "TRELLIS2_"))}
    told = {
        **inherited,
        **plane.manifest.environment(definition),
        "MODAL_IS_REMOTE": "1",
        "MODAL_TASK_ID": "ta-1",
        "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments),
        **environment,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "modal._container_entrypoint"], env=told, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _arguments(manifest: Manifest, function: str) -> api_pb2.ContainerArguments:
    (definition, *_) = manifest.functions[function]
    ids = {name: f"fu-{name}" for name in manifest.functions}
    layout = api_pb2.AppLayout(
        function_ids=ids,
        class_ids={"Worker": "cs-Worker"},
        objects=[
            *(
                api_pb2.Object(object_id=ids[name], function_handle_metadata=handle)
                for name, handle in manifest.handles.items()
            ),
            api_pb2.Object(object_id="cs-Worker", class_handle_metadata=api_pb2.ClassHandleMetadata()),
            *(_as_it_is_told(one.object_id) for one in definition.object_dependencies),
        ],
    )
    return api_pb2.ContainerArguments(
        task_id="ta-1",
        function_id=ids[function],
        app_id="ap-1",
        function_def=definition,
        app_layout=layout,
        environment_name="main",
    )


def _as_it_is_told(object_id: str) -> api_pb2.Object:
    """What a container is told of a secret, an image, a mount or a volume."""
    if object_id.startswith("vo-"):
        return api_pb2.Object(object_id=object_id, volume_metadata=api_pb2.VolumeMetadata())
    return api_pb2.Object(object_id=object_id)
