"""`modal deploy -m infra.app` asks Modal for exactly what the service needs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from modal_proto import api_pb2

from bench.fleet.control_plane.deployments import Manifest
from bench.fleet.control_plane.server import ControlPlane

APP = Path(__file__).parents[2] / "infra" / "app.py"
NOT_ALLOWED = ("nvdiffrast", "nvdiffrec", "RMBG", "flash-attn", "flash_attn", "o_voxel")


def deployed(plane: ControlPlane, **settings: str) -> Manifest:
    """What the command line asks for under these settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRELLIS2_")} | settings
    command = [sys.executable, "-m", "modal", "deploy", "-m", "infra.app"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return plane.manifest


@pytest.fixture(scope="module")
def manifest(running_plane: ControlPlane) -> Manifest:
    """A deployment with the default settings."""
    return deployed(running_plane)


def test_every_body_is_one_call() -> None:
    """What the functions do lies where it can be tested without Modal; the module says only what runs where."""
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


def test_six_functions_are_deployed(manifest: Manifest) -> None:
    """A gateway, a worker class, a reconciler, a scheduler, a notifier, and what fills the volume."""
    assert manifest.name == "trellis2"
    names = ["Worker.*", "fetch_weights", "gateway", "notifier", "reconciler", "scheduler"]
    assert sorted(manifest.functions) == names


def test_the_worker_wants_an_a100_and_falls_back_to_an_h100(manifest: Manifest) -> None:
    """In this order; Modal takes the first that it has."""
    wanted = [one.resources.gpu_config.gpu_type for one in manifest.functions["Worker.*"]]
    assert wanted == ["A100-80GB", "H100"]


def test_the_worker_asks_for_its_cores_and_sizes_its_pools_to_them(manifest: Manifest) -> None:
    """Without asking it would get an eighth of a core, and without telling its libraries a thread for each of 64."""
    for worker in manifest.functions["Worker.*"]:
        assert (worker.resources.milli_cpu, worker.resources.memory_mb) == (8_000, 32_768)
        assert manifest.environment(worker)["OMP_NUM_THREADS"] == "8"


def test_no_container_starts_more_threads_than_it_asked_for_cores(manifest: Manifest) -> None:
    """The host has many more, and the numerical libraries would take a thread and its memory for each of them."""
    for name in ("gateway", "reconciler", "scheduler", "notifier"):
        (function,) = manifest.functions[name]
        told = manifest.environment(function)
        assert {told["OMP_NUM_THREADS"], told["OPENBLAS_NUM_THREADS"]} == {"1"}


def test_three_tickets_share_a_worker(manifest: Manifest) -> None:
    """While one samples, two extract and upload."""
    assert {one.max_concurrent_inputs for one in manifest.functions["Worker.*"]} == {3}


def test_the_fleet_is_bounded_and_idles_at_nothing(manifest: Manifest) -> None:
    """Eight workers at most, none kept warm, gone two minutes after the last ticket."""
    worker = manifest.functions["Worker.*"][0]
    scaling = worker.autoscaler_settings
    assert (scaling.max_containers, scaling.min_containers, scaling.scaledown_window) == (8, 0, 120)
    (gateway,) = manifest.functions["gateway"]
    assert gateway.autoscaler_settings.min_containers == 0


def test_a_ticket_may_take_as_long_as_two_turns_and_three_attempts(manifest: Manifest) -> None:
    """The ledger's deadline ends an attempt, Modal's timeout only what has gone wrong altogether."""
    worker = manifest.functions["Worker.*"][0]
    assert (worker.timeout_secs, worker.startup_timeout_secs) == (5 * 900 + 120, 900)


def test_modal_retries_nothing(manifest: Manifest) -> None:
    """Attempts are counted in the ledger alone."""
    assert {one.retry_policy.retries for one in manifest.functions["Worker.*"]} == {0}


@pytest.mark.parametrize("name", ["reconciler", "scheduler", "notifier"])
def test_what_repairs_runs_each_minute_whatever_is_deployed_meanwhile(manifest: Manifest, name: str) -> None:
    """By Cron, since a Period would begin anew with every deployment; one at a time, and gone when it is done."""
    (function,) = manifest.functions[name]
    assert function.schedule.cron.cron_string == "* * * * *"
    scaling = function.autoscaler_settings
    assert (function.resources.milli_cpu, scaling.max_containers, scaling.scaledown_window) == (250, 1, 2)
    assert all(not one.HasField("schedule") for one in manifest.functions["Worker.*"])


def test_only_those_who_need_a_secret_get_it(manifest: Manifest) -> None:
    """The bucket's goes to five, the Hub's token to one alone."""
    names = {name: manifest.secret_names(definitions[0]) for name, definitions in manifest.functions.items()}
    assert names == {
        "gateway": {"trellis2-bucket"},
        "Worker.*": {"trellis2-bucket"},
        "reconciler": {"trellis2-bucket"},
        "scheduler": {"trellis2-bucket"},
        "notifier": {"trellis2-bucket"},
        "fetch_weights": {"huggingface"},
    }


def test_no_secret_travels_as_a_plain_variable(running_plane: ControlPlane) -> None:
    """Whatever the environment of whoever deploys holds."""
    manifest = deployed(running_plane, TRELLIS2_S3_SECRET_KEY="s3cret", TRELLIS2_REQUEUE_AFTER_S="30")
    told = manifest.environment(manifest.functions["gateway"][0])
    assert "s3cret" not in told.values()
    assert (told["TRELLIS2_REQUEUE_AFTER_S"], told["TRELLIS2_STORE"]) == ("30", "s3")


def test_workers_read_their_weights_and_share_their_caches(manifest: Manifest) -> None:
    """Only `fetch_weights` may write the weights; what one worker tunes, the next one finds."""
    worker = manifest.functions["Worker.*"][0]
    assert manifest.volume_names(worker) == {
        "/weights": ("trellis2-weights", True),
        "/caches": ("trellis2-caches", False),
    }
    assert manifest.volume_names(manifest.functions["fetch_weights"][0]) == {"/weights": ("trellis2-weights", False)}
    told = manifest.environment(worker)
    assert told["TRITON_CACHE_DIR"].startswith("/caches/")
    assert told["TRELLIS2_DATA_DIR"] == "/caches"  # where Warp's kernels are kept
    assert told["HF_HUB_OFFLINE"] == "1"


def test_the_gateway_is_a_web_app_that_serves_many_at_once(manifest: Manifest) -> None:
    """Open to our own API keys; Modal's proxy tokens are a setting."""
    (gateway,) = manifest.functions["gateway"]
    assert gateway.webhook_config.type == api_pb2.WEBHOOK_TYPE_ASGI_APP
    assert not gateway.webhook_config.requires_proxy_auth
    assert (gateway.max_concurrent_inputs, gateway.target_concurrent_inputs) == (200, 100)
    assert not gateway.resources.gpu_config.gpu_type


def test_settings_change_what_is_asked_for(running_plane: ControlPlane) -> None:
    """GPU kinds, proxy auth, warm workers, ceiling, snapshots and region are all the operator's."""
    manifest = deployed(
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


def test_without_a_gpu_the_relief_engine_works_alone(running_plane: ControlPlane) -> None:
    """The cheapest deployment: no GPU, no weights, the same service."""
    manifest = deployed(running_plane, TRELLIS2_GPU="")
    (worker,) = manifest.functions["Worker.*"]
    assert not worker.resources.gpu_config.gpu_type
    assert not any("torch" in command for command in manifest.commands(worker.image_id))


def test_without_a_gpu_no_token_of_the_hub_is_asked_for(running_plane: ControlPlane) -> None:
    """There are no weights to fetch: whoever tries the service so needs no account there."""
    running_plane.missing_secrets = {"huggingface"}
    try:
        manifest = deployed(running_plane, TRELLIS2_GPU="")
    finally:
        running_plane.missing_secrets = set()
    assert manifest.secret_names(manifest.functions["fetch_weights"][0]) == set()


def test_the_image_holds_nothing_that_may_not_be_used_commercially(manifest: Manifest) -> None:
    """Nor flash-attn, which nothing needs."""
    for definitions in manifest.functions.values():
        image_id = definitions[0].image_id
        files = [file.decode() for file in _context_files(manifest, image_id)]
        built = "\n".join(manifest.commands(image_id) + files)
        assert [name for name in NOT_ALLOWED if name in built] == []


@pytest.mark.parametrize("version", ["2025.06", "2026.10"])
def test_older_workspaces_build_their_images_differently_and_from_the_same_pins(
    running_plane: ControlPlane, version: str
) -> None:
    """A workspace keeps the builder that it began with, unless somebody changes it."""
    before, running_plane.image_builder_version = running_plane.image_builder_version, version
    try:
        manifest = deployed(running_plane)
    finally:
        running_plane.image_builder_version = before
    worker = manifest.functions["Worker.*"][0]
    assert len(_context_files(manifest, worker.image_id)) == 2
    assert any("python:3.11" in command for command in manifest.commands(worker.image_id))


def test_everything_in_the_image_is_pinned(manifest: Manifest) -> None:
    """Every package to a version, those of the GPU in a layer below those of the service."""
    worker = manifest.functions["Worker.*"][0]
    files = [file.decode().splitlines() for file in _context_files(manifest, worker.image_id)]
    gpu, service = ([line for line in file if not line.startswith("#")] for file in files)
    assert [line for line in gpu + service if "==" not in line] == []
    assert gpu[0].startswith("torch==")
    assert any(line.startswith("fastapi==") for line in service)


def test_only_the_cpu_image_has_the_client_of_the_hub(manifest: Manifest) -> None:
    """The GPU image has the older one that transformers asks for, and never calls the Hub."""

    def versions(function: str) -> list[str]:
        files = [file.decode() for file in _context_files(manifest, manifest.functions[function][0].image_id)]
        return re.findall(r"^huggingface-hub==(\d+)", "".join(files), re.MULTILINE)

    assert (versions("fetch_weights"), versions("Worker.*")) == (["2"], ["0"])


def test_a_change_of_code_rebuilds_no_layer(manifest: Manifest) -> None:
    """It is mounted when a container starts: no build step copies it."""
    worker = manifest.functions["Worker.*"][0]
    assert [command for command in manifest.commands(worker.image_id) if "/root" in command] == []
    mounted = {name for mount in worker.mount_ids for name in manifest.mounts[mount]}
    modules = ("worker/runner/worker.py", "shared/repositories/jobs.py", "infra/modal_app/functions.py", "api/app.py")
    assert {f"/root/{module}" for module in modules} <= mounted


def _context_files(manifest: Manifest, image_id: str) -> list[bytes]:
    image = manifest.images[image_id]
    before = [data for base in image.base_images for data in _context_files(manifest, base.image_id)]
    return before + [file.data for file in image.context_files]
