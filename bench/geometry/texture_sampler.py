"""Read textures as a graphics card does: bilinear, at any level of the mip chain, colours in linear light."""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from bench.geometry.glb_reader import Model
from worker.extraction.kernels.texels import COLOURS, linear_to_srgb, srgb_to_linear

MIP_LEVELS = 4


def build_mip_chain(model: Model, device: str) -> list[wp.array]:
    """The material at full size and at MIP_LEVELS halvings, each the mean of four texels; float32 [rows, columns, 6].

    Channels: red, green, blue, metallic, roughness, alpha in [0, 1]; the first three in linear light.
    """
    if model.colour.shape[:2] != model.surface.shape[:2]:
        raise ValueError("the two textures differ in size")
    planes = np.concatenate([model.colour[..., :3], model.surface[..., [2, 1]], model.colour[..., 3:]], axis=2)
    whole = wp.array(np.ascontiguousarray(planes), dtype=wp.uint8, device=device)
    levels = [wp.empty(planes.shape, dtype=wp.float32, device=device)]
    wp.launch(_unpack, dim=planes.shape, inputs=[whole, levels[0]], device=device)
    for _ in range(MIP_LEVELS):
        rows, columns, channels = levels[-1].shape
        levels.append(wp.empty((rows // 2, columns // 2, channels), dtype=wp.float32, device=device))
        wp.launch(_halve, dim=levels[-1].shape, inputs=[levels[-2], levels[-1]], device=device)
    return levels


def sample_texture(texture: wp.array, uv: NDArray[Any]) -> NDArray[np.float32]:
    """Bilinear samples, clamped at the border, colours in sRGB; float32 [points, channels]."""
    device, channels = texture.device, texture.shape[2]
    values = wp.empty((len(uv), channels), dtype=wp.float32, device=device)
    place = wp.array(uv.astype(np.float32), dtype=wp.vec2, device=device)
    wp.launch(_read, dim=values.shape, inputs=[texture, place, values], device=device)
    samples: NDArray[np.float32] = values.numpy()
    return samples


@wp.kernel
def _unpack(whole: wp.array3d[wp.uint8], texture: wp.array3d[wp.float32]) -> None:
    y, x, channel = wp.tid()
    value = float(whole[y, x, channel]) / 255.0
    texture[y, x, channel] = wp.where(channel < COLOURS, srgb_to_linear(value), value)


@wp.kernel
def _halve(finer: wp.array3d[wp.float32], coarser: wp.array3d[wp.float32]) -> None:
    y, x, channel = wp.tid()
    upper = finer[2 * y, 2 * x, channel] + finer[2 * y, 2 * x + 1, channel]
    lower = finer[2 * y + 1, 2 * x, channel] + finer[2 * y + 1, 2 * x + 1, channel]
    coarser[y, x, channel] = (upper + lower) / 4.0


@wp.kernel
def _read(texture: wp.array3d[wp.float32], uv: wp.array[wp.vec2], values: wp.array2d[wp.float32]) -> None:
    i, channel = wp.tid()
    x = uv[i][0] * float(texture.shape[1]) - 0.5
    y = uv[i][1] * float(texture.shape[0]) - 0.5
    column = int(wp.floor(x))
    row = int(wp.floor(y))
    total = wp.float32(0.0)
    for corner in range(4):
        dx = corner & 1
        dy = corner >> 1
        along = wp.where(dx == 1, x - float(column), 1.0 - x + float(column))
        down = wp.where(dy == 1, y - float(row), 1.0 - y + float(row))
        at = wp.vec2i(wp.clamp(column + dx, 0, texture.shape[1] - 1), wp.clamp(row + dy, 0, texture.shape[0] - 1))
        total += along * down * texture[at[1], at[0], channel]
    values[i, channel] = wp.where(channel < COLOURS, linear_to_srgb(total), total)
