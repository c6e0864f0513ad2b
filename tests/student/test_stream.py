"""A score that counts how many bits a file's frames took: what it is made of, and when it is left out."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from rungwise.contract import Calibration, Contract, Scale, Stream
from rungwise.scorer import Scorer
from rungwise.stream import NUM_TERMS, facts_of_packets, fused_score, stream_facts, stream_terms
from rungwise.video import probe, read_packets
from rungwise.views import ViewRecipe
from student.export import export_onnx
from student.models import STUDENTS


def test_facts_by_hand_and_almost_the_same_whatever_the_key_frame_distance() -> None:
    largest, usual, size = stream_facts([1000] + [100] * 39, 100 * 80, 80, 160)
    assert (largest, usual, size) == (0.0, np.log2(0.1), -1.0)
    often = stream_facts(([1000] + [100] * 19) * 5, 100 * 80, 80, 160)
    np.testing.assert_allclose(often, [largest, usual, size])
    assert np.isfinite(stream_facts([0], 64, 8, 8)).all()
    assert stream_terms(np.stack([often, often])).shape == (2, NUM_TERMS)


def test_a_score_is_the_sigmoid_of_an_offset_and_weighted_terms() -> None:
    stream = np.array([[0.5, 1, 0, 0, 0, 0, -2]], np.float32)
    terms = np.array([[0.25, 9, 9, 9, 9, 0.5]], np.float32)
    [score] = fused_score(stream, terms, 1, 5)
    assert score == pytest.approx(1 + 4 / (1 + np.exp(0.25)))
    assert (fused_score(np.array([[-1e4] + [0] * 6], np.float32), terms * 0, 0, 100) == 0).all()


def make(folder: Path, clip: Path, **changes: Any) -> Path:
    """An untrained student with a stream head, taught (so its contract says) by streams much like `clip`."""
    torch.manual_seed(0)
    student: Any = STUDENTS["mamba"](
        embed_dim=(16, 24), depths=(1, 1), state_dim=(9, 4), feature_dim=16, stem_stages=3, tuned_stem=True,
        pairs=True, prompts=0, aleatoric=False, stream=True, num_levels=5, minimum=0.0, maximum=100.0,
    )  # fmt: skip
    seen = probe(clip)
    facts = facts_of_packets(read_packets(clip), seen.width * seen.height, seen.height, seen.height)
    taught = {"codecs": ("h264",), "low": tuple(facts - 2), "high": tuple(facts + 2)} | changes
    contract = Contract(
        model="mamba",
        view=ViewRecipe(num_frames=4, frame_choice="pairs", grid=2, patch_px=32),
        scale=Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100),
        calibration=Calibration(coverage=0.9, half_width=20, num_clips=10),
        golden=None,
        training_id="0123",
        dataset_sha256="4567",
        stream=Stream(**taught, calibration=Calibration(coverage=0.9, half_width=5, num_clips=10)),
    )
    path = folder / "student.onnx"
    export_onnx(student, contract, path, opset=20)
    return path


def test_a_file_is_judged_by_its_stream_too_unless_told_not_to(clip: Path, tmp_path: Path) -> None:
    scorer = Scorer(make(tmp_path, clip))
    both, pictures = scorer.score(clip), scorer.score(clip, pictures_only=True)
    assert (both.stream_used, pictures.stream_used) == (True, False)
    assert both.pictures_score == pictures.score == pictures.pictures_score
    assert abs(both.score - pictures.score) > 1e-3
    assert (both.high - both.score, pictures.high - pictures.score) == pytest.approx((5, 20))  # type: ignore[operator]
    assert scorer.score(clip) == both
    assert both.notes == pictures.notes == ()


def test_more_bits_for_the_same_pictures_move_the_score_as_the_weights_say(clip: Path, tmp_path: Path) -> None:
    scorer = Scorer(make(tmp_path, clip))
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 64, 64, 3), np.uint8)
    terms = np.zeros((2, NUM_TERMS), np.float32)
    plain, moved = scorer.judge(frames, terms), scorer.judge(frames, terms + np.eye(NUM_TERMS, dtype=np.float32)[0])
    (stream,) = scorer.session.run(["stream"], {"frames": frames})
    assert ((moved > plain) == (stream[:, 1] > 0)).all()


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"codecs": ("av1",)}, "judged by its pictures alone: the model knows no h264 streams"),
        ({"low": (-1.0, -1.0, 0.5), "high": (9.0, 9.0, 9.0)}, "judged by its pictures alone: it takes more or fewer"),
    ],
)
def test_streams_unlike_those_taught_are_left_out(
    changes: dict[str, Any], note: str, clip: Path, tmp_path: Path
) -> None:
    score = Scorer(make(tmp_path, clip, **changes)).score(clip)
    assert not score.stream_used
    assert score.score == score.pictures_score
    assert score.notes[0].startswith(note)


def test_a_pipe_has_no_stream_and_says_so(clip: Path, tmp_path: Path) -> None:
    scorer = Scorer(make(tmp_path, clip))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(clip), "-f", "yuv4mpegpipe", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        piped = scorer.score(process.stdout)  # type: ignore[arg-type]
    assert piped.notes == ("judged by its pictures alone: no coded stream",)
    assert piped.score == scorer.score(clip, pictures_only=True).score


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
