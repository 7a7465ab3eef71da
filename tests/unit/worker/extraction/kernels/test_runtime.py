"""Starting Warp, and the kernels that every phase shares."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.worker.extraction.conftest import triangle
from worker.extraction.kernels import runtime


def test_kernels_are_kept_where_they_are_wanted_and_nothing_is_printed(tmp_path: Path) -> None:
    """Neither a banner nor a warning that there is no GPU."""
    program = (
        "import sys; from pathlib import Path; import warp as wp; from worker.extraction.kernels import runtime; "
        "from worker.extraction.render import poster; "
        "runtime.set_cache(Path(sys.argv[1])); print(wp.config.kernel_cache_dir)"
    )
    run = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert (Path(run.stdout.strip()).parent, run.stderr) == (tmp_path, "")


def test_closest_place_on_a_triangle() -> None:
    """Above its inside, its edge and its corner."""
    surface = runtime.build_bvh(triangle().vertices, triangle().faces, "cpu")
    points = np.array([[0, 0, 0.1], [0, -0.5, 0], [0.5, -0.3, 0]], np.float32)
    place, distance = runtime.find_closest_points(surface, points)
    assert place == pytest.approx(np.array([[0, 0, 0], [0, -0.3, 0], [0.3, -0.3, 0]]), abs=1e-6)
    assert distance == pytest.approx([0.1, 0.2, 0.2], abs=1e-6)


def test_first_hit_of_a_ray() -> None:
    """From the front, from behind, and past it; no farther than the ray reaches."""
    surface = runtime.build_bvh(triangle().vertices, triangle().faces, "cpu")
    origins = np.array([[0, 0, 1], [0, 0, -1], [1, 0, 1], [0, 0, 9]], np.float32)
    directions = np.array([[0, 0, -1], [0, 0, 1], [0, 0, -1], [0, 0, -1]], np.float32)
    face, cosine = runtime.cast_rays(surface, origins, directions, reach=2.0)
    assert face.tolist() == [0, 0, -1, -1]
    assert cosine[:2] == pytest.approx([-1, 1])
