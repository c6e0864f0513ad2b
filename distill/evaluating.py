"""The `evaluate` stage: teacher, student and export on the test contents, which no stage before has read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from distill.checkpoint import load_checkpoint
from distill.data import Data, read_data
from distill.model import Upper
from distill.predict import predict
from distill.reference import open_parts
from distill.stage import Artifacts, Inputs
from rungwise.artifact import write_text
from rungwise.config import RunConfig
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import Evaluation, format_table, to_json
from rungwise.metrics.pairs import PairRule
from rungwise.report.evaluation_page import write_report
from rungwise.score.scorer import Scorer
from student.gates import PAIR_GAP_SHARE
from student.targets import EXPORT_TARGETS, REFERENCE
from teacher.quality_teacher import QualityTeacher
from teacher.shard_files import StoredRows


def evaluation_params(config: RunConfig, artifacts: Artifacts) -> dict[str, Any]:
    """What of the config changes the result."""
    return config.evaluate.model_dump(mode="json") | {"splits": config.splits.model_dump(mode="json")}


def build_evaluation(folder: Path, config: RunConfig, inputs: Inputs) -> None:
    """Write the predictions of the test contents, their table, and the report."""
    data = read_data(config, inputs["dataset"], inputs["views"])
    scorer = Scorer(inputs["export"].path / EXPORT_TARGETS[REFERENCE].file)
    table, predictors = predictions(data, inputs, scorer)
    result = evaluate_table(table, predictors, config)
    text = format_table(result) + "\n"
    for name, rows in _by_set(table):
        own = evaluate_table(rows, predictors, config)
        write_text(folder / f"evaluation-{name}.json", to_json(own))
        text += f"\nData set {name}\n\n{format_table(own)}\n"
    table.drop(columns="path").to_csv(folder / "predictions.csv", index=False)
    write_text(folder / "evaluation.json", to_json(result))
    write_text(folder / "table.txt", text)
    facts = report_facts(config, data, inputs, scorer, table)
    write_report(folder / "report.html", result, table, title=f"{config.name}: held-out contents", facts=facts)


def evaluate_table(table: pd.DataFrame, predictors: list[str], config: RunConfig) -> Evaluation:
    """The statistics of a table; ratings also get the median over splits, as papers report it, and those of several
    sets one by one."""
    is_rated, contents = "dataset" in table, table["content"].nunique()
    return evaluate_predictors(
        table,
        predictors,
        num_resamples=config.evaluate.num_resamples,
        pair_rule=PairRule("label-range", PAIR_GAP_SHARE),
        protocols=("split-median",) if is_rated and contents > 1 else (),
        by=("dataset",) if is_rated and table["dataset"].nunique() > 1 else (),
    )


def _by_set(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each data set, where there are several."""
    if "dataset" not in table or table["dataset"].nunique() < 2:
        return []
    return [(str(name), rows.reset_index(drop=True)) for name, rows in table.groupby("dataset", sort=False)]


def predictions(data: Data, inputs: Inputs, scorer: Scorer) -> tuple[pd.DataFrame, list[str]]:
    """The test rows with a column for each predictor and the export's interval; and the predictors."""
    rows = data.rows("test")
    pixels = StoredRows(data.pixels, rows).first_views
    table = data.table.iloc[rows].reset_index(drop=True)
    for name in ("student", "teacher"):
        model, contract, _ = load_checkpoint(inputs[name].path / f"{name}.safetensors")
        if isinstance(model, QualityTeacher) and model.sees_master:
            scores_N = predict(Upper(model, contract.model), open_parts(inputs["parts"])[rows, 0])
        else:
            scores_N = predict(model, pixels)
        table[name] = scores_N.astype(float)
    # From the files, as a user would: decode, views and all.
    scores = [
        scorer.score(path, display_height=int(height))
        for path, height in zip(table["path"], table["display_height"], strict=True)
    ]
    table["student-onnx"] = [score.score for score in scores]
    predictors = ["student", "teacher", "student-onnx"]
    if scorer.contract.stream is not None:
        table["student-onnx-pictures"] = [score.pixel_score for score in scores]
        predictors.append("student-onnx-pictures")
    table["low"], table["high"] = [score.low for score in scores], [score.high for score in scores]
    return table, predictors


def report_facts(config: RunConfig, data: Data, inputs: Inputs, scorer: Scorer, table: pd.DataFrame) -> dict[str, str]:
    """What the report says of the run beside its figures."""
    labels = data.shared_labels(data.rows("test"), scorer.contract.sets)
    covered = float(((table["low"] <= labels) & (labels <= table["high"])).mean())
    half_width = float((table["high"] - table["low"]).mean() / 2)
    calibration = (scorer.contract.stream or scorer.contract).calibration
    assert calibration is not None
    sets = {f"set {each.name}": f"label = {each.scale:.3f} x score {each.offset:+.3f}, as fractions of the scales"
            for each in scorer.contract.sets}  # fmt: skip
    return sets | {
        "run": config.name,
        "label": f"{data.scale.kind} ({data.scale.minimum:g} to {data.scale.maximum:g})",
        "test contents": ", ".join(sorted(set(table["content"]))),
        "encodes": f"{len(table)} test, {len(data.rows('train'))} train, {len(data.rows('validation'))} validation",
        "display height": ", ".join(f"{height:g}" for height in sorted(set(table["display_height"]))),
        "interval": f"{covered:.0%} of test encodes lie within +/- {half_width:.1f} on average"
        f" (aimed at {calibration.coverage:.0%})",
        "student": f"{config.student.model}, {inputs['student'].id}",
        "teacher": f"{config.teacher.model}, {inputs['teacher'].id}",
        "export": inputs["export"].id,
    }
