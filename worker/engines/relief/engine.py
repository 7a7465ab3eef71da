"""The relief engine: cuts the object out of its picture, inflates its silhouette, paints it from the picture."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.domain.job import Stage
from shared.domain.parameters import Parameters, PipelineType
from shared.errors import NoObjectFound, StateMissing
from worker.engine import InputImage, Progress, State, Surface
from worker.engines.relief import material
from worker.engines.relief.foreground.crop import ObjectCrop, crop_object
from worker.engines.relief.foreground.silhouette import extract_matte
from worker.engines.relief.geometry import bump_detail
from worker.engines.relief.geometry.column_occupancy import build_columns, coarsen
from worker.engines.relief.geometry.depth_maps import DepthMaps
from worker.engines.relief.geometry.inflate import inflate
from worker.engines.relief.geometry.signed_distance import signed_distance
from worker.engines.relief.geometry.surface_nets import find_surface_cells, mesh_columns
from worker.engines.relief.geometry.voxel_colours import prepare_colours, surface_voxels
from worker.engines.relief.resampling import downscale

# Cells along each side of the grid.
SIDES: dict[PipelineType, int] = {"512": 512, "1024": 1024, "1024_cascade": 1024, "1536_cascade": 1536}

SKIN_SHARE = 2 / 3  # cells of the surface per voxel: colours need finer cells than shape does
VOXELS_AT_ONCE = 2_000_000

BACK_DEPTH = (0.72, 0.88)  # of the front's: backs are mostly flatter; the seed decides how much
MAX_BUMP = 0.3  # of the half thickness: fine depth must not break through thin parts


class Relief:
    """An engine without weights or GPU: deterministic, a second or two, and honest about guessing the back."""

    name = "relief"

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """Turn the picture into a body. The sampler's steps and guidance mean nothing here.

        Raises:
            NoObjectFound: nothing in the picture stands out from its background.
        """
        side = SIDES[parameters.pipeline_type]
        progress(Stage.SPARSE_STRUCTURE, 0)
        rgba = downscale(image.rgba, 2 * side)
        share = extract_matte(rgba, parameters.background, has_alpha=image.has_alpha)
        progress.show_preview(np.dstack([rgba[..., :3], np.rint(255 * share).astype(np.uint8)]))
        progress(Stage.SPARSE_STRUCTURE, 0.7)
        framed = crop_object(rgba, share, side)
        distance = signed_distance(framed.coverage)
        if not (distance > 1).any():
            raise NoObjectFound("the object is too thin to be made out: send a closer picture")
        progress(Stage.SHAPE, 0)
        squared = inflate(distance)
        progress(Stage.SHAPE, 0.5)
        colour = material.extend_inside_colours(framed.colour, distance, _edge_cells(framed))
        front, back = _halves(squared, colour, distance, seed)
        progress(Stage.TEXTURE, 0)
        attributes = _attributes(colour, framed, distance)
        progress(Stage.TEXTURE, 0.8)
        arrays = DepthMaps(front, back, attributes).pack()
        progress(Stage.TEXTURE, 1)
        return State(self.name, arrays, {"seed": str(seed), "pipeline_type": parameters.pipeline_type})

    def decode(self, state: State, progress: Progress) -> Surface:
        """Build the surface and the voxels around it.

        Raises:
            StateMissing: the state is not a relief's.
        """
        if state.engine != self.name:
            raise StateMissing(f"the state was made by the engine {state.engine}, not by {self.name}")
        progress(Stage.DECODE, 0)
        body = DepthMaps.unpack(state.arrays)
        side = body.front.shape[0]
        front, back = (_by_x_and_y(half) for half in (body.front, body.back))
        squares = front * np.abs(front), back * np.abs(back)
        vertices, faces = _skin(*squares, lambda: progress(Stage.DECODE, 0.3))
        progress(Stage.DECODE, 0.4)
        paint = prepare_colours(_by_x_and_y(body.attributes), np.maximum(front, 0))
        progress(Stage.DECODE, 0.6)
        column, level = surface_voxels(find_surface_cells(build_columns(*squares)))
        attributes = np.empty((column.size, 6), np.float32)
        for start in range(0, column.size, VOXELS_AT_ONCE):
            some = slice(start, start + VOXELS_AT_ONCE)
            attributes[some] = paint.at(column[some], level[some])
            progress(Stage.DECODE, 0.7 + 0.3 * start / column.size)
        coords = np.stack([*np.divmod(column, side), level + side // 2], axis=1).astype(np.int32)
        progress(Stage.DECODE, 1)
        return Surface(vertices, faces, coords, attributes, side)


def _skin(
    front: NDArray[np.float32], back: NDArray[np.float32], tick: Callable[[], None]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices in object space and faces, of a body's squared half thicknesses on the voxels' grid."""
    voxels_side = front.shape[0]
    side = round(SKIN_SHARE * voxels_side)
    columns = build_columns(*coarsen(front, back, side))
    vertices, faces = mesh_columns(columns, find_surface_cells(columns), tick)
    # The middle plane runs through voxel centres, half a voxel before the origin.
    in_plane = (vertices[:, :2] + 0.5) / side - 0.5
    depth = vertices[:, 2:] / side + 0.5 / voxels_side
    return np.concatenate([in_plane, depth], axis=1).astype(np.float32), faces


def _edge_cells(framed: ObjectCrop) -> float:
    """How far the background's colour may reach into the object: two pixels, and what scaling smears."""
    return 1 + 2 * max(framed.cells_per_pixel, 0.5)


def _halves(
    squared: NDArray[np.float32], colour: NDArray[np.float32], distance: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Half thickness before and behind the middle plane, in cells, as in a Body."""
    side = squared.shape[0]
    half = np.sign(squared) * np.sqrt(np.abs(squared))
    bump = bump_detail.shading_bumps(colour, distance) + bump_detail.seeded_noise(side, seed) * np.clip(
        distance / (0.01 * side), 0, 1
    )
    front = half + np.clip(bump, -MAX_BUMP * np.maximum(half, 0), MAX_BUMP * np.maximum(half, 0))
    back = np.where(half > 0, half * np.random.default_rng(seed).uniform(*BACK_DEPTH), half)
    return front, back.astype(np.float32)


def _attributes(colour: NDArray[np.float32], framed: ObjectCrop, distance: NDArray[np.float32]) -> NDArray[np.float32]:
    opacity = material.material_alpha(framed.opacity, distance, _edge_cells(framed))
    metal_and_roughness = material.guess_metallic_roughness(colour, distance > 0)
    return np.concatenate([colour, metal_and_roughness, opacity], axis=2)


def _by_x_and_y(by_row: NDArray[np.float32]) -> NDArray[np.float32]:
    """From [row, column], row 0 on top, to [x, y], y up."""
    return np.ascontiguousarray(by_row[::-1].swapaxes(0, 1))
