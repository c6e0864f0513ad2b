"""Scores of one title, estimated jointly."""

from __future__ import annotations

import numpy as np
import pytest

from rungwise.ladder.joint import joint_scores, missing_octaves


@pytest.mark.parametrize("num_rungs", [3, 9])
def test_a_rung_that_took_too_few_bits_for_its_qp_is_lowered(num_rungs: int) -> None:
    heights = np.array([360, 720, 720, 180, 360, 360, 720, 180, 180])[:num_rungs]
    log2_qsteps = np.array([5.0, 4.5, 3.2, 6.0, 4.0, 3.0, 6.0, 5.0, 4.0])[:num_rungs]
    log2_bits = 2 - 1.05 * log2_qsteps - 0.5 * np.log2(heights / 720)
    assert np.abs(missing_octaves(log2_bits, log2_qsteps, heights, ["av1"] * num_rungs)).max() < 0.1
    log2_bits[1] -= 1.2  # a re-encode
    codecs = ["h264", *["av1"] * num_rungs, "h264"]
    rows = [0, *range(num_rungs), 0]  # and a codec of which too little is known
    missing = missing_octaves(log2_bits[rows], log2_qsteps[rows], heights[rows], codecs)
    assert missing[2] == pytest.approx(1.2, abs=0.25)
    assert np.abs(np.delete(missing, 2)).max() < 0.25
    hybrid = np.full(num_rungs + 2, 90.0)
    scores = joint_scores(hybrid, hybrid - 5, missing, heights[rows], codecs)
    assert scores[2] < 80
    unknown = np.full(num_rungs, np.nan)  # of a plain color
    assert (missing_octaves(unknown, unknown, heights, ["av1"] * num_rungs) == 0).all()
    assert (np.delete(scores, 2) == 90).all()


def test_pixels_set_the_level_of_codecs() -> None:
    hybrid = np.array([60.0, 70, 80, 90] * 2)
    pixel, codecs, heights = hybrid - 0.1 * (hybrid - 75), ["h264"] * 4 + ["av1"] * 4, [180, 360, 360, 360] * 2
    pixel[4:] -= 8
    pixel[7] -= 10  # an outlier
    scores = joint_scores(hybrid, pixel, np.zeros(8), heights, codecs)
    assert scores[:4] - scores[4:] == pytest.approx([0.75 * 8] * 4, abs=1)
    assert np.diff(scores[:4]) == pytest.approx(np.diff(hybrid[:4]))
    assert scores.mean() == pytest.approx(hybrid.mean())
