"""Small real material for the tests: built-in masters, and encodes of them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rungwise.cli.options import cache_folder
from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.report.web_page import write_web_page
from rungwise.scenes import write_master


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless 192x108 master of 12 frames at 12 fps."""
    path = tmp_path_factory.mktemp("master") / "street_a.mkv"
    write_master("street_a", path, width=192, height=108, num_frames=12, fps=12.0)
    return path


@pytest.fixture(scope="session")
def clip(master: Path) -> Path:
    """An H.264 encode of the master at its own size."""
    path = master.with_name("clip.mp4")
    encode(master, path, EncodeSpec("h264", 108, crf=30))
    return path


@pytest.fixture(scope="session")
def small_clip(master: Path) -> Path:
    """An H.264 encode of the master at half its height."""
    path = master.with_name("small.mp4")
    encode(master, path, EncodeSpec("h264", 54, crf=30))
    return path


TRAINING_FIXTURES = {"cached", "moved", "unbroken"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of trained models are slow: whichever comes first waits for the training."""
    for item in items:
        if isinstance(item, pytest.Function) and TRAINING_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


DATA_VARIABLE = "RUNGWISE_TEST_DATA"


@pytest.fixture(scope="session")
def outside_data() -> Callable[[str], Path]:
    """Finds published labels, clips and golden files in the folder that RUNGWISE_TEST_DATA names, or skips the test."""

    def locate(relative: str) -> Path:
        folder = os.environ.get(DATA_VARIABLE)
        if not folder:
            pytest.skip(f"{DATA_VARIABLE} names no folder of published data")
        path = Path(folder) / relative
        if not path.exists():
            pytest.skip(f"{DATA_VARIABLE} holds no {relative}")
        return path

    return locate


@pytest.fixture(scope="session")
def web_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model's page, as `export --web` writes it."""
    folder = tmp_path_factory.mktemp("site") / "page"
    try:
        write_web_page(folder, None, cache_folder("npm"))
    except ValueError as error:
        if "npm pack" in str(error):
            pytest.skip(f"no npm packages: {error}")
        raise
    return folder


@pytest.fixture(scope="session")
def teachers_benchmark() -> Any:
    """benchmarks/teachers.py, which makes every kind of teacher tiny."""
    path = Path(__file__).parents[1] / "benchmarks" / "teachers.py"
    spec = importlib.util.spec_from_file_location("teachers_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
