"""Scaling to real dimensions, and the check of the proportions."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import ValidationError

from bench.geometry.glb_reader import read_glb
from shared.domain.parameters import UNBOUND, Dimensions, ExportParameters
from tests.unit.worker.extraction.conftest import LABELS
from worker.engine import Surface
from worker.extraction import export
from worker.extraction.model.asset import Mesh, check_stretch, measure_sides_m, scale_to_dimensions

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made


def sides(points: np.ndarray) -> np.ndarray:
    """Sizes of the bounding box; [3]."""
    return np.ptp(points, axis=0)


def face_normals(mesh: Mesh) -> np.ndarray:
    """Unit normals; [faces, 3]."""
    a, b, c = (mesh.positions[mesh.faces[:, corner]] for corner in range(3))
    perpendicular = np.cross(b - a, c - a)
    return np.asarray(perpendicular / (np.linalg.norm(perpendicular, axis=1, keepdims=True) + 1e-12))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_given_side_scales_all_axes_by_the_same_factor(made: "Made", axis: int) -> None:
    """The lowest point stays at y = 0, the middle at x = z = 0."""
    mesh = made("knot").mesh
    given = {("width", "height", "depth")[axis]: 0.25}
    larger = scale_to_dimensions(mesh, Dimensions.model_validate(given))
    assert sides(larger.positions)[axis] == pytest.approx(0.25, rel=1e-6)
    assert np.allclose(larger.positions / mesh.positions.max(), mesh.positions * (0.25 / sides(mesh.positions)[axis])
                       / mesh.positions.max(), atol=1e-6)  # fmt: skip
    assert np.allclose(larger.normals, mesh.normals, atol=1e-6)
    assert larger.positions[:, 1].min() == 0


def test_the_largest_of_several_sides_sets_the_scale(made: "Made") -> None:
    """Proportions do not change."""
    mesh = made("knot").mesh
    larger = scale_to_dimensions(mesh, Dimensions(width=1.0, height=3.0, depth=2.0))
    assert sides(larger.positions)[1] == pytest.approx(3.0)
    assert np.allclose(sides(larger.positions) / sides(mesh.positions), 3.0 / sides(mesh.positions)[1], rtol=1e-5)


def test_an_exact_box_is_exact_and_its_normals_stay_perpendicular(made: "Made") -> None:
    """Normals are those of the stretched surface."""
    mesh = made("knot").mesh
    larger = scale_to_dimensions(mesh, Dimensions(width=1.0, height=3.0, depth=2.0, fit="exact"))
    assert np.allclose(sides(larger.positions), [1.0, 3.0, 2.0], rtol=1e-5)
    perpendicular = face_normals(larger)
    turned, kept = (
        (perpendicular * normals[mesh.faces[:, 0]]).sum(axis=1).mean() for normals in (larger.normals, mesh.normals)
    )
    assert turned > kept + 0.05


def test_an_exact_side_that_is_not_given_scales_by_the_geometric_mean(made: "Made") -> None:
    """Of the factors of the given sides."""
    mesh = made("knot").mesh
    width, height, depth = sides(mesh.positions)
    larger = scale_to_dimensions(mesh, Dimensions(width=2 * width, height=8 * height, fit="exact"))
    assert sides(larger.positions)[2] == pytest.approx(4 * depth, rel=1e-5)


@pytest.mark.parametrize(("stretch", "passed"), [(1.0, True), (1.09, True), (1.25, False)])
def test_check_stretch_measures_how_far_sides_deviate_from_the_proportions(
    made: "Made", stretch: float, passed: bool
) -> None:
    """By the ratio of the two scale factors."""
    mesh = made("knot").mesh
    width, height, _ = (float(side) for side in sides(mesh.positions))
    check = check_stretch(mesh, Dimensions(width=0.1 * width, height=0.1 * stretch * height))
    assert check
    assert (check.name, check.measured, check.passed) == ("max_stretch", pytest.approx(stretch - 1, abs=1e-3), passed)


def test_one_side_gets_no_stretch_check(made: "Made") -> None:
    """It cannot contradict the proportions."""
    assert check_stretch(made("knot").mesh, Dimensions(height=1.0)) is None


@pytest.mark.parametrize("fit", ["uniform", "exact"])
def test_export_scales_the_file_and_adds_the_check(surfaces: dict[str, Surface], fit: str) -> None:
    """`uniform` and `exact` measure the same stretch."""
    dimensions = Dimensions.model_validate({"width": 0.3, "height": 0.3, "depth": 0.3, "fit": fit})
    parameters = ExportParameters(decimation_target=4_000, texture_size=512, dimensions_m=dimensions)
    product = export(surfaces["knot"], parameters, UNBOUND, provenance=LABELS, progress=lambda _: None)
    measured = sides(read_glb(product.asset.glb).positions)
    assert np.allclose(measured, measure_sides_m(product.asset.mesh), atol=1e-4)
    assert measured.max() == pytest.approx(0.3, abs=1e-4) or measured[0] == pytest.approx(0.3)
    (check,) = product.checks
    assert (check.name, check.passed) == ("max_stretch", False)
    assert check.measured == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("given", [{}, {"width": 0}, {"width": -1}, {"height": 1001}, {"length": 1}, {"fit": "exact"}])
def test_empty_or_invalid_dimensions_are_refused(given: dict[str, object]) -> None:
    """When the request is validated."""
    with pytest.raises(ValidationError):
        Dimensions.model_validate(given)
