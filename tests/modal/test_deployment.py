"""`modal deploy -m infra.app` asks Modal for exactly what the service needs."""

import ast
import re
from pathlib import Path

import pytest
from modal_proto import api_pb2

from bench.fleet.control_plane.deployments import Manifest
from bench.fleet.control_plane.server import ControlPlane
from tests.support.modal_harness import deploy

APP = Path(__file__).parents[2] / "infra" / "app.py"
NOT_ALLOWED = ("nvdiffrast", "nvdiffrec", "RMBG", "flash-attn", "flash_attn", "o_voxel")


@pytest.fixture(scope="module")
def manifest(running_plane: ControlPlane) -> Manifest:
    """A deployment with the default settings."""
    return deploy(running_plane)


def test_every_function_body_is_one_call() -> None:
    """What the functions do is tested without Modal; the module only says what runs where."""
    source = APP.read_text()
    assert len(source.splitlines()) < 150
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    assert len(functions) == 9
    for function in functions:
        _docstring, *body = function.body
        assert len(body) == 1, function.name
        (statement,) = body
        assert isinstance(statement, ast.Return | ast.Expr | ast.Assign)
        assert isinstance(statement.value, ast.Call)


def test_six_functions_are_deploy(manifest: Manifest) -> None:
    """The gateway, the worker class, the reconciler, the scheduler, the notifier, and the download of the weights."""
    assert manifest.name == "trellis2"
    names = ["Worker.*", "fetch_weights", "gateway", "notifier", "reconciler", "scheduler"]
    assert sorted(manifest.functions) == names


def test_worker_requests_an_a100_and_falls_back_to_an_h100(manifest: Manifest) -> None:
    """Modal takes the first kind that is free."""
    kinds = [function.resources.gpu_config.gpu_type for function in manifest.functions["Worker.*"]]
    assert kinds == ["A100-80GB", "H100"]


def test_worker_requests_its_cores_and_sizes_its_pools_to_them(manifest: Manifest) -> None:
    """The default is an eighth of a core, and its libraries would start a thread for each of 64."""
    for worker in manifest.functions["Worker.*"]:
        assert (worker.resources.milli_cpu, worker.resources.memory_mb) == (8_000, 32_768)
        assert manifest.environment(worker)["OMP_NUM_THREADS"] == "8"


def test_no_container_starts_more_threads_than_it_has_cores(manifest: Manifest) -> None:
    """The numerical libraries would start a thread, with its memory, for each core of the host."""
    for name in ("gateway", "reconciler", "scheduler", "notifier"):
        (function,) = manifest.functions[name]
        variables = manifest.environment(function)
        assert {variables["OMP_NUM_THREADS"], variables["OPENBLAS_NUM_THREADS"]} == {"1"}


def test_three_invocations_share_a_worker(manifest: Manifest) -> None:
    """While one job samples, two extract and upload."""
    assert {function.max_concurrent_inputs for function in manifest.functions["Worker.*"]} == {3}


def test_fleet_is_bounded_and_scales_to_zero(manifest: Manifest) -> None:
    """Eight workers at most, none kept warm, stopped two minutes after the last invocation."""
    worker = manifest.functions["Worker.*"][0]
    scaling = worker.autoscaler_settings
    assert (scaling.max_containers, scaling.min_containers, scaling.scaledown_window) == (8, 0, 120)
    (gateway,) = manifest.functions["gateway"]
    assert gateway.autoscaler_settings.min_containers == 0


def test_invocation_may_last_five_attempts(manifest: Manifest) -> None:
    """Two waits for the GPU and three attempts. The record's deadline ends an attempt, Modal's timeout only a hang."""
    worker = manifest.functions["Worker.*"][0]
    assert (worker.timeout_secs, worker.startup_timeout_secs) == (5 * 900 + 120, 900)


def test_modal_retries_nothing(manifest: Manifest) -> None:
    """Only the job's record counts attempts."""
    assert {function.retry_policy.retries for function in manifest.functions["Worker.*"]} == {0}


