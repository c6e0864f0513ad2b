"""The plots of an evaluation: label against prediction, curves over bitrate, and residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rungwise.metrics.evaluation_input import PREDICTOR_LOG_BITRATE
from rungwise.metrics.evaluation_result import Evaluation, PredictorResult
from rungwise.report.svg import (
    COLORS,
    INK,
    SOFT,
    Key,
    Margins,
    Mark,
    Plot,
    category_axis,
    key,
    linear_axis,
    log_axis,
    series_mark,
)

_WIDTH, _HEIGHT = 340, 270
_ROW_HEIGHT = 22  # of a content in the residuals
_MAX_NAME = 17
_BITRATE = "bitrate, kbps (log scale)"


@dataclass(frozen=True)
class Rows:
    """The encodes drawn, by column; None where a value is missing. `series` is codec and height."""

    clip: list[str]
    content: list[str]
    series: list[str]
    bitrate_kbps: list[float | None]
    truth: list[float]
    predictions: dict[str, list[float | None]]

    def present(self, predictor: str) -> list[tuple[int, float]]:
        """(row, prediction) of the rows that have one."""
        return [(i, v) for i, v in enumerate(self.predictions[predictor]) if v is not None]


def _mapped(evaluation: Evaluation, result: PredictorResult, predictions: Sequence[float]) -> list[float]:
    """Predictions on the label's own scale and polarity."""
    sign = -1.0 if evaluation.truth_negated else 1.0
    return [float(v) for v in sign * result.quality_map(predictions)]


def content_legend(contents: Sequence[str]) -> list[Key]:
    """A mark for each content."""
    return [key(name, series_mark(i)) for i, name in enumerate(contents)]


def scatter_plot(evaluation: Evaluation, result: PredictorResult, rows: Rows, contents: Sequence[str]) -> Plot:
    """Labels against predictions, and the map between them as a line."""
    present = rows.present(result.predictor)
    is_bitrate = result.predictor == PREDICTOR_LOG_BITRATE
    predictions = [v for _, v in present]
    if is_bitrate:
        x = log_axis(_BITRATE, [10**v for v in predictions])
    else:
        x = linear_axis(f"predicted by {result.predictor}", predictions)
    y = linear_axis(evaluation.truth, rows.truth)
    plot = Plot(result.predictor, x, y, width=_WIDTH, height=_HEIGHT, heading=result.predictor)
    index = {name: i for i, name in enumerate(contents)}
    for i, value in present:
        what = f"{rows.bitrate_kbps[i]:.1f} kbps" if is_bitrate else f"predicted {value:.2f}"
        hover = f"{rows.content[i]}, {rows.series[i]}\nlabel {rows.truth[i]:.2f}, {what}"
        mark = series_mark(index[rows.content[i]])._replace(opacity=0.75)
        plot.mark(mark, 10**value if is_bitrate else value, rows.truth[i], hover=hover)
    steps = np.linspace(min(predictions), max(predictions), 60).tolist()
    line = zip((10**v if is_bitrate else v for v in steps), _mapped(evaluation, result, steps), strict=True)
    plot.line(line, INK)
    return plot


def uses_raw_scale(evaluation: Evaluation, rows: Rows) -> bool:
    """Whether the first predictor is on the label's scale, so that curves show it unmapped."""
    first = evaluation.predictors[0]
    margin = 0.1 * (evaluation.score_max - evaluation.score_min)
    low, high = evaluation.score_min - margin, evaluation.score_max + margin
    return first.rmse_raw is not None and all(low <= v <= high for _, v in rows.present(first.predictor))


def series_legend(rows: Rows) -> list[Key]:
    """A mark and a line for each codec and height."""
    names = sorted(set(rows.series))
    return [key(name, series_mark(i), series_mark(i).color, width=1.6) for i, name in enumerate(names)]


def bitrate_plots(evaluation: Evaluation, rows: Rows, contents: Sequence[str]) -> list[Plot]:
    """Label and first prediction against bitrate, one plot per content; none where no bitrate is known."""
    first = evaluation.predictors[0]
    rates = {i: rate for i, rate in enumerate(rows.bitrate_kbps) if rate is not None}
    predictions = {i: v for i, v in rows.present(first.predictor) if i in rates}
    if not predictions:
        return []
    if not uses_raw_scale(evaluation, rows):
        mapped = _mapped(evaluation, first, list(predictions.values()))
        predictions = dict(zip(predictions, mapped, strict=True))
    x = log_axis(_BITRATE, [rates[i] for i in predictions], max_ticks=6)
    y = linear_axis(evaluation.truth, [*(rows.truth[i] for i in predictions), *predictions.values()])
    plots = []
    for content in contents:
        plot = Plot(content, x, y, width=_WIDTH, height=_HEIGHT, heading=content)
        for number, name in enumerate(sorted(set(rows.series))):
            ladder = [i for i in predictions if rows.content[i] == content and rows.series[i] == name]
            ladder.sort(key=lambda i: rates[i])
            mark = series_mark(number)._replace(opacity=0.75)
            for what, values in (("label", dict(enumerate(rows.truth))), (first.predictor, predictions)):
                is_label = what == "label"
                if len(ladder) > 1:
                    line = [(rates[i], values[i]) for i in ladder]
                    plot.line(line, mark.color, dash="" if is_label else "4 3")
                for i in ladder:
                    hover = f"{name}, {rates[i]:.1f} kbps\n{what} {values[i]:.2f}"
                    plot.mark(mark._replace(hollow=not is_label), rates[i], values[i], hover=hover)
        plots.append(plot)
    return plots


def residual_plot(evaluation: Evaluation, result: PredictorResult, rows: Rows) -> Plot:
    """Mapped prediction minus label by content, from the lowest median to the highest."""
    present = rows.present(result.predictor)
    residuals: dict[str, list[tuple[int, float]]] = {}
    for (i, _), value in zip(present, _mapped(evaluation, result, [v for _, v in present]), strict=True):
        residuals.setdefault(rows.content[i], []).append((i, value - rows.truth[i]))
    order = sorted(residuals, key=lambda c: float(np.median([r for _, r in residuals[c]])))
    x = linear_axis("mapped prediction minus label", [0.0, *(r for c in order for _, r in residuals[c])])
    y = category_axis([c if len(c) <= _MAX_NAME else f"{c[: _MAX_NAME - 1]}…" for c in order])
    margins = Margins(left=122)
    height = margins.top + margins.bottom + _ROW_HEIGHT * len(order)
    plot = Plot(
        f"residuals of {result.predictor}",
        x,
        y,
        width=_WIDTH,
        height=height,
        margins=margins,
        heading=result.predictor,
    )
    plot.line([(0, y.low), (0, y.high)], SOFT, width=1)
    for k, content in enumerate(order):
        q1, median, q3 = np.quantile([r for _, r in residuals[content]], [0.25, 0.5, 0.75]).tolist()
        plot.line([(q1, k), (q3, k)], "#9cc3dd", width=9)
        for i, r in residuals[content]:
            mark = Mark("circle", COLORS[0], radius=2.4, opacity=0.75)
            plot.mark(mark, r, k, hover=f"{content}, {rows.series[i]}\n{r:+.2f}")
        plot.line([(median, k - 0.32), (median, k + 0.32)], INK, width=2)
    return plot
