"""The relief engine: segments the object in an image, inflates its silhouette and colours it from the image."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.domain.job import Stage
from shared.domain.parameters import Parameters, PipelineType
from shared.errors import NoObjectFound, StateMissing
from worker.engine import InputImage, Progress, State, Surface
from worker.engines.relief import inflation, material
from worker.engines.relief.depth_maps import DepthMaps
from worker.engines.relief.raster_ops import downscale
from worker.engines.relief.segmentation import ObjectCrop, crop_object, extract_matte
from worker.engines.relief.surface_nets import build_columns, coarsen, find_surface_cells, mesh_columns

# Cells along each side of the grid.
SIDES: dict[PipelineType, int] = {"512": 512, "1024": 1024, "1024_cascade": 1024, "1536_cascade": 1536}

MESH_SCALE = 2 / 3  # cells of the mesh per voxel: colours need finer cells than shape does
VOXEL_BATCH = 2_000_000  # between two progress reports

BACK_DEPTH = (0.72, 0.88)  # of the front's: backs are mostly flatter; the seed draws from this range
MAX_BUMP = 0.3  # of the half thickness: fine depth must not break through thin parts


class Relief:
    """An engine without weights or GPU: deterministic, takes a second or two, guesses the back."""

    name = "relief"

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """Turn the image into depth maps. The parameters of sampling have no effect.

        Raises:
            NoObjectFound: nothing in the image stands out from its background.
        """
        side = SIDES[parameters.pipeline_type]
        progress(Stage.SPARSE_STRUCTURE, 0)
        rgba = downscale(image.rgba, 2 * side)
        matte = extract_matte(rgba, parameters.background, has_alpha=image.has_alpha)
        progress.show_preview(np.dstack([rgba[..., :3], np.rint(255 * matte).astype(np.uint8)]))
        progress(Stage.SPARSE_STRUCTURE, 0.7)
        crop = crop_object(rgba, matte, side)
        distance = inflation.signed_distance(crop.coverage)
        if not (distance > 1).any():
            raise NoObjectFound("the object is too thin to be recognized: send a closer image")
        progress(Stage.SHAPE, 0)
        squared = inflation.inflate(distance)
        progress(Stage.SHAPE, 0.5)
        colour = material.extend_inside_colours(crop.colour, distance, _edge_cells(crop))
        front, back = _half_thicknesses(squared, colour, distance, seed)
        progress(Stage.TEXTURE, 0)
        attributes = _attributes(colour, crop, distance)
        progress(Stage.TEXTURE, 0.8)
        arrays = DepthMaps(front, back, attributes).pack()
        progress(Stage.TEXTURE, 1)
        return State(self.name, arrays, {"seed": str(seed), "pipeline_type": parameters.pipeline_type})

    def decode(self, state: State, progress: Progress) -> Surface:
        """Mesh the depth maps and colour the voxels around the surface.

        Raises:
            StateMissing: the state is not a relief's.
        """
        if state.engine != self.name:
            raise StateMissing(f"the state was made by the engine {state.engine}, not by {self.name}")
        progress(Stage.DECODE, 0)
        maps = DepthMaps.unpack(state.arrays)
        side = maps.front.shape[0]
        front, back = (_to_xy(half) for half in (maps.front, maps.back))
        squares = front * np.abs(front), back * np.abs(back)
        vertices, faces = _mesh_body(*squares, lambda: progress(Stage.DECODE, 0.3))
        progress(Stage.DECODE, 0.4)
        colours = material.prepare_colours(_to_xy(maps.attributes), np.maximum(front, 0))
        progress(Stage.DECODE, 0.6)
        column, level = material.surface_voxels(find_surface_cells(build_columns(*squares)))
        attributes = np.empty((column.size, 6), np.float32)
        for start in range(0, column.size, VOXEL_BATCH):
            batch = slice(start, start + VOXEL_BATCH)
            attributes[batch] = colours.at(column[batch], level[batch])
            progress(Stage.DECODE, 0.7 + 0.3 * start / column.size)
        coords = np.stack([*np.divmod(column, side), level + side // 2], axis=1).astype(np.int32)
        progress(Stage.DECODE, 1)
        return Surface(vertices, faces, coords, attributes, side)


def _mesh_body(
    front: NDArray[np.float32], back: NDArray[np.float32], on_progress: Callable[[], None]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return vertices in object space, and faces, from squared half thicknesses on the voxels' grid."""
    voxels_side = front.shape[0]
    side = round(MESH_SCALE * voxels_side)
    columns = build_columns(*coarsen(front, back, side))
    vertices, faces = mesh_columns(columns, find_surface_cells(columns), on_progress)
    # The middle plane runs through voxel centres, half a voxel before the origin.
    in_plane = (vertices[:, :2] + 0.5) / side - 0.5
    depth = vertices[:, 2:] / side + 0.5 / voxels_side
    return np.concatenate([in_plane, depth], axis=1).astype(np.float32), faces


def _edge_cells(crop: ObjectCrop) -> float:
    """Return how far the background's colour may reach into the object: two pixels, and what scaling spreads."""
    return 1 + 2 * max(crop.cells_per_pixel, 0.5)


def _half_thicknesses(
    squared: NDArray[np.float32], colour: NDArray[np.float32], distance: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return half thickness before and behind the middle plane, in cells, as in DepthMaps."""
    side = squared.shape[0]
    half = np.sign(squared) * np.sqrt(np.abs(squared))
    noise = inflation.seeded_noise(side, seed) * np.clip(distance / (0.01 * side), 0, 1)
    bump = inflation.shading_bumps(colour, distance) + noise
    front = half + np.clip(bump, -MAX_BUMP * np.maximum(half, 0), MAX_BUMP * np.maximum(half, 0))
    back = np.where(half > 0, half * np.random.default_rng(seed).uniform(*BACK_DEPTH), half)
    return front, back.astype(np.float32)


def _attributes(colour: NDArray[np.float32], crop: ObjectCrop, distance: NDArray[np.float32]) -> NDArray[np.float32]:
    alpha = material.material_alpha(crop.opacity, distance, _edge_cells(crop))
    metallic_roughness = material.guess_metallic_roughness(colour, distance > 0)
    return np.concatenate([colour, metallic_roughness, alpha], axis=2)


def _to_xy(by_rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reorder from [row, column], row 0 on top, to [x, y], y up."""
    return np.ascontiguousarray(by_rows[::-1].swapaxes(0, 1))