@pytest.mark.parametrize("name", ["reconciler", "scheduler", "notifier"])
def test_maintenance_functions_run_every_minute(manifest: Manifest, name: str) -> None:
    """By Cron, since a Period restarts with every deployment; one container at a time, stopped when it is done."""
    (function,) = manifest.functions[name]
    assert function.schedule.cron.cron_string == "* * * * *"
    scaling = function.autoscaler_settings
    assert (function.resources.milli_cpu, scaling.max_containers, scaling.scaledown_window) == (250, 1, 2)
    assert all(not worker.HasField("schedule") for worker in manifest.functions["Worker.*"])


def test_functions_get_only_the_secrets_that_they_need(manifest: Manifest) -> None:
    """Five get the bucket's, one the Hub's token."""
    names = {name: manifest.secret_names(definitions[0]) for name, definitions in manifest.functions.items()}
    assert names == {
        "gateway": {"trellis2-bucket"},
        "Worker.*": {"trellis2-bucket"},
        "reconciler": {"trellis2-bucket"},
        "scheduler": {"trellis2-bucket"},
        "notifier": {"trellis2-bucket"},
        "fetch_weights": {"huggingface"},
    }


def test_no_secret_becomes_a_plain_variable(running_plane: ControlPlane) -> None:
    """Whatever is set where the command runs."""
    manifest = deploy(running_plane, TRELLIS2_S3_SECRET_KEY="s3cret", TRELLIS2_REQUEUE_AFTER_S="30")
    variables = manifest.environment(manifest.functions["gateway"][0])
    assert "s3cret" not in variables.values()
    assert (variables["TRELLIS2_REQUEUE_AFTER_S"], variables["TRELLIS2_STORE"]) == ("30", "s3")


def test_workers_read_their_weights_and_share_their_caches(manifest: Manifest) -> None:
    """Only `fetch_weights` may write the weights; workers reuse each other's tuned kernels."""
    worker = manifest.functions["Worker.*"][0]
    assert manifest.volume_names(worker) == {
        "/weights": ("trellis2-weights", True),
        "/caches": ("trellis2-caches", False),
    }
    assert manifest.volume_names(manifest.functions["fetch_weights"][0]) == {"/weights": ("trellis2-weights", False)}
    variables = manifest.environment(worker)
    assert variables["TRITON_CACHE_DIR"].startswith("/caches/")
    assert variables["TRELLIS2_DATA_DIR"] == "/caches"  # where Warp's kernels are kept
    assert variables["HF_HUB_OFFLINE"] == "1"


def test_gateway_is_a_web_app_that_serves_many_requests_at_once(manifest: Manifest) -> None:
    """The service's API keys protect it; Modal's proxy tokens are a setting."""
    (gateway,) = manifest.functions["gateway"]
    assert gateway.webhook_config.type == api_pb2.WEBHOOK_TYPE_ASGI_APP
    assert not gateway.webhook_config.requires_proxy_auth
    assert (gateway.max_concurrent_inputs, gateway.target_concurrent_inputs) == (200, 100)
    assert not gateway.resources.gpu_config.gpu_type


def test_settings_change_the_deployment(running_plane: ControlPlane) -> None:
    """The operator chooses GPU kinds, proxy auth, warm workers, ceiling, snapshots and region."""
    manifest = deploy(
        running_plane,
        TRELLIS2_GPU="L40S",
        TRELLIS2_PROXY_AUTH="true",
        TRELLIS2_MIN_CONTAINERS="1",
        TRELLIS2_MAX_CONTAINERS="3",
        TRELLIS2_GPU_SNAPSHOT="true",
        TRELLIS2_REGION="eu",
    )
    (worker,) = manifest.functions["Worker.*"]
    scaling = worker.autoscaler_settings
    assert worker.resources.gpu_config.gpu_type == "L40S"
    assert (scaling.min_containers, scaling.max_containers) == (1, 3)
    assert worker.checkpointing_enabled
    assert worker.experimental_options["enable_gpu_snapshot"] == "True"
    assert list(worker.scheduler_placement.regions) == ["eu"]
    assert manifest.functions["gateway"][0].webhook_config.requires_proxy_auth
    assert manifest.environment(worker)["TRELLIS2_MAX_CONTAINERS"] == "3"


