"""Ladders made by hand, and a model that needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rungwise.check.rungs import LadderCheck, Rung, check_ladder, make_metric
from rungwise.contract import METADATA_KEY, Contract, Golden, Scale, golden_input, sha256_array
from rungwise.scorer import Scorer
from rungwise.views import ViewRecipe

Rows = list[tuple[str, int, float, float]]  # codec, height, kbps, quality


@pytest.fixture(scope="session")
def sound() -> Rows:
    """Two codecs, three heights, concave in bitrate, more than a step apart: nothing to find."""
    base = [
        (240, 200, 40.0),
        (240, 400, 50.0),
        (360, 800, 60.0),
        (360, 1500, 69.0),
        (720, 2600, 77.0),
        (720, 4500, 85.0),
    ]
    return [("h264", *row) for row in base] + [("hevc", height, kbps * 0.7, q) for height, kbps, q in base]


@pytest.fixture(scope="session")
def judge() -> Callable[..., tuple[list[Rung], LadderCheck]]:
    """Rows -> rungs and their check, on a VMAF scale."""

    def check(rows: Rows, **options: float) -> tuple[list[Rung], LadderCheck]:
        rungs = [
            Rung(name=f"{codec}-{height}p-{kbps:g}k", codec=codec, height=height, bitrate_kbps=kbps)
            for codec, height, kbps, _ in rows
        ]
        return rungs, check_ladder(rungs, [row[3] for row in rows], make_metric("vmaf", "vmaf", "column", **options))

    return check


def write_model(path: Path, polarity: str = "higher_is_better") -> Path:
    """An export that takes mean horizontal contrast for quality: blur and coarse encodes score lower."""
    int64 = TensorProto.INT64
    constants = {"zero": [0], "one": [1], "last": [-1], "end": [10**6], "axis": [3], "axes": [1, 2, 3, 4]}
    initial = [helper.make_tensor(name, int64, [len(value)], value) for name, value in constants.items()]
    initial.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [3.0]))
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["x", "one", "end", "axis"], ["right"]),
        helper.make_node("Slice", ["x", "zero", "last", "axis"], ["left"]),
        helper.make_node("Sub", ["right", "left"], ["step"]),
        helper.make_node("Abs", ["step"], ["contrast"]),
        helper.make_node("ReduceMean", ["contrast", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["score"]),
    ]
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 2, 32, 32, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])
    model = helper.make_model(
        helper.make_graph(nodes, "contrast", [frames], [score], initial),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    contract = Contract(
        model="contrast",
        view=ViewRecipe(num_frames=2, frame_choice="uniform", grid=1, patch_px=32),
        scale=Scale(kind="vmaf_v1.0.16_3d0h", polarity=polarity, minimum=0, maximum=100),
        calibration=None,
        golden=None,
        training_id="0",
        dataset_sha256="0",
    )

    def save(kept: Contract) -> None:
        del model.metadata_props[:]
        helper.set_model_props(model, {METADATA_KEY: kept.model_dump_json()})
        onnx.save(model, str(path))

    save(contract)
    pixels = golden_input(contract.view)
    scores = tuple(float(s) for s in np.asarray(Scorer(path, check=False).judge(pixels)))
    golden = Golden(input_sha256=sha256_array(pixels), scores=scores, tolerance=1e-3)
    save(contract.model_copy(update={"golden": golden}))
    return path


@pytest.fixture(scope="session")
def contrast_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`write_model`, higher is better."""
    return write_model(tmp_path_factory.mktemp("model") / "contrast.onnx")


@pytest.fixture(scope="session")
def contrast_model_negated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same numbers under a scale where lower is better."""
    return write_model(tmp_path_factory.mktemp("model") / "blur.onnx", "lower_is_better")
