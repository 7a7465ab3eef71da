"""sRGB and linear light (IEC 61966-2-1)."""

import numpy as np
import warp as wp

COLOURS = 3  # of a material's channels the first ones are sRGB

_CODES, _LIGHTS = np.arange(256) / 255, np.arange(65_536) / 65_535
# Light, 0-1, of each of the 256 codes, and how fast codes (0-1) rise with light there; float64 [256].
LIGHT = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4)
SLOPE = np.where(_CODES <= 0.04045, 12.92, 1.055 / 2.4 * ((_CODES + 0.055) / 1.055) ** -1.4)
# Light in 16 bits of each code, uint32 [256], and the code of each such light, uint8 [65,536].
TO_LIGHT = np.round(LIGHT * 65_535).astype(np.uint32)
_ENCODED = np.where(_LIGHTS <= 0.0031308, _LIGHTS * 12.92, 1.055 * _LIGHTS ** (1 / 2.4) - 0.055)
FROM_LIGHT = np.round(_ENCODED * 255).astype(np.uint8)


@wp.func
def srgb_to_linear(encoded: wp.float32) -> wp.float32:
    """sRGB to linear light."""
    return wp.where(encoded <= 0.04045, encoded / 12.92, wp.pow((encoded + 0.055) / 1.055, 2.4))


@wp.func
def linear_to_srgb(linear: wp.float32) -> wp.float32:
    """Linear light to sRGB."""
    return wp.where(linear <= 0.0031308, linear * 12.92, 1.055 * wp.pow(linear, 1.0 / 2.4) - 0.055)
