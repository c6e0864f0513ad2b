"""A small master of its own size, and a folder for what trial encodes measure, for each test file."""

from __future__ import annotations

from pathlib import Path

import pytest

from rungwise.scenes import write_master


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless 384x216 master of 8 frames at 12 fps: VMAF v1 wants more than the smallest one has."""
    path = tmp_path_factory.mktemp("street") / "street.mkv"
    write_master("street_a", path, width=384, height=216, num_frames=8, fps=12.0)
    return path


@pytest.fixture(scope="module")
def trial_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty at the start of a test file."""
    return tmp_path_factory.mktemp("cache")
