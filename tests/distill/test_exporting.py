"""The export stage: what it leaves, what it refuses, and how that is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

import distill.exporting
import distill.pipeline
import student.targets
from distill.data import Data, read_data
from distill.exporting import export_failures
from distill.pipeline import Outcome, run
from rungwise.artifact import Artifact, sha256_file, verify_files
from rungwise.cli import app
from rungwise.config import RunConfig
from rungwise.score.scorer import Scorer
from student.fp16 import to_fp16
from student.int8 import Quantizer
from student.trace import trace


@pytest.fixture
def data(config: RunConfig, unbroken: tuple[Path, Outcome]) -> Data:
    """The small run's clips and views."""
    artifacts = unbroken[1].artifacts
    return read_data(config, artifacts["ladder"], artifacts["views"])


@pytest.fixture
def runs(unbroken: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A runs folder with everything up to the student, and no export."""
    for stage in ("masters", "ladder", "views", "teach", "cache", "distill"):
        (tmp_path / stage).symlink_to(unbroken[0] / stage)
    return tmp_path


def export_of(config: RunConfig, runs: Path) -> Artifact:
    return run(config, runs, until="export").artifacts["export"]


def in_precisions(config: RunConfig, *precisions: str) -> RunConfig:
    return config.model_copy(update={"export": config.export.model_copy(update={"precisions": precisions})})


def shifted(graph: onnx.ModelProto, factor: float, name: str = "levels.weight") -> onnx.ModelProto:
    """The graph with weights, the last layer's, so many times as large."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    weight = next(tensor for tensor in changed.graph.initializer if tensor.name.endswith(name))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    return changed


def test_it_leaves_files_gates_and_card_that_agree(unbroken: tuple[Path, Outcome]) -> None:
    export = unbroken[1].artifacts["export"]
    student = unbroken[1].artifacts["distill"]
    verify_files(export)
    manifest = json.loads((export.path / "manifest.json").read_text())
    assert set(manifest["files"]) == {"student.onnx", "student.fp16.onnx", "gates.json", "card.md"}
    gates = json.loads((export.path / "gates.json").read_text())
    assert all(gate["passed"] and gate["figure"] <= gate["budget"] for gate in gates["gates"])
    assert {gate["precision"] for gate in gates["gates"]} == {"fp32", "fp16"}
    parity = next(gate for gate in gates["gates"] if gate["name"] == "parity with torch")
    assert "decoded at display heights 54, 108, 162, batches of 1 and 15" in parity["detail"]
    card = (export.path / "card.md").read_text()
    for name in ("student.onnx", "student.fp16.onnx"):
        path = export.path / name
        contract = Scorer(path).contract
        assert manifest["files"][name] == sha256_file(path)
        assert f"| {name} | {contract.precision} | {path.stat().st_size:,} |" in card
        assert contract.calibration is not None
        assert (contract.calibration.num_contents, contract.calibration.promised) == (1, 0.5)
        assert contract.training_id == student.id
        assert contract.inputs_sha256["student"] == student.content_sha256
        assert contract.inputs_sha256["cache"] == unbroken[1].artifacts["cache"].content_sha256
        assert contract.training_id in card
        assert contract.dataset_sha256 in card
    assert "1 held-out contents can promise 50% only" in card
    assert "log-bitrate" in card
    assert export_failures(export) == {}


def test_a_sabotaged_precision_is_refused_and_the_others_stay(
    config: RunConfig, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hopeless(self: Quantizer) -> Iterator[tuple[onnx.ModelProto, tuple[str, ...]]]:
        yield shifted(self.quantize(self.candidates), float("nan"), "backbone.mean"), ()

    monkeypatch.setattr(student.targets, "to_fp16", lambda graph: to_fp16(shifted(graph, 40)))
    monkeypatch.setattr(Quantizer, "attempts", hopeless)
    export = export_of(in_precisions(config, "int8", "fp16", "fp32"), runs)
    assert [path.name for path in export.path.glob("*.onnx")] == ["student.onnx"]
    failures = export_failures(export)
    assert set(failures) == {"export fp16", "export int8"}
    assert "mean score deviation" in failures["export fp16"]
    assert "is over 0.005" in failures["export fp16"]
    assert failures["export int8"].startswith("SRCC loss nan is over 0.005")  # all scores are the same
    gates = json.loads((export.path / "gates.json").read_text())
    assert set(gates["refused"]) == {"fp16", "int8"}
    assert not all(gate["passed"] for gate in gates["gates"])
    assert "Refused: int8: SRCC loss nan" in (export.path / "card.md").read_text()
    printed = capsys.readouterr().err
    assert "export fp16: refused: " in printed
    assert "FAIL" in printed
    again = export_of(in_precisions(config, "int8", "fp16", "fp32"), runs)
    assert (again.hit, export_failures(again)) == (True, failures)


def test_a_refusal_is_exit_code_1(
    config_path: Path, unbroken: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        distill.pipeline, "export_failures", lambda export: {"export int8": "SRCC loss 1 is over 0.005"}
    )
    done = CliRunner().invoke(app, ["export", str(config_path), "--runs", str(unbroken[0])])
    assert done.exit_code == 1
    assert "failed: export int8: SRCC loss 1 is over 0.005" in done.stderr


@pytest.mark.parametrize("kind", ["weights", "normalization"])
def test_a_sabotaged_fp32_file_ends_the_stage(
    config: RunConfig, runs: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def wrong(*arguments: Any, **options: Any) -> onnx.ModelProto:
        graph = trace(*arguments, **options)
        if kind == "weights":
            return shifted(graph, 1.1)
        mean = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("backbone.mean"))
        mean.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(mean)[::-1].copy(), mean.name))
        return graph

    monkeypatch.setattr(distill.exporting, "trace", wrong)
    with pytest.raises(ValueError, match=r"ONNX differs from torch by .* of the scale, allowed 1e-05"):
        export_of(config, runs)
    assert not list(runs.glob("export/*/manifest.json"))


