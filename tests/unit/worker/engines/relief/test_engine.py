"""The engine: image to state to surface."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.domain.job import Stage
from shared.domain.parameters import Parameters
from shared.errors import JobStopped, NoObjectFound, StateMissing
from tests.support.fakes import progress_to
from tests.unit.worker.engines.relief.mesh_assertions import assert_closed_manifold
from tests.unit.worker.engines.relief.sample_images import (
    NEARLY_WHITE,
    ORANGE,
    SIDE_PX,
    cut,
    disc_share,
    opaque,
    painted,
    plain,
)
from worker.engine import Engine, InputImage, Progress, State, Surface
from worker.engines.relief import Relief

SMALL = Parameters(pipeline_type="512")


def sample(image: InputImage, *, seed: int = 1, parameters: Parameters = SMALL) -> State:
    return Relief().sample(image, parameters, seed, Progress())


@pytest.fixture(scope="module")
def torus() -> Surface:
    """A torus: the surface of an orange ring."""
    return Relief().decode(sample(cut(disc_share(60, hole_px=42))), Progress())


def attributes_at(surface: Surface, point: Sequence[float]) -> NDArray[np.float32]:
    """The attributes of the voxel nearest to a point."""
    cell = (np.asarray(point) + 0.5) * surface.resolution - 0.5
    return surface.attributes[((surface.coords - cell) ** 2).sum(axis=1).argmin()]


def test_relief_is_an_engine() -> None:
    """The class implements the port."""
    engine: Engine = Relief()
    assert engine.name == "relief"


def test_surface_is_closed_and_manifold(torus: Surface) -> None:
    """No boundary, no non-manifold edges, no degenerate faces, wound outward."""
    assert_closed_manifold(torus.vertices, torus.faces)


def test_surface_has_the_types_and_ranges_of_the_port(torus: Surface) -> None:
    """Shapes, dtypes and ranges are those that Surface documents."""
    assert (np.float32, np.int32, np.int32, np.float32) == tuple(
        array.dtype for array in (torus.vertices, torus.faces, torus.coords, torus.attributes)
    )
    assert (512, (len(torus.coords), 6)) == (torus.resolution, torus.attributes.shape)
    for values, low, high in ((torus.coords, 0, 511), (torus.attributes, 0, 1)):
        assert low <= values.min() < values.max() <= high
    assert len(torus.coords) == len(np.unique(torus.coords @ [512**2, 512, 1]))


def test_object_fills_the_cube_upright_and_centred(torus: Surface) -> None:
    """The longer side spans nearly one unit, the centre is at the origin, front and back bulge."""
    low, high = torus.vertices.min(axis=0), torus.vertices.max(axis=0)
    np.testing.assert_allclose(high[:2], 0.485, atol=0.01)
    np.testing.assert_allclose(low[:2], -0.485, atol=0.01)
    assert -0.5 < low[2] < -0.05 < 0.05 < high[2] < 0.5


def test_every_point_of_the_surface_finds_its_voxels(torus: Surface) -> None:
    """Of the eight voxels around any point of the surface most exist, nearly everywhere all do."""
    random = np.random.default_rng(2)
    corners = torus.vertices[torus.faces[random.integers(0, len(torus.faces), 20_000)]]
    points = (corners * random.dirichlet((1, 1, 1), len(corners))[..., None]).sum(axis=1)
    present = np.zeros((513,) * 3, np.bool_)
    present[tuple(torus.coords.T)] = True
    base = np.floor((points + 0.5) * 512 - 0.5).astype(int)
    offsets = np.stack(np.meshgrid(*3 * [[0, 1]]), axis=-1).reshape(-1, 3)
    existing = present[tuple((base[:, None] + offsets).T)].sum(axis=0)
    assert existing.min() >= 4
    assert (existing == 8).mean() > 0.99


def test_hole_goes_through(torus: Surface) -> None:
    """A torus has a hole: its Euler characteristic is zero."""
    edges = len(torus.faces) * 3 // 2
    assert len(torus.vertices) - edges + len(torus.faces) == 0


def test_sides_show_no_background(torus: Surface) -> None:
    """The green behind the object is not visible anywhere, sides and back included."""
    red, green = torus.attributes[:, 0], torus.attributes[:, 1]
    assert bool((green < red).all())


def test_left_and_top_of_the_image_stay_left_and_top() -> None:
    """Seen from +Z, the image's left is at -X and its top at +Y; the same holds for the front's colours."""
    rgba = cut(np.ones((SIDE_PX, SIDE_PX), np.float32)).rgba
    rgba[:, :, :3] = 128
    rgba[:100, :100, :3] = (255, 0, 0)
    rgba[100:, 100:, :3] = (0, 0, 255)
    surface = Relief().decode(sample(InputImage(rgba, has_alpha=True)), Progress())
    np.testing.assert_allclose(attributes_at(surface, (-0.25, 0.25, 0.5))[:3], (1, 0, 0), atol=0.1)
    np.testing.assert_allclose(attributes_at(surface, (0.25, -0.25, 0.5))[:3], (0, 0, 1), atol=0.1)
    np.testing.assert_allclose(attributes_at(surface, (0.25, -0.25, -0.5))[:3], (0, 0, 1), atol=0.3)


def test_opaque_image_gives_opaque_material(torus: Surface) -> None:
    """Soft edges in the alpha channel are coverage, not glass."""
    np.testing.assert_array_equal(torus.attributes[:, 5], 1)


def test_translucent_image_gives_translucent_material() -> None:
    """Glass stays glass, with the image's own alpha."""
    surface = Relief().decode(sample(cut(disc_share(), alpha=0.4)), Progress())
    np.testing.assert_allclose(surface.attributes[:, 5], 0.4, atol=0.02)


