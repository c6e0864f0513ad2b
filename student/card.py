"""The model card beside an export: Markdown made from the run's own figures, so that it claims nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from rungwise.metrics.evaluation_result import STATISTICS, Evaluation, format_interval
from rungwise.score.contract import Calibration, Contract, Scale
from student.gates import Gate

if TYPE_CHECKING:
    import pandas as pd

CARD_STATISTICS = ("srcc", "within_content_srcc", "plcc", "pairs_same_codec", "pairs_cross_codec")

HALF_WIDTHS_AT = (0.05, 0.2, 0.4)  # of the scale, from its best end
MOST_HEIGHTS = 8  # that are listed one by one
MIN_ENCODES = 5  # in a row of the table of errors
DISPLAY_HEIGHTS = (0, 288, 480, 720, 1080, 100_000)
CODED_SHARES = (0, 0.45, 0.6, 0.8, 0.99, 100)  # of the display height


@dataclass(frozen=True)
class Facts:
    """What a card tells beside the contracts: data, sizes, gates."""

    name: str
    weights: int
    contents: Mapping[str, int]  # by split
    clips: Mapping[str, int]  # by split
    codecs: Sequence[str]
    display_heights: Sequence[int]
    label_range: tuple[float, float]  # lowest and highest training label
    bytes: Mapping[str, int]  # by file
    gates: Sequence[Gate]
    refused: Mapping[str, str]  # precision -> why
    refitted: bool  # it learned from the validation contents too, in the end
    errors: Sequence[str]  # lines of `error_table`


def error_table(table: pd.DataFrame, predictor: str) -> list[str]:
    """Bias (mean of score - label) and RMSE of a prediction, in points, as Markdown rows by encoder, size and height.

    Args:
        table: one row an encode: content, codec, preset, height, display_height, score and the `predictor` column.
        predictor: column of scores. Groups of fewer than `MIN_ENCODES` encodes are left out.
    """
    import pandas as pd

    error = table[predictor] - table["score"]
    encoder = table["codec"] + " " + table["preset"].fillna("")
    heights = pd.cut(table["display_height"], DISPLAY_HEIGHTS, right=False, labels=_bounds(DISPLAY_HEIGHTS, "lines"))
    shares = table["height"] / table["display_height"]
    sizes = pd.cut(shares, CODED_SHARES, right=False, labels=_bounds(CODED_SHARES, "of the display height"))
    lines = ["| encodes of | encodes | contents | bias | RMSE |", "|---|---|---|---|---|"]
    groups = {"all": pd.Series("all", table.index), "codec": table["codec"], "encoder": encoder.str.strip()}
    for kind, names in (groups | {"height": heights.astype(str), "size": sizes.astype(str)}).items():
        for name, errors in error.groupby(names):
            if len(errors) >= MIN_ENCODES or kind == "all":
                contents = table.loc[errors.index, "content"].nunique()
                rmse = float(np.sqrt((errors**2).mean()))
                lines.append(f"| {name} | {len(errors)} | {contents} | {errors.mean():+.1f} | {rmse:.1f} |")
    return list(dict.fromkeys(lines))  # a codec of one preset, without a name, has one row


def _bounds(edges: Sequence[float], unit: str) -> list[str]:
    inner = [f"{low:g} to {high:g} {unit}" for low, high in pairwise(edges[1:-1])]
    return [f"under {edges[1]:g} {unit}", *inner, f"{edges[-2]:g} {unit} or more"]


def write_card(contracts: Mapping[str, Contract], validation: Evaluation, facts: Facts) -> str:
    """The card's Markdown; `contracts` by file name, the fp32 one first."""
    first = next(iter(contracts.values()))
    scale, view, first_calibration = first.scale, first.view, first.calibration
    assert first_calibration is not None
    shown = sorted(set(facts.display_heights))
    heights = (
        ", ".join(map(str, shown)) if len(shown) <= MOST_HEIGHTS else f"{len(shown)} from {shown[0]} to {shown[-1]}"
    )
    lines = [
        f"# {facts.name}: {first.model} student",
        "",
        f"Predicts {scale.kind} of a compressed video without the reference: {scale.minimum:g} to {scale.maximum:g},"
        f" {scale.polarity.replace('_', ' ')}. {facts.weights:,} weights. Of each window it looks at {view.num_frames}"
        f" frames, {view.grid}x{view.grid} patches of {view.patch_px}x{view.patch_px} pixels each, at the display"
        " height.",
        "",
        "## Intended use",
        "",
        "Comparing encodes of one content, and monitoring an encoder, where no reference is at hand. The score only"
        f" predicts {scale.kind}; it is no better a measure of what viewers see than that metric.",
        "Any program can run the files: see docs/onnx.md for the input and the crop recipe.",
        "",
        "## Data",
        "",
        "| split | contents | labeled clips |",
        "|---|---|---|",
        *(f"| {split} | {facts.contents[split]} | {facts.clips[split]} |" for split in facts.contents),
        "",
        f"Codecs: {', '.join(sorted(set(facts.codecs)))}. Display heights: {heights} lines. Training labels from"
        f" {facts.label_range[0]:.1f} to {facts.label_range[1]:.1f}. Splits go by content.",
        "",
        "## Figures on validation contents",
        "",
        "Validation contents chose the operators left in float and, without folds, the epoch, so these figures flatter."
        " The export never touches the test contents; `rungwise evaluate` reports them."
        + " The student was then retrained on the validation contents too; these figures and the intervals below are"
        " of students that had not seen them." * facts.refitted,
        "Brackets: 95 % intervals by content.",
        "",
        *_figures(validation),
        "",
        "## Error by codec, preset and height",
        "",
        "Validation encodes. Bias is the mean of score - label, in points, for the hybrid score where there is one.",
        "",
        *facts.errors,
        "",
        "## Files",
        "",
        f"| file | precision | bytes | {first_calibration.coverage:.0%} interval around a score |",
        "|---|---|---|---|",
        *(_file(name, contract, facts) for name, contract in contracts.items()),
        "",
        *_streams(contracts),
        *(f"Refused: {precision}: {reason}" for precision, reason in facts.refused.items()),
        *_left_in_float(contracts),
        "sha256 of every file: manifest.json. The gates' printout:",
        "",
        *(f"- {gate}" for gate in facts.gates),
        "",
        "## Limits",
        "",
        "- Codecs, contents and sizes other than those above were not measured.",
        f"- Training labels end at {facts.label_range[0]:.1f}: worse encodes were not in training.",
        "- SDR only. A video has another score at another display height.",
        f"- Only {view.num_frames} frames of each window are looked at; a short defect between them is missed.",
        *_promise(first),
        "",
        "## Identity",
        "",
        f"License {first.licence}. Training manifest {first.training_id}. Labeled table {first.dataset_sha256}.",
        *(f"Training read {role}: {digest}." for role, digest in sorted(first.inputs_sha256.items())),
    ]
    return "\n".join(lines) + "\n"


