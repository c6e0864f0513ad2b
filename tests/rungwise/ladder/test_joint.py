"""Scores of one title, estimated jointly."""

from __future__ import annotations

import numpy as np
import pytest

from rungwise.ladder.joint import joint_scores


def test_a_rung_that_looks_worse_than_its_qp_says_is_lowered() -> None:
    hybrid, heights = np.array([60.0, 70, 80, 88, 94, 91]), [180, 270, 270, 360, 360, 360]
    pixel = hybrid - 4 - 0.1 * (hybrid - 80)
    assert joint_scores(hybrid, pixel, heights) == pytest.approx(hybrid, abs=0.5)
    pixel[-1] -= 10  # a re-encode
    change = joint_scores(hybrid, pixel, heights) - hybrid
    assert change[-1] == pytest.approx(-8, abs=2)
    assert np.abs(change[:-1]).max() < 1
    assert (joint_scores(hybrid[:3], pixel[-3:], heights[:3]) == hybrid[:3]).all()
