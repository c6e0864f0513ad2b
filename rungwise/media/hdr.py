"""A simple HDR to SDR tone mapping, to score what an SDR rendition may look like.

PQ or HLG code values become light (ITU-R BT.2100), the tone curve of ITU-R BT.2390 (section 5.4) compresses light to
SDR white, primaries are converted to BT.709 (ITU-R BT.2087), and the BT.1886 exponent gives code values. The peak is
assumed to be 1000 cd/m2; mastering metadata are ignored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SOURCE_PEAK = 1000.0  # cd/m2, peak of the HLG display; brighter PQ light is clipped
SDR_WHITE = 203.0  # cd/m2, reference white of ITU-R BT.2408
PQ, HLG = 16, 18  # ITU-T H.273 transfer_characteristics
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
_HLG_A, _HLG_GAMMA = 0.17883277, 1.2
_HLG_B = 1 - 4 * _HLG_A
_HLG_C = 0.5 - _HLG_A * np.log(4 * _HLG_A)
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
_TO_709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)

Floats = NDArray[np.float64]


def pq_to_light(code: Floats) -> Floats:
    """PQ code values in 0..1 to light in cd/m2."""
    power = np.maximum(code, 0) ** (1 / _M2)
    return np.asarray(10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1))


def light_to_pq(light: Floats) -> Floats:
    """Light in cd/m2 to PQ code values in 0..1."""
    power = (np.maximum(light, 0) / 10000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def hlg_to_light(rgb: Floats) -> Floats:
    """HLG code values in 0..1, last axis R, G, B, to light in cd/m2 on a display of `SOURCE_PEAK`."""
    code = np.clip(rgb, 0, 1)
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - _HLG_C) / _HLG_A) + _HLG_B) / 12)
    luminance = (scene @ _LUMA_2020)[..., None]
    return np.asarray(SOURCE_PEAK * scene * np.maximum(luminance, 1e-9) ** (_HLG_GAMMA - 1))


def compress(light: Floats) -> Floats:
    """BT.2390's tone curve from `SOURCE_PEAK` to `SDR_WHITE`, in cd/m2; light below the knee is unchanged."""
    peak, white = float(light_to_pq(np.array(SOURCE_PEAK))), float(light_to_pq(np.array(SDR_WHITE)))
    max_output = white / peak
    knee = 1.5 * max_output - 0.5
    code = np.minimum(light_to_pq(light) / peak, 1)
    t = np.maximum((code - knee) / (1 - knee), 0)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * max_output
    return pq_to_light(np.where(code < knee, code, curve) * peak)


def tone_map(rgb: NDArray[np.uint16], transfer: int) -> NDArray[np.uint8]:
    """Full-range 16-bit BT.2020 RGB, (H, W, 3), with PQ or HLG transfer, to 8-bit BT.709 RGB."""
    sdr = np.empty(rgb.shape, np.uint8)
    for row in range(0, len(rgb), 64):  # in strips: an 8K frame in double precision would need much memory
        code = rgb[row : row + 64] / 65535.0
        light = pq_to_light(code) if transfer == PQ else hlg_to_light(code)
        brightest = light.max(-1, keepdims=True)  # one factor for R, G and B preserves hue
        light = light * (compress(brightest) / np.maximum(brightest, 1e-9))
        display = np.clip(light @ _TO_709.T / SDR_WHITE, 0, 1) ** (1 / 2.4)
        sdr[row : row + 64] = np.rint(display * 255)
    return sdr
