"""Fixtures that several layers of tests share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from bench.fleet.control_plane.server import ControlPlane
    from bench.support.ceph import Ceph


# Speed is never tested by the clock: machines are shared.
hypothesis.settings.register_profile("ours", deadline=None)
hypothesis.settings.load_profile("ours")

# Whoever runs the tests in the background makes them, and all that they start, deaf to SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A service that runs one job at a time, however many cores there are, unless a test says otherwise.
os.environ["TRELLIS2_PARALLEL_JOBS"] = "1"

# Tests that run in parallel share the cores: one thread of OpenMP for each, or they wait for each other, spinning.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Kernels are compiled once for all runs, not for half a minute in each data folder.
os.environ["WARP_CACHE_PATH"] = str(Path(__file__).parents[1] / "var" / "kernels")


@pytest.fixture(scope="session")
def running_plane() -> Iterator["ControlPlane"]:
    """Modal's control plane on loopback; one to a session, since the SDK keeps its connection for good."""
    from bench.fleet.control_plane.server import ControlPlane, GrpcServer

    plane = ControlPlane()
    serving = GrpcServer(plane)
    os.environ |= {
        "MODAL_SERVER_URL": serving.start(),
        "MODAL_TOKEN_ID": "ak-test",
        "MODAL_TOKEN_SECRET": "as-test",
        "MODAL_CONFIG_PATH": os.devnull,
    }
    yield plane
    serving.stop()


@pytest.fixture
def control_plane(running_plane: "ControlPlane") -> Iterator["ControlPlane"]:
    """The control plane, in good health and with no inputs."""
    running_plane.reset_faults()
    running_plane.reset_inputs()
    yield running_plane
    running_plane.reset_faults()
    running_plane.reset_inputs()
    assert running_plane.unanswered == set()


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Ceph"]:
    """Ceph's S3 gateway. Where its programs are missing: skip on a laptop, fail in CI."""
    from bench.support.ceph import missing_programs, run_ceph

    if missing := missing_programs():
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"no Ceph: {', '.join(missing)} missing; tests/install-peers installs them where it can")
    with run_ceph(tmp_path_factory.mktemp("ceph")) as running:
        yield running