def test_white_product_on_white_becomes_a_body() -> None:
    """The hardest ordinary case: pale on pale, with a soft shadow."""
    surface = Relief().decode(sample(opaque(painted(disc_share(), NEARLY_WHITE, plain(shadow=0.3)))), Progress())
    width, height, _ = np.ptp(surface.vertices, axis=0)
    assert width == pytest.approx(height, rel=0.1)


def test_same_seed_gives_the_same_bytes() -> None:
    """The state and the surface are functions of image, parameters and seed."""
    first, second = (sample(opaque(painted(disc_share(), ORANGE, plain()))) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()
    surfaces = [Relief().decode(state, Progress()) for state in (first, State.from_bytes(second.to_bytes()))]
    for name in ("vertices", "faces", "coords", "attributes"):
        np.testing.assert_array_equal(*(getattr(surface, name) for surface in surfaces))


def test_another_seed_gives_a_slightly_different_body() -> None:
    """The seed moves the surface by a hundredth or two, and the outline not at all."""
    first, second = (sample(cut(disc_share()), seed=seed).arrays for seed in (1, 2))
    assert not np.array_equal(first["front"], second["front"])
    np.testing.assert_array_equal(first["front"] > 0, second["front"] > 0)
    scale = 512 / (2 * np.iinfo(np.int16).max)
    assert np.abs(first["front"].astype(float) - second["front"]).max() * scale / 512 < 0.01


@pytest.mark.parametrize(("pipeline_type", "side"), [("512", 512), ("1024", 1024), ("1024_cascade", 1024)])
def test_pipeline_type_sets_the_resolution(pipeline_type: str, side: int) -> None:
    """The grid is as fine as the pipeline's name says."""
    state = sample(cut(disc_share()), parameters=Parameters.model_validate({"pipeline_type": pipeline_type}))
    assert [side] == state.arrays["side"].tolist()


@pytest.mark.parametrize(
    "image",
    [
        opaque(painted(disc_share() * 0, ORANGE, plain())),
        cut(disc_share() * 0),
        cut(disc_share(2)),
        opaque(np.full((1, 1, 3), 255, np.uint8)),
        opaque(np.full((1, 900, 3), 255, np.uint8)),
    ],
    ids=["bare background", "nothing covered", "a few pixels", "one pixel", "one row"],
)
def test_image_without_an_object_is_rejected(image: InputImage) -> None:
    """Where nothing stands out, the engine raises."""
    with pytest.raises(NoObjectFound):
        sample(image)


def test_stages_are_reported_in_order() -> None:
    """Sampling reports structure, shape and texture; decoding reports decode. Fractions rise within a stage."""
    reports: list[tuple[Stage, float]] = []
    state = Relief().sample(cut(disc_share()), SMALL, 1, progress_to(lambda *report: reports.append(report)))
    Relief().decode(state, progress_to(lambda *report: reports.append(report)))
    assert [Stage.SPARSE_STRUCTURE, Stage.SHAPE, Stage.TEXTURE, Stage.DECODE] == list(dict(reports))
    order = list(Stage)
    assert reports == sorted(reports, key=lambda report: (order.index(report[0]), report[1]))


def test_cancel_passes_through() -> None:
    """What the progress callback raises reaches the caller."""

    def stop(stage: Stage, _: float) -> None:
        if stage is Stage.TEXTURE:
            raise JobStopped("canceled")

    with pytest.raises(JobStopped):
        Relief().sample(cut(disc_share()), SMALL, 1, progress_to(stop))


@pytest.mark.parametrize(
    "state", [State("trellis", {}), State("relief", {}), State("relief", {"side": np.array([512])})]
)
def test_foreign_state_is_rejected(state: State) -> None:
    """A state of another engine, or without the arrays, raises StateMissing instead of crashing."""
    with pytest.raises(StateMissing):
        Relief().decode(state, Progress())
