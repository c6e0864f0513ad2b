"""Transfer functions against the tables in their standards, and properties of the tone curve."""

from __future__ import annotations

import numpy as np
import pytest

from rungwise.media.hdr import (
    HLG,
    PQ,
    SDR_WHITE,
    SOURCE_PEAK,
    compress,
    hlg_to_light,
    light_to_pq,
    pq_to_light,
    tone_map,
)


@pytest.mark.parametrize(("nits", "code"), [(0, 0), (0.1, 0.06), (1, 0.15), (100, 0.508), (203, 0.581), (1000, 0.752)])
def test_pq_by_bt2408s_table(nits: float, code: float) -> None:
    assert float(light_to_pq(np.array(float(nits)))) == pytest.approx(code, abs=0.003)
    assert float(pq_to_light(light_to_pq(np.array(float(nits))))) == pytest.approx(nits, rel=1e-6, abs=1e-6)


def test_pq_reaches_ten_thousand() -> None:
    assert float(pq_to_light(np.array(1.0))) == pytest.approx(10000)


@pytest.mark.parametrize(("code", "nits"), [(0, 0), (0.75, 203), (1, 1000)])
def test_hlg_by_bt2408s_table(code: float, nits: float) -> None:
    np.testing.assert_allclose(hlg_to_light(np.full((1, 1, 3), code)), nits, rtol=0.005, atol=1e-6)


def test_the_tone_curve_is_monotonic_keeps_dark_light_and_ends_at_white() -> None:
    light = np.geomspace(0.01, 4000, 500)
    compressed = compress(light)
    assert (np.diff(compressed) >= -1e-9).all()
    np.testing.assert_allclose(compressed[light < 50], light[light < 50], rtol=1e-6)
    np.testing.assert_allclose(compressed[light >= SOURCE_PEAK], SDR_WHITE, rtol=1e-6)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_tone_mapping_keeps_gray_and_black_and_is_monotonic(transfer: int) -> None:
    ramp = np.repeat(np.linspace(0, 65535, 200).astype(np.uint16)[:, None, None], 3, axis=2)
    sdr = tone_map(ramp, transfer)
    assert sdr[0].max() == 0
    assert sdr[-1].min() >= 254
    assert int(np.ptp(sdr.astype(int), axis=2).max()) <= 1
    assert (np.diff(sdr[:, 0, 1].astype(int)) >= 0).all()


def test_tone_mapping_keeps_the_order_of_rgb() -> None:
    code = np.array([[[40000, 37000, 34000]]], np.uint16)
    red, green, blue = tone_map(code, PQ)[0, 0].astype(int)
    assert red > green > blue
