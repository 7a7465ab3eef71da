"""Render an asset's poster on the CPU: a three-quarter view in a small studio.

1. Rasterize the mesh into a buffer of face numbers, at twice the poster's size.
2. Cast rays from a coarse grid of its samples: ambient occlusion, and the visibility of the key light.
3. Shade every sample, with the visibility interpolated, and average four samples to a pixel.
"""

import io

import numpy as np
import warp as wp
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from worker.extraction.kernels import runtime
from worker.extraction.kernels.runtime import translate_gpu_errors
from worker.extraction.model.asset import Asset
from worker.extraction.render.kernels import rasterize_faces, sample_ambient_occlusion, sample_floor_light, shade_pixels
from worker.extraction.render.scene import Camera

SIDE_PX = 1024
SAMPLES = 2  # along each side of a pixel
COARSE = 8  # samples between two points of the visibility grid
FLOOR_CELLS = 112
FLOOR_BLUR = 1.3  # cells
DEVICE = "cpu"


@translate_gpu_errors()
def render_poster(asset: Asset) -> bytes:
    """Render an asset as a WebP image of 1024 x 1024 pixels; equal assets give equal bytes."""
    body = io.BytesIO()
    Image.fromarray(render_pixels(asset)).save(body, "WEBP", quality=88, method=2)
    return body.getvalue()


def render_pixels(asset: Asset, side_px: int = SIDE_PX) -> NDArray[np.uint8]:
    """Render the pixels; uint8 [side_px, side_px, 3], sRGB. side_px: a multiple of COARSE."""
    side = side_px * SAMPLES
    scene = _Scene(asset, side)
    faces = scene.rasterize()
    coarse = side // COARSE
    light = wp.zeros((coarse, coarse, 2), dtype=wp.float32, device=DEVICE)
    inputs = [*scene.geometry, faces, scene.surface.id, scene.size_m, light]
    wp.launch(sample_ambient_occlusion, dim=(coarse, coarse), inputs=inputs, device=DEVICE)
    floor = wp.zeros((FLOOR_CELLS, FLOOR_CELLS), dtype=wp.float32, device=DEVICE)
    wp.launch(
        sample_floor_light,
        dim=floor.shape,
        inputs=[scene.surface.id, scene.floor_m, scene.size_m, floor],
        device=DEVICE,
    )
    blurred = wp.array(gaussian_filter(floor.numpy(), FLOOR_BLUR, mode="nearest"), dtype=wp.float32, device=DEVICE)
    pixels = wp.zeros((side_px, side_px, 3), dtype=wp.uint8, device=DEVICE)
    inputs = [*scene.geometry, faces, light, blurred, scene.floor_m, *scene.view, scene.uv, scene.texels, pixels]
    wp.launch(shade_pixels, dim=(side_px, side_px), inputs=inputs, device=DEVICE)
    rendered: NDArray[np.uint8] = pixels.numpy()
    return rendered


class _Scene:
    """The asset's arrays on the device, in the order of the kernels' parameters."""

    def __init__(self, asset: Asset, side: int) -> None:
        mesh = asset.mesh
        self._side = side
        self.surface = runtime.build_bvh(mesh.positions, mesh.faces, DEVICE)
        self.uv = wp.array(mesh.uv, dtype=wp.vec2, device=DEVICE)
        self.texels = wp.array(np.ascontiguousarray(asset.texels), dtype=wp.uint8, device=DEVICE)
        self._camera = Camera.facing(mesh.positions)
        self._cull = int(not mesh.is_open)
        self._alpha_mode = {"OPAQUE": 0, "MASK": 1, "BLEND": 2}[asset.alpha_mode]
        extent = np.ptp(mesh.positions, axis=0)
        self.size_m = float(extent.max())
        self.floor_m = float(2.2 * max(extent[0], extent[2]) + 0.6 * extent[1])
        faces = wp.array(mesh.faces, dtype=wp.int32, device=DEVICE)
        self.geometry = [runtime.to_vec3(mesh.positions, DEVICE), runtime.to_vec3(mesh.normals, DEVICE), faces,
                         runtime.to_vec3(self._camera.project(mesh.positions, side), DEVICE),
                         wp.vec3(*self._camera.eye.tolist())]  # fmt: skip
        self.view = [wp.vec3(*axis.tolist()) for axis in (self._camera.right, self._camera.up, self._camera.back)]

    def rasterize(self) -> wp.array:
        """Return the visible face of each sample, or -1; int32 [rows, columns]."""
        faces = wp.full((self._side, self._side), -1, dtype=wp.int32, device=DEVICE)
        inverse_depth = wp.zeros((self._side, self._side), dtype=wp.float32, device=DEVICE)
        _, _, corners, screen, _ = self.geometry
        inputs = [corners, screen, self.uv, self.texels, self._cull, self._alpha_mode, inverse_depth, faces]
        wp.launch(rasterize_faces, dim=corners.shape[0], inputs=inputs, device=DEVICE)
        return faces
