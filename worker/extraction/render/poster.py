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
from worker.extraction.render.kernels import (
    Scene,
    rasterize_faces,
    sample_ambient_occlusion,
    sample_floor_light,
    shade_pixels,
)
from worker.extraction.render.scene import Camera

SIDE_PX = 1024
SAMPLES = 2  # along each side of a pixel
COARSE = 8  # samples between two points of the visibility grid
FLOOR_CELLS = 112
FLOOR_BLUR = 1.3  # cells
ALPHA_MODES = ("OPAQUE", "MASK", "BLEND")  # in the order of their numbers in `Scene`
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
    surface = runtime.build_bvh(asset.mesh.positions, asset.mesh.faces, DEVICE)
    scene = _build_scene(asset, surface, side)
    faces = wp.full((side, side), -1, dtype=wp.int32, device=DEVICE)  # the visible face of each sample, or -1
    inverse_depth = wp.zeros((side, side), dtype=wp.float32, device=DEVICE)
    wp.launch(rasterize_faces, dim=len(asset.mesh.faces), inputs=[scene, inverse_depth, faces], device=DEVICE)
    coarse = side // COARSE
    light = wp.zeros((coarse, coarse, 2), dtype=wp.float32, device=DEVICE)
    wp.launch(sample_ambient_occlusion, dim=(coarse, coarse), inputs=[scene, faces, light], device=DEVICE)
    floor = wp.zeros((FLOOR_CELLS, FLOOR_CELLS), dtype=wp.float32, device=DEVICE)
    wp.launch(sample_floor_light, dim=floor.shape, inputs=[scene, floor], device=DEVICE)
    blurred = wp.array(gaussian_filter(floor.numpy(), FLOOR_BLUR, mode="nearest"), dtype=wp.float32, device=DEVICE)
    pixels = wp.zeros((side_px, side_px, 3), dtype=wp.uint8, device=DEVICE)
    inputs = [scene, faces, light, blurred, pixels]
    wp.launch(shade_pixels, dim=(side_px, side_px), inputs=inputs, device=DEVICE)
    rendered: NDArray[np.uint8] = pixels.numpy()
    return rendered


def _build_scene(asset: Asset, surface: wp.Mesh, side: int) -> Scene:
    """Copy an asset to the device, in front of a camera with `side` samples along the image's sides."""
    mesh = asset.mesh
    camera = Camera.facing(mesh.positions)
    extent = np.ptp(mesh.positions, axis=0)
    scene = Scene()
    scene.positions = runtime.to_vec3(mesh.positions, DEVICE)
    scene.normals = runtime.to_vec3(mesh.normals, DEVICE)
    scene.corners = runtime.to_int32(mesh.faces, DEVICE)
    scene.screen = runtime.to_vec3(camera.project(mesh.positions, side), DEVICE)
    scene.uv = wp.array(mesh.uv, dtype=wp.vec2, device=DEVICE)
    scene.texels = wp.array(np.ascontiguousarray(asset.texels), dtype=wp.uint8, device=DEVICE)
    scene.surface = surface.id
    scene.cull = int(not mesh.is_open)
    scene.alpha_mode = ALPHA_MODES.index(asset.alpha_mode)
    scene.size_m = float(extent.max())
    scene.floor_m = float(2.2 * max(extent[0], extent[2]) + 0.6 * extent[1])
    scene.eye, scene.right, scene.up, scene.back = (
        wp.vec3(*axis.tolist()) for axis in (camera.eye, camera.right, camera.up, camera.back)
    )
    return scene