def test_deployment_without_a_gpu_has_only_the_relief_engine(running_plane: ControlPlane) -> None:
    """The cheapest deployment: no GPU, no weights, the same service."""
    manifest = deploy(running_plane, TRELLIS2_GPU="")
    (worker,) = manifest.functions["Worker.*"]
    assert not worker.resources.gpu_config.gpu_type
    assert not any("torch" in command for command in manifest.commands(worker.image_id))


def test_deployment_without_a_gpu_needs_no_token_of_the_hub(running_plane: ControlPlane) -> None:
    """There are no weights to fetch, so a trial needs no account there."""
    running_plane.missing_secrets = {"huggingface"}
    try:
        manifest = deploy(running_plane, TRELLIS2_GPU="")
    finally:
        running_plane.missing_secrets = set()
    assert manifest.secret_names(manifest.functions["fetch_weights"][0]) == set()


def test_images_hold_nothing_that_excludes_commercial_use(manifest: Manifest) -> None:
    """Nor flash-attn, which no code needs."""
    for definitions in manifest.functions.values():
        image_id = definitions[0].image_id
        files = [file.decode() for file in _context_files(manifest, image_id)]
        built = "\n".join(manifest.commands(image_id) + files)
        assert [name for name in NOT_ALLOWED if name in built] == []


@pytest.mark.parametrize("version", ["2025.06", "2026.10"])
def test_older_workspaces_build_images_from_the_same_pins(running_plane: ControlPlane, version: str) -> None:
    """A workspace keeps its first image builder until its owner changes it."""
    before, running_plane.image_builder_version = running_plane.image_builder_version, version
    try:
        manifest = deploy(running_plane)
    finally:
        running_plane.image_builder_version = before
    worker = manifest.functions["Worker.*"][0]
    assert len(_context_files(manifest, worker.image_id)) == 2
    assert any("python:3.11" in command for command in manifest.commands(worker.image_id))


def test_every_package_of_the_image_is_pinned(manifest: Manifest) -> None:
    """To a version; the packages of the GPU are in a layer below those of the service."""
    worker = manifest.functions["Worker.*"][0]
    files = [file.decode().splitlines() for file in _context_files(manifest, worker.image_id)]
    gpu, service = ([line for line in file if not line.startswith("#")] for file in files)
    assert [line for line in gpu + service if "==" not in line] == []
    assert gpu[0].startswith("torch==")
    assert any(line.startswith("fastapi==") for line in service)


def test_only_the_cpu_image_has_the_current_client_of_the_hub(manifest: Manifest) -> None:
    """The GPU image has the older one that transformers requires, and never calls the Hub."""

    def versions(function: str) -> list[str]:
        files = [file.decode() for file in _context_files(manifest, manifest.functions[function][0].image_id)]
        return re.findall(r"^huggingface-hub==(\d+)", "".join(files), re.MULTILINE)

    assert (versions("fetch_weights"), versions("Worker.*")) == (["2"], ["0"])


def test_code_change_rebuilds_no_layer(manifest: Manifest) -> None:
    """The code is mounted when a container starts; no build step copies it."""
    worker = manifest.functions["Worker.*"][0]
    assert [command for command in manifest.commands(worker.image_id) if "/root" in command] == []
    mounted = {name for mount in worker.mount_ids for name in manifest.mounts[mount]}
    modules = ("worker/runner/worker.py", "shared/repositories/jobs.py", "infra/modal_app/functions.py", "api/app.py")
    assert {f"/root/{module}" for module in modules} <= mounted


def _context_files(manifest: Manifest, image_id: str) -> list[bytes]:
    image = manifest.images[image_id]
    before = [data for base in image.base_images for data in _context_files(manifest, base.image_id)]
    return before + [file.data for file in image.context_files]
