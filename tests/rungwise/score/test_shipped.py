"""The shipped model: small, intact, and used by default."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rungwise.cli import app
from rungwise.score.scorer import SHIPPED_MODEL, Scorer

ROOT = Path(__file__).parents[3]
MAX_BYTES = 10_000_000


def test_it_is_small_and_has_a_contract_and_a_model_card() -> None:
    assert SHIPPED_MODEL.stat().st_size < MAX_BYTES
    contract = Scorer().contract  # the golden input is re-run
    assert contract.scale.kind == "vmaf_v1.0.16_3d0h"
    assert contract.golden is not None
    assert len(contract.golden.scores) == 8
    assert max(contract.golden.scores[:4]) - min(contract.golden.scores[:4]) > 10  # wrong weights would show
    assert contract.calibration is not None
    assert contract.stream is not None
    assert {"h264", "hevc", "av1", "vp9", "vvc", "vp8", "mpeg4"} == set(contract.stream.codecs)
    card = SHIPPED_MODEL.with_suffix(".md").read_text()
    assert contract.training_id in card
    assert "## Limits" in card


def test_a_modified_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "default.onnx"
    data = bytearray(SHIPPED_MODEL.read_bytes())
    model.write_bytes(data)
    monkeypatch.setattr("rungwise.score.scorer.SHIPPED_MODEL", model)
    with pytest.raises(ValueError, match="sha256"):  # no checksum beside it
        Scorer()
    model.with_suffix(".sha256").write_text(SHIPPED_MODEL.with_suffix(".sha256").read_text())
    Scorer()
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    for path in (None, model):
        with pytest.raises(ValueError, match="sha256"):
            Scorer(path)


def test_it_is_part_of_the_wheel() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["rungwise"]
    assert "score/models/*" in built


def test_a_video_is_scored_without_naming_a_model(clip: Path) -> None:
    done = CliRunner().invoke(app, ["score", str(clip), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["score"] == Scorer().score(clip).score
    assert 0 <= result["low"] <= result["score"] <= result["high"] <= 100
    assert result["kind"] == "vmaf_v1.0.16_3d0h"


def test_pixels_only_ignores_the_bitstream(clip: Path) -> None:
    done = CliRunner().invoke(app, ["score", str(clip), "--json", "--pixel-only"])
    result = json.loads(done.stdout)
    assert not result["bitstream_used"]
    assert result["score"] == result["pixel_score"] == Scorer().score(clip).pixel_score


def test_scores_fall_with_crf(tmp_path: Path) -> None:
    from rungwise.ladder.encode import EncodeSpec, encode
    from rungwise.scenes import write_master

    master = tmp_path / "master.mkv"
    write_master("street_a", master, width=640, height=360, num_frames=24, fps=24.0)
    scores = []
    for crf in (20, 32, 45):
        encode(master, tmp_path / f"{crf}.mp4", EncodeSpec("h264", 360, crf=crf))
        scores.append(Scorer().score(tmp_path / f"{crf}.mp4"))
    for field in ("score", "pixel_score"):
        values = [getattr(score, field) for score in scores]
        assert values == sorted(values, reverse=True)
        assert values[0] - values[-1] > 20
