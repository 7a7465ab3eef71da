"""Record Modal's deployments: images, mounts, secrets, volumes, functions and classes."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from grpclib import GRPCError, Status
from modal_proto import api_pb2

SUCCESS = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


@dataclass
class Manifest:
    """The objects of the last deployment, each function under its name."""

    name: str = ""
    functions: dict[str, Any] = field(default_factory=dict)
    handles: dict[str, Any] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    environments: dict[str, dict[str, str]] = field(default_factory=dict)
    mounts: dict[str, list[str]] = field(default_factory=dict)

    def secret_names(self, function: Any) -> set[str]:
        """Return the named secrets of a function."""
        return {self.secrets[secret_id] for secret_id in function.secret_ids if secret_id in self.secrets}

    def environment(self, function: Any) -> dict[str, str]:
        """Return a function's variables from unnamed secrets."""
        return {k: v for secret_id in function.secret_ids for k, v in self.environments.get(secret_id, {}).items()}

    def volume_names(self, function: Any) -> dict[str, tuple[str, bool]]:
        """Return a function's volumes by path, and whether each is read-only."""
        return {mount.mount_path: (self.volumes[mount.volume_id], mount.read_only) for mount in function.volume_mounts}

    def commands(self, image_id: str) -> list[str]:
        """Return the build commands of an image, its base's first."""
        image = self.images[image_id]
        before = [command for base in image.base_images for command in self.commands(base.image_id)]
        return before + list(image.dockerfile_commands)


class Deployments:
    """The calls behind `modal deploy`."""

    def __init__(self) -> None:
        self.manifest = Manifest()
        self.missing_secrets: set[str] = set()
        self.created_secrets: dict[str, dict[str, str]] = {}
        self.image_builder_version = "2026.10"  # what a new workspace has
        self._serial = itertools.count(1)

    def _id(self, kind: str) -> str:
        return f"{kind}-{next(self._serial)}"

    async def ClientHello(self, _: Any) -> Any:  # noqa: N802 - each method has the name of its call
        """Answer with the workspace's image builder."""
        return api_pb2.ClientHelloResponse(image_builder_version=self.image_builder_version)

    async def EnvironmentGetOrCreate(self, _: Any) -> Any:  # noqa: N802
        """Return the only environment."""
        settings = api_pb2.EnvironmentSettings(image_builder_version=self.image_builder_version)
        metadata = api_pb2.EnvironmentMetadata(name="main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-main", metadata=metadata)

    async def AppGetByDeploymentName(self, _: Any) -> Any:  # noqa: N802
        """Return no earlier deployment."""
        return api_pb2.AppGetByDeploymentNameResponse()

    async def AppCreate(self, _: Any) -> Any:  # noqa: N802
        """Create an app."""
        self.manifest = Manifest()
        return api_pb2.AppCreateResponse(app_id=self._id("ap"), app_page_url="https://modal.test/app")

    async def AppHeartbeat(self, _: Any) -> None:  # noqa: N802
        """Accept a heartbeat."""

    async def AppPublish(self, request: Any) -> Any:  # noqa: N802
        """Publish the deployment."""
        self.manifest.name = request.name
        return api_pb2.AppPublishResponse(url="https://modal.test/app", deployed_at=1.0)

    async def AppClientDisconnect(self, _: Any) -> None:  # noqa: N802
        """Accept the end of a failed deployment."""

    async def ImageGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        """Record an image as built."""
        image_id = self._id("im")
        self.manifest.images[image_id] = request.image
        metadata = api_pb2.ImageMetadata(image_builder_version=self.image_builder_version)
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=SUCCESS, metadata=metadata)

    async def MountBatchedCheckExistence(self, _: Any) -> Any:  # noqa: N802
        """Report every file as uploaded."""
        return api_pb2.MountBatchedCheckExistenceResponse()

    async def MountGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        """Create a mount of the named files."""
        mount_id = self._id("mo")
        self.manifest.mounts[mount_id] = [file.filename for file in request.files]
        return api_pb2.MountGetOrCreateResponse(mount_id=mount_id)

    async def SecretGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        """Create or look up a named secret, or keep the variables of a function."""
        if request.deployment_name and request.env_dict:
            self.created_secrets[request.deployment_name] = dict(request.env_dict)
            self.missing_secrets.discard(request.deployment_name)
        if request.deployment_name in self.missing_secrets:
            raise GRPCError(Status.NOT_FOUND, f"Secret '{request.deployment_name}' not found")
        secret_id = self._id("st")
        if request.deployment_name:
            self.manifest.secrets[secret_id] = request.deployment_name
        self.manifest.environments[secret_id] = dict(request.env_dict)
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret_id)

    async def VolumeGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        """Create a named volume."""
        volume_id = f"vo-{request.deployment_name}"
        self.manifest.volumes[volume_id] = request.deployment_name
        metadata = api_pb2.VolumeMetadata(name=request.deployment_name)
        return api_pb2.VolumeGetOrCreateResponse(volume_id=volume_id, metadata=metadata)

    async def FunctionPrecreate(self, request: Any) -> Any:  # noqa: N802
        """Reserve the id of a function."""
        handle = _handle(request.function_name, request)
        return api_pb2.FunctionPrecreateResponse(function_id=f"fu-{request.function_name}", handle_metadata=handle)

    async def FunctionCreate(self, request: Any) -> Any:  # noqa: N802
        """Create a function, possibly with several kinds of GPU in order of preference."""
        ranked = list(request.function_data.ranked_functions)
        definitions = [alternative.function for alternative in ranked] or [request.function]
        name = definitions[0].function_name
        self.manifest.functions[name] = definitions
        self.manifest.handles[name] = handle = _handle(name, definitions[0])
        data = request.function_data
        if not ranked:
            only = api_pb2.FunctionData.RankedFunction(function=request.function)
            data = api_pb2.FunctionData(ranked_functions=[only])
        return api_pb2.FunctionCreateResponse(function_id=f"fu-{name}", handle_metadata=handle, function_data=data)

    async def ClassCreate(self, _: Any) -> Any:  # noqa: N802
        """Create a class; its function holds everything."""
        return api_pb2.ClassCreateResponse(class_id=self._id("cs"), handle_metadata=api_pb2.ClassHandleMetadata())


def _handle(name: str, of: Any) -> Any:
    handle = api_pb2.FunctionHandleMetadata(
        function_name=name,
        function_type=of.function_type,
        definition_id=f"de-{name}",
        supported_input_formats=of.supported_input_formats,
        supported_output_formats=of.supported_output_formats,
    )
    for method, definition in of.method_definitions.items():
        handle.method_handle_metadata[method].CopyFrom(
            api_pb2.FunctionHandleMetadata(
                function_name=definition.function_name,
                function_type=definition.function_type,
                use_method_name=method,
                is_method=True,
                supported_input_formats=definition.supported_input_formats,
                supported_output_formats=definition.supported_output_formats,
            )
        )
    return handle
