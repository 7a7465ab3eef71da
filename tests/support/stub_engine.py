"""A worker process with the real pipeline and extraction, and an engine that returns a painted block at once."""

import numpy as np

from infra.local import Role, Service
from infra.runtime.wiring import crash_point, open_store
from infra.settings.service import Settings
from shared.domain.job import Stage
from shared.domain.parameters import Parameters
from shared.log import log_to_stderr
from shared.net.egress import Egress
from worker.engine import InputImage, Progress, State, Surface
from worker.runner.pipeline import JobPipeline

GRID = 32


class Block:
    """An engine whose every asset is the same block, in the colour of the image's centre."""

    name = "relief"

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """Keep the colour."""
        del parameters
        for stage in (Stage.SPARSE_STRUCTURE, Stage.SHAPE, Stage.TEXTURE):
            progress(stage, 1.0)
        height, width = image.rgba.shape[:2]
        return State(self.name, {"colour": image.rgba[height // 2, width // 2, :3].copy()}, {"seed": str(seed)})

    def decode(self, state: State, progress: Progress) -> Surface:
        """A block of half the grid's width."""
        progress(Stage.DECODE, 1.0)
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) / 4
        quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        faces = np.array([half for a, b, c, d in quads for half in ((a, b, c), (a, c, d))], np.int32)
        cells = np.stack(np.meshgrid(*[np.arange(GRID // 4 - 1, 3 * GRID // 4 + 1)] * 3, indexing="ij"), -1)
        coords = cells.reshape(-1, 3).astype(np.int32)
        colour = np.concatenate([state.arrays["colour"].astype(np.float32) / 255, [0.0, 0.8, 1.0]])
        attributes = np.tile(colour.astype(np.float32), (len(coords), 1))
        return Surface(corners, faces, coords, attributes, GRID)


if __name__ == "__main__":
    settings = Settings()
    log_to_stderr(settings.log_level)
    steps = JobPipeline(open_store(settings), Egress(), {"relief": Block()}, at=crash_point(settings.crash_at))
    Service(settings, Role.WORKER, work=steps.run).run_until_signaled()
