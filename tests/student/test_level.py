"""A regression that is fitted to more clips keeps what it says of its own support, as far as it is told to."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.score.scorer import SHIPPED_MODEL, Scorer
from student.head import CENTERS, HybridHead
from student.texture import NUM_TEXTURE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def level() -> ModuleType:
    spec = importlib.util.spec_from_file_location("level", ROOT / "benchmarks" / "level.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clips(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, NUM_TEXTURE, generator=generator), 0.3 * torch.randn(
        count, BITSTREAM_INPUT_DIM, generator=generator
    )


def test_new_clips_are_learned_and_the_support_is_kept_by_its_weight() -> None:
    torch.manual_seed(0)
    (texture, terms), (new_texture, new_terms) = clips(1, 60), clips(2, 60)
    moved = []
    for kept in (0.0, 0.1, 10.0):
        head = HybridHead(8, minimum=0.0, maximum=100.0).eval()
        head.fit_closed_form(texture, terms, torch.full((60,), 60.0), torch.ones(60))
        before = head.regressed(texture, terms)
        assert before.mean() == pytest.approx(0.6, abs=0.02)
        weights = torch.full((CENTERS,), kept)
        weights[60:] = 0  # no clips
        head.refit_closed_form(new_texture, new_terms, torch.full((60,), 0.9), torch.ones(60), weights, noise=0.1)
        assert head.regressed(new_texture, new_terms).mean() == pytest.approx(0.9, abs=0.05)
        moved.append(float((head.regressed(texture, terms) - before).mean()))
    assert moved[0] > moved[1] > moved[2]
    assert moved[2] < 0.1


def test_the_shipped_regression_is_read_and_written_back_unchanged(level: ModuleType) -> None:
    graph = onnx.load(str(SHIPPED_MODEL))
    scorer = Scorer(SHIPPED_MODEL)
    head = level.read_regression(graph, scorer.contract)
    again = {t.name: numpy_helper.to_array(t) for t in level.write_regression(graph, head).graph.initializer}
    for tensor in graph.graph.initializer:
        assert np.array_equal(again[tensor.name], numpy_helper.to_array(tensor)), tensor.name
    head.support[0] += 1
    changed = {t.name: numpy_helper.to_array(t) for t in level.write_regression(graph, head).graph.initializer}
    assert [name for name in again if not np.array_equal(again[name], changed[name])] == [level.PREFIX + "support"]


def test_a_cards_table_of_errors_is_replaced(level: ModuleType) -> None:
    once = level.with_errors("# card\n\ntext\n\n## Files\n\nrows\n", ["| a |"], "note")
    twice = level.with_errors(once, ["| b |"], "note")
    assert level.CARD_SECTION in once
    assert twice == once.replace("| a |", "| b |")
    assert twice.endswith("## Files\n\nrows\n")