def _figures(validation: Evaluation) -> list[str]:
    results = validation.predictors
    lines = ["| | " + " | ".join(result.predictor for result in results) + " |", "|---" * (len(results) + 1) + "|"]
    for key in CARD_STATISTICS:
        cells = [format_interval(getattr(result, key), key) for result in results]
        lines.append(f"| {STATISTICS[key]} | " + " | ".join(cells) + " |")
    return [*lines, *(f"Note: {note}" for note in validation.notes)]


def _file(name: str, contract: Contract, facts: Facts) -> str:
    calibration = contract.calibration
    assert calibration is not None
    return f"| {name} | {contract.precision} | {facts.bytes[name]:,} | {_half_widths(calibration, contract.scale)} |"


def _half_widths(calibration: Calibration, scale: Scale) -> str:
    """Half widths at the best score and, where they depend on the score, further down the scale."""
    if not calibration.slope:
        return f"+/- {calibration.half_width:.1f}"
    scores = [scale.best + share * (scale.minimum + scale.maximum - 2 * scale.best) for share in HALF_WIDTHS_AT]
    texts = [f"{calibration.half_width + calibration.slope * abs(scale.best - s):.1f} at {s:g}" for s in scores]
    return "+/- " + ", ".join(texts)


def _streams(contracts: Mapping[str, Contract]) -> list[str]:
    """The intervals of hybrid scores, by file."""
    lines = []
    for name, contract in contracts.items():
        if contract.stream is not None:
            assert contract.stream.calibration is not None
            lines.append(f"| {name} | {_half_widths(contract.stream.calibration, contract.scale)} |")
            codecs = ", ".join(contract.stream.codecs)
    if not lines:
        return []
    return [
        f"For a file coded as {codecs} the hybrid score also uses bits of frames, qstep and coded size, unless"
        " `--pixel-only` is given; the intervals above are pixel-only, these are hybrid:",
        "",
        "| file | hybrid interval |",
        "|---|---|",
        *lines,
        "",
    ]


def _left_in_float(contracts: Mapping[str, Contract]) -> list[str]:
    return [
        f"Operators of {name} that stay in float: {', '.join(contract.left_in_float)}.\n"
        for name, contract in contracts.items()
        if contract.left_in_float
    ]


def _promise(contract: Contract) -> list[str]:
    calibration = contract.calibration
    assert calibration is not None
    if calibration.promised is None or calibration.promised >= calibration.coverage:
        return []
    return [
        f"- Intervals aim at {calibration.coverage:.0%}, but {calibration.num_contents} held-out contents can promise"
        f" {calibration.promised:.0%} only, and that with the width of the largest error."
    ]
