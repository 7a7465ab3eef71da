"""Compiles the kernels before the first job needs them."""

from pathlib import Path

import numpy as np

from shared.domain.parameters import ExportParameters
from worker.engine import Surface
from worker.extraction.kernels import runtime
from worker.extraction.model.asset import Provenance
from worker.extraction.pipeline import extract
from worker.extraction.render.poster import COARSE, render_pixels

GRID = 16


def warm_up(cache: Path) -> None:
    """Extract and draw a small block, with compiled kernels kept under `cache`: seconds the first time, then one.

    On the GPU where there is one, as jobs do; the poster is always drawn on the CPU.
    """
    runtime.set_cache(cache)
    parameters = ExportParameters(decimation_target=1_000, texture_size=512)
    labels = Provenance(seed=0, generator="warm-up", custom_id=None, engine="none")
    asset = extract(_block(), parameters, provenance=labels, progress=lambda _: None, device=runtime.best_device())
    render_pixels(asset, side_px=8 * COARSE)


def _block() -> Surface:
    """A cube of half the grid's width, grey."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) / np.float32(4)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([half for a, b, c, d in sides for half in ((a, b, c), (a, c, d))], np.int32)
    cells = np.stack(np.meshgrid(*[np.arange(GRID)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)
    grey = np.tile(np.array([0.5, 0.5, 0.5, 0.0, 0.8, 1.0], np.float32), (len(cells), 1))
    return Surface(corners, faces, cells, grey, GRID)