def test_test_contents_are_never_looked_at(config: RunConfig, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    rows = Data.rows

    def watched(self: Data, split: str, *, labeled: bool = True) -> Any:
        asked.append(split)
        return rows(self, split, labeled=labeled)

    monkeypatch.setattr(Data, "rows", watched)
    export = export_of(in_precisions(config, "fp32"), runs)
    assert set(asked) == {"train", "validation"}
    assert (export.path / "student.onnx").is_file()


def test_precisions_are_checked_when_a_config_is_read(config: RunConfig) -> None:
    for precisions in (["fp16"], ["fp32", "fp32"], ["fp32", "fp8"], []):
        with pytest.raises(ValueError, match=r"precisions|Input should be"):
            type(config.export).model_validate({"opset": 20, "interval_coverage": 0.9, "precisions": precisions})


def test_intervals_come_from_whole_masters_where_there_are_any(
    config: RunConfig, data: Data, unbroken: tuple[Path, Outcome], tmp_path: Path
) -> None:
    student, rows = unbroken[1].artifacts["distill"], data.rows("validation")
    table = data.table.copy()
    table["origin"] = "photograph"
    table.loc[rows[:2], "origin"] = "master"
    labels = data.table["score"].to_numpy(np.float32)[rows]
    scores = labels + np.where(np.arange(len(rows)) < 2, 1, 30).astype(np.float32)
    some = distill.exporting._Export(config, replace(data, table=table), student, tmp_path)
    found = some.calibration("scores", scores)
    assert found.num_clips == 2
    assert found.half_width == pytest.approx(1)
    found = distill.exporting._Export(config, data, student, tmp_path).calibration("scores", scores)
    assert found.num_clips == len(rows)
    assert found.half_width == pytest.approx(30)


def test_a_clip_that_does_not_say_its_quantizer_is_judged_by_its_pictures(
    config: RunConfig, data: Data, unbroken: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Known:
        """Says 10 by pictures and 20 with a stream, and takes no NaN."""

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def run(self, outputs: list[str], _: Any, terms: Any) -> list[Any]:
            assert outputs == ["score", "fused"]
            assert np.isfinite(terms).all()
            return [np.array([10], np.float32), np.array([20], np.float32)]

    export = distill.exporting._Export(config, data, unbroken[1].artifacts["distill"], tmp_path)
    monkeypatch.setattr(distill.exporting, "Scorer", Known)
    monkeypatch.setattr(distill.exporting, "write_graph", lambda *_: None)
    export.terms = data.terms(export.rows)
    export.terms[0] = np.nan
    export.coded = np.asarray(~np.isnan(export.terms).any(1))
    scores, fused = export.score_validation(onnx.ModelProto(), "fp32")
    assert set(scores.tolist()) == {10}
    assert fused is not None
    assert fused.tolist() == [10] + [20] * (len(export.rows) - 1)
