"""A score that counts what a file's coded stream says: what it is made of, and when it is left out."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from onnx import TensorProto

from rungwise.bitstream.features import (
    BITSTREAM_INPUT_DIM,
    NUM_BITSTREAM_FEATURES,
    bitstream_features,
    bitstream_input,
    features_from_packets,
)
from rungwise.bitstream.qp import QstepReader
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.packets import read_packets
from rungwise.media.video import probe
from rungwise.score.contract import BitstreamContract, Calibration, Contract, Scale
from rungwise.score.scorer import Scorer
from rungwise.score.video_metadata import Bitstream
from rungwise.score.views import ViewRecipe, make_views, read_views
from student.export import export_onnx
from student.fp16 import to_fp16
from student.models import STUDENTS
from student.trace import trace


def test_facts_by_hand_and_almost_the_same_whatever_the_key_frame_distance() -> None:
    facts = bitstream_features([1000] + [100] * 39, [3] + [5] * 39, 100 * 80, 80, 160)
    assert facts[:5].tolist() == [0.0, np.log2(0.1), -1.0, 3.0, 5.0]
    np.testing.assert_allclose(facts[5], (8001 * 3 + 39 * 801 * 5) / (8001 + 39 * 801))  # a bit more each, so none is 0
    often = bitstream_features(([1000] + [100] * 19) * 5, ([3] + [5] * 19) * 5, 100 * 80, 80, 160)
    np.testing.assert_allclose(often[:5], facts[:5])
    assert 0 < facts[5] - often[5] < 0.3  # twice as many bits lie in key frames, and there is no helping it
    assert np.isfinite(bitstream_features([0], [0], 64, 8, 8)).all()


def test_frames_that_say_no_step_are_left_out_of_its_mean() -> None:
    nan = float("nan")
    assert bitstream_features([9, 5, 5, 5], [nan, 2, nan, 4], 64, 8, 8)[3:6].tolist() == [2, 3, 3]
    assert bitstream_features([9, 5, 5, 5], [1, nan, nan, nan], 64, 8, 8)[3:6].tolist() == [1, 1, 1]
    unknown = np.flatnonzero(np.isnan(bitstream_features([9, 5], [nan, nan], 64, 8, 8)))
    assert unknown.tolist() == [3, 4, 5, 9, 10, 11]


def test_what_frames_share_out_by_hand() -> None:
    # The largest frame is left out of the others' bits: 8 x 512, 256, 128, 64 bytes are 12, 11, 10, 9 octaves.
    features = bitstream_features([9999, 64, 128, 256, 512], [1, 4, 4, 3, 3], 64, 8, 8)
    octaves, qsteps = np.array([12.0, 11, 10, 9]), np.array([3.0, 3, 4, 4])
    low, high = np.quantile(octaves, [0.1, 0.9]) - 10.5
    np.testing.assert_allclose(features[6:9], [octaves.std(), low, high])
    np.testing.assert_allclose(features[9:], [np.std([1, 3, 3, 4, 4]), 1 - 3, np.corrcoef(octaves, qsteps)[0, 1]])
    assert bitstream_features([9, 5, 5, 5], [1, 2, 2, 2], 64, 8, 8)[11] == 0  # constant bits follow nothing


def test_terms_are_standard_scores_and_the_codec() -> None:
    facts = np.stack([bitstream_features([1000] + [100] * 9, [4] * 10, 8000, 80, 80)] * 3)
    terms = bitstream_input(facts, ["h264", "av1", "mpeg2video"])
    assert terms.shape == (3, BITSTREAM_INPUT_DIM)
    assert terms[:, NUM_BITSTREAM_FEATURES:].tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(terms[0, 3:6], [(4 - 4.3) / 1.6, (4 - 5.2) / 1.4, (4 - 4.6) / 1.5], rtol=1e-6)


SETTINGS: dict[str, Any] = {
    "embed_dim": (16, 24), "depths": (1, 1), "state_dim": (9, 4), "feature_dim": 16, "stem_stages": 3,
    "tuned_stem": True, "pairs": True, "prompts": 0, "aleatoric": False, "hybrid": True, "num_levels": 5,
    "minimum": 0.0, "maximum": 100.0,
}  # fmt: skip


def make(folder: Path, clip: Path, **changes: Any) -> Path:
    """An untrained student with a stream head, taught (so its contract says) by streams much like `clip`."""
    torch.manual_seed(0)
    student: Any = STUDENTS["mamba"](**SETTINGS)
    seen = probe(clip)
    facts = features_from_packets(read_packets(clip, QstepReader), seen.width * seen.height, seen.height, seen.height)
    taught = {"codecs": ("h264",), "low": tuple(facts - 2), "high": tuple(facts + 2)} | changes
    contract = Contract(
        model="mamba",
        view=ViewRecipe(num_frames=4, frame_choice="pairs", grid=2, patch_px=32),
        scale=Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100),
        calibration=Calibration(coverage=0.9, half_width=20, num_clips=10),
        golden=None,
        training_id="0123",
        dataset_sha256="4567",
        stream=BitstreamContract(**taught, calibration=Calibration(coverage=0.9, half_width=5, num_clips=10)),
    )
    path = folder / "student.onnx"
    export_onnx(student, contract, path, opset=20)
    return path


@pytest.mark.slow
def test_a_file_is_judged_by_its_stream_too_unless_told_not_to(clip: Path, tmp_path: Path) -> None:
    scorer = Scorer(make(tmp_path, clip))
    both, pictures = scorer.score(clip), scorer.score(clip, pixel_only=True)
    assert (both.bitstream_used, pictures.bitstream_used) == (True, False)
    assert both.pixel_score == pictures.score == pictures.pixel_score
    assert abs(both.score - pictures.score) > 1e-3
    assert (both.high - both.score, pictures.high - pictures.score) == pytest.approx((5, 20))  # type: ignore[operator]
    assert scorer.score(clip) == both
    assert both.notes == pictures.notes == ()


@pytest.mark.slow
def test_the_file_says_what_torch_says_of_the_same_streams(clip: Path, tmp_path: Path) -> None:
    scorer = Scorer(make(tmp_path, clip))
    torch.manual_seed(0)
    student: Any = STUDENTS["mamba"](**SETTINGS)
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 64, 64, 3), np.uint8)
    terms = np.random.default_rng(1).normal(size=(3, BITSTREAM_INPUT_DIM)).astype(np.float32)
    with torch.inference_mode():
        judged = student.eval()(torch.from_numpy(frames), torch.from_numpy(terms))
    np.testing.assert_allclose(scorer.predict(frames, terms), judged.fused.numpy(), atol=1e-3)
    np.testing.assert_allclose(scorer.predict(frames), judged.score.numpy(), atol=1e-3)
    assert np.ptp(judged.fused.numpy()) > 0.01


def test_a_codec_that_it_was_not_taught_is_judged_as_none_that_it_knows(clip: Path, tmp_path: Path) -> None:
    scorer = Scorer(make(tmp_path, clip, codecs=("av1",)))
    score = scorer.score(clip)
    assert score.bitstream_used
    assert score.notes == ("model not trained on h264: scored as an unknown codec",)
    assert score.score != Scorer(make(tmp_path, clip)).score(clip).score


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"low": (-99.0, -99.0, 1.1) + (-99.0,) * 9}, "coded size"),
        ({"high": (99.0, 99.0, 9.0, 99.0, -9.0) + (99.0,) * 7}, "QP"),
    ],
)
def test_streams_unlike_those_taught_are_left_out(
    changes: dict[str, Any], what: str, clip: Path, tmp_path: Path
) -> None:
    score = Scorer(make(tmp_path, clip, **changes)).score(clip)
    assert not score.bitstream_used
    assert score.score == score.pixel_score
    assert score.notes == (f"scored pixel-only: outside the model's training range ({what})",)


def test_a_window_unlike_the_rest_is_judged_by_its_pictures_and_the_rest_is_not(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(make(tmp_path, clip))
    seconds = probe(clip).duration_seconds / 3
    pictures, both = (scorer.score(clip, window_seconds=seconds, pixel_only=only) for only in (True, False))
    assert len(both.windows) == 3
    answers = iter([None, "odd", None])
    monkeypatch.setattr("rungwise.score.scorer._unsupported_feature", lambda *_: next(answers))
    mixed = scorer.score(clip, window_seconds=seconds)
    assert mixed.windows == (both.windows[0], pictures.windows[1], both.windows[2])
    assert mixed.bitstream_used
    assert mixed.notes == ("some windows scored pixel-only: odd",)
    answers = iter(["odd", None, "odd"])
    assert scorer.score(clip, window_seconds=seconds).windows == pictures.windows


def test_a_window_without_a_key_frame_is_judged_with_the_one_before_it() -> None:
    times, keys = np.arange(120) / 10, np.arange(120) % 100 == 0
    sizes, steps = np.where(keys, 1000, 100), np.where(keys, 3.0, 5.0)
    coded = Bitstream("h264", times, keys, sizes, steps, 100, 80, np.ones((120, 2)))
    first, second, third = (coded.window_features(start, start + 4, 80) for start in (0, 4, 8))
    np.testing.assert_allclose(second[:5], first[:5])
    np.testing.assert_allclose(third[:5], first[:5])  # has its own, at 10 s
    never = replace(coded, is_intra_N=np.zeros(120, bool))
    assert never.window_features(4, 8, 80).tolist() == bitstream_features([100] * 40, [5] * 40, 8000, 80, 80).tolist()


def test_a_stream_a_little_outside_is_taken_at_the_edge(clip: Path, tmp_path: Path) -> None:
    plain = Scorer(make(tmp_path, clip))
    packets = read_packets(clip, QstepReader)
    assert packets.log2_qsteps_N is not None
    seen = probe(clip)
    facts = features_from_packets(packets, seen.width * seen.height, seen.height, seen.height)
    edge = facts + 0.5 * (np.arange(len(facts)) == 3)  # as if no step as fine had been taught
    score = Scorer(make(tmp_path, clip, low=(-99.0, -99.0, -99.0, edge[3]) + (-99.0,) * 8)).score(clip)
    assert score.bitstream_used
    assert score.notes == ()
    pixels = np.stack([read_views(clip, make_views(clip, plain.contract.view))[0]])
    [expected] = plain.predict(pixels, bitstream_input(edge[None], ["h264"]))
    assert score.score == pytest.approx(float(expected), abs=1e-4)
    assert score.score != plain.score(clip).score


def test_a_codec_whose_frames_say_no_step_is_judged_by_its_pictures(clip: Path, tmp_path: Path) -> None:
    scorer, path = Scorer(make(tmp_path, clip)), tmp_path / "clip.avi"
    run_ffmpeg(["-i", str(clip), "-c:v", "ffv1", str(path)])
    score = scorer.score(path)
    assert not score.bitstream_used
    assert score.notes == ("scored pixel-only: no QP in the bitstream",)


def test_a_pipe_has_no_stream_and_says_so(clip: Path, tmp_path: Path) -> None:
    scorer = Scorer(make(tmp_path, clip))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(clip), "-f", "yuv4mpegpipe", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        piped = scorer.score(process.stdout)
    assert piped.notes == ("scored pixel-only: no bitstream",)
    assert piped.score == scorer.score(clip, pixel_only=True).score


def test_in_half_precision_only_the_hybrid_head_stays_exact() -> None:
    torch.manual_seed(0)
    student: Any = STUDENTS["mamba"](**SETTINGS)
    graph = to_fp16(trace(student, ViewRecipe(num_frames=4, frame_choice="pairs", grid=2, patch_px=32), opset=20))
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    halves = {name for name, kind in kinds.items() if kind == TensorProto.FLOAT16}
    assert not any("head.stream" in name for name in halves)
    stem = [name.removesuffix(".half") for name in halves if "backbone" in name]
    assert {"model.backbone.conv_stem.weight", "model.backbone.blocks.2.0.conv_pw.weight"} <= set(stem)


def test_a_contract_of_another_version_is_one_line(clip: Path, tmp_path: Path) -> None:
    import onnx

    path = make(tmp_path, clip)
    model = onnx.load(str(path))
    [entry] = model.metadata_props
    contract = json.loads(entry.value)
    contract["stream"]["low"] = contract["stream"]["low"][:3]  # as version 3 had it
    entry.value = json.dumps(contract)
    onnx.save(model, str(path))
    with pytest.raises(
        ValueError, match=r"contract written by another version .* stream\.low; .*export the model again"
    ):
        Scorer(path)


def test_a_stream_head_that_was_tampered_with_is_refused(clip: Path, tmp_path: Path) -> None:
    import onnx

    path = make(tmp_path, clip)
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if "head.stream" in tensor.name:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * 1.05 + 0.01, tensor.name))
    onnx.save(model, str(path))
    with pytest.raises(ValueError, match="golden scores are off"):
        Scorer(path)
