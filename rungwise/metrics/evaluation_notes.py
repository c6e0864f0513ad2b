"""Notes below the tables of an evaluation: how the statistics were computed, and warnings on the results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rungwise.metrics.evaluation_input import PREDICTOR_LOG_BITRATE, EvaluationInput
from rungwise.metrics.evaluation_result import LadderFidelity, PredictorResult, ProtocolResult
from rungwise.metrics.pairs import PairRule

_FEW_CONTENTS, _NAMES_SHOWN = 10, 5
_REVERSED_SRCC = -0.3  # below it, the polarity of a label or predictor is probably wrong
_PAIR_CONDITIONS = {
    "interval": "by more than the 95 % interval of their difference",
    "content-range": "by more than {fraction:g} of the content's label range",
    "label-range": "by more than {gap:g}",
}
_OUTLIER_NOTES = {
    "interval": "Outliers: fitted predictions outside the label's 95 % interval.",
    "std": "Outliers: fitted predictions more than two standard deviations of the label off.",
}


def input_notes(data: EvaluationInput, rule: PairRule, num_resamples: int, num_requested: int) -> list[str]:
    """How the statistics of a table were computed, one sentence each."""
    contents, num_rows = data.table["content"].nunique(), len(data.table)
    gap = rule.fraction * (data.score_max - data.score_min)
    condition = _PAIR_CONDITIONS[rule.kind].format(fraction=rule.fraction, gap=gap)
    notes = [
        f"Brackets: 95 % intervals from {num_resamples} bootstrap resamples of {contents} contents.",
        f"Pairwise accuracy: pairs of encodes of one content whose labels differ {condition}; a tie counts as half.",
    ]
    if data.outlier_rule != "none":
        notes.append(_OUTLIER_NOTES[data.outlier_rule])
    if num_resamples < num_requested:
        notes.append(f"{num_requested} resamples were requested; the count was reduced because of {num_rows} rows.")
    if contents < _FEW_CONTENTS:
        notes.append(f"With only {contents} contents the intervals are rough and tend to be too narrow.")
    if data.truth_negated:
        notes.append("Lower labels mean better quality: the label was negated, and raw RMSE is not reported.")
    if PREDICTOR_LOG_BITRATE not in data.predictions:
        notes.append("No bitrates: the log-bitrate baseline could not be computed.")
    for name, predictions in data.predictions.items():
        if missing := int(np.isnan(predictions).sum()):
            what = "bitrate" if name == PREDICTOR_LOG_BITRATE else name
            notes.append(f"{missing} rows have no {what}: {name} and differences against it omit them.")
    return notes


def result_notes(
    results: Sequence[PredictorResult],
    protocols: Sequence[ProtocolResult],
    fidelity: Sequence[LadderFidelity],
    num_thinned_contents: int,
) -> list[str]:
    """Warnings on the results, one sentence each."""
    notes = []
    by_name = {result.predictor: result for result in results}
    bitrate = by_name.pop(PREDICTOR_LOG_BITRATE, None)
    if bitrate is not None and (bitrate.within_content_srcc.value or 0) < _REVERSED_SRCC:
        notes.append("Labels fall as bitrate rises within contents: check the polarity of the label.")
    falling = [name for name, result in by_name.items() if (result.srcc.value or 0) < _REVERSED_SRCC]
    if falling:
        notes.append(f"Predictions fall as quality rises: {', '.join(falling)}. Name them in --lower-is-better.")
    if num_thinned_contents:
        notes.append(
            f"Pairs of {num_thinned_contents} large contents are a sample, spread evenly over the label range."
        )
    for first in {p.protocol: p for p in reversed(protocols)}.values():
        if first.dropped:
            dropped = f"{len(first.dropped)} groups with {sum(first.dropped.values())} rows"
            notes.append(f"Protocol {first.protocol} drops {dropped} from SRCC: {shortened_list(list(first.dropped))}.")
    for reason, count in (fidelity[0].bd_refused if fidelity else {}).items():
        notes.append(f"{count} BD-rates of {fidelity[0].predictor} could not be computed ({reason}).")
    return notes


def shortened_list(names: Sequence[str]) -> str:
    """The first names, separated by commas, and "..." for the rest."""
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
