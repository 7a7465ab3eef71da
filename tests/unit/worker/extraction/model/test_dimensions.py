"""Real dimensions: how large the model becomes, and what is said of its proportions."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import ValidationError

from bench.geometry.glb_reader import read
from shared.domain.parameters import Dimensions, ExportParameters
from shared.domain.preset_limits import UNBOUND
from tests.unit.worker.extraction.conftest import LABELS
from worker.engine import Surface
from worker.extraction import export
from worker.extraction.model.asset import Mesh
from worker.extraction.model.dimensions import check_stretch, measure_sides_m, scale_to_dimensions

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made


def sides(points: np.ndarray) -> np.ndarray:
    """Of the box around points."""
    return np.ptp(points, axis=0)


def face_normals(mesh: Mesh) -> np.ndarray:
    """Of length one."""
    a, b, c = (mesh.positions[mesh.faces[:, corner]] for corner in range(3))
    upright = np.cross(b - a, c - a)
    return np.asarray(upright / (np.linalg.norm(upright, axis=1, keepdims=True) + 1e-12))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_side_given_scales_all_alike(made: "Made", axis: int) -> None:
    """The model stays on the floor, in its middle."""
    mesh = made("knot").mesh
    given = {("width", "height", "depth")[axis]: 0.25}
    larger = scale_to_dimensions(mesh, Dimensions.model_validate(given))
    assert sides(larger.positions)[axis] == pytest.approx(0.25, rel=1e-6)
    assert np.allclose(larger.positions / mesh.positions.max(), mesh.positions * (0.25 / sides(mesh.positions)[axis])
                       / mesh.positions.max(), atol=1e-6)  # fmt: skip
    assert np.allclose(larger.normals, mesh.normals, atol=1e-6)
    assert larger.positions[:, 1].min() == 0


def test_of_several_sides_the_largest_counts(made: "Made") -> None:
    """Proportions stay as they are."""
    mesh = made("knot").mesh
    larger = scale_to_dimensions(mesh, Dimensions(width=1.0, height=3.0, depth=2.0))
    assert sides(larger.positions)[1] == pytest.approx(3.0)
    assert np.allclose(sides(larger.positions) / sides(mesh.positions), 3.0 / sides(mesh.positions)[1], rtol=1e-5)


def test_an_exact_box_is_exact_and_its_normals_stay_upright(made: "Made") -> None:
    """They are those of the stretched surface: at right angles to its faces."""
    mesh = made("knot").mesh
    larger = scale_to_dimensions(mesh, Dimensions(width=1.0, height=3.0, depth=2.0, fit="exact"))
    assert np.allclose(sides(larger.positions), [1.0, 3.0, 2.0], rtol=1e-5)
    upright = face_normals(larger)
    turned, kept = (
        (upright * normals[mesh.faces[:, 0]]).sum(axis=1).mean() for normals in (larger.normals, mesh.normals)
    )
    assert turned > kept + 0.05


def test_an_exact_side_that_is_not_given_grows_as_the_others_do(made: "Made") -> None:
    """By their geometric mean."""
    mesh = made("knot").mesh
    width, height, depth = sides(mesh.positions)
    larger = scale_to_dimensions(mesh, Dimensions(width=2 * width, height=8 * height, fit="exact"))
    assert sides(larger.positions)[2] == pytest.approx(4 * depth, rel=1e-5)


@pytest.mark.parametrize(("stretch", "passed"), [(1.0, True), (1.09, True), (1.25, False)])
def test_sides_that_do_not_go_together_are_told_of(made: "Made", stretch: float, passed: bool) -> None:
    """By how much one would have to be stretched more than another."""
    mesh = made("knot").mesh
    width, height, _ = (float(side) for side in sides(mesh.positions))
    check = check_stretch(mesh, Dimensions(width=0.1 * width, height=0.1 * stretch * height))
    assert check
    assert (check.name, check.measured, check.passed) == ("max_stretch", pytest.approx(stretch - 1, abs=1e-3), passed)


def test_one_side_says_nothing_of_proportions(made: "Made") -> None:
    """So there is no such check."""
    assert check_stretch(made("knot").mesh, Dimensions(height=1.0)) is None


@pytest.mark.parametrize("fit", ["uniform", "exact"])
def test_the_file_has_the_dimensions_and_the_check(surfaces: dict[str, Surface], fit: str) -> None:
    """Both ways of fitting tell of the same stretch."""
    dimensions = Dimensions.model_validate({"width": 0.3, "height": 0.3, "depth": 0.3, "fit": fit})
    parameters = ExportParameters(decimation_target=4_000, texture_size=512, dimensions_m=dimensions)
    product = export(surfaces["knot"], parameters, UNBOUND, provenance=LABELS, progress=lambda _: None)
    measured = sides(read(product.asset.glb).positions)
    assert np.allclose(measured, measure_sides_m(product.asset.mesh), atol=1e-4)
    assert measured.max() == pytest.approx(0.3, abs=1e-4) or measured[0] == pytest.approx(0.3)
    (check,) = product.checks
    assert (check.name, check.passed) == ("max_stretch", False)
    assert check.measured == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("given", [{}, {"width": 0}, {"width": -1}, {"height": 1001}, {"length": 1}, {"fit": "exact"}])
def test_dimensions_that_say_nothing_or_nonsense_are_refused(given: dict[str, object]) -> None:
    """At the submit."""
    with pytest.raises(ValidationError):
        Dimensions.model_validate(given)
