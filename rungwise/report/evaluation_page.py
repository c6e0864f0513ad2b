"""An evaluation as one HTML page that opens anywhere: no network, no script, plots as inline SVG.

Every number on the page is a rounding of a value in the JSON that the page carries in `<script id="data">`.
"""

import html
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rungwise.metrics.evaluation_input import PREDICTOR_LOG_BITRATE
from rungwise.metrics.evaluation_result import Evaluation, PredictorResult, tables
from rungwise.metrics.evaluation_result import format_number as _number
from rungwise.report.page import COLORS, embed

Timeline = Sequence[tuple[float, float]]
Scale = Callable[[float], float]

_MAX_CONTENTS, _MAX_ROWS, _MAX_DRAWN = 36, 3000, 6
_INTRO = {
    "Accuracy": "<p>Bracketed: 95 % intervals over contents. Log-bitrate is what one knows without looking at a "
    "picture.</p>",
    "Ladder fidelity": "<p>What one would build by each predictor, beside what one would build by the label.</p>",
}
_TOP, _RIGHT, _BOTTOM, _WIDTH = 30, 12, 42, 340

_CSS = """
:root{--ink:#14181f;--soft:#535e6c;--rule:#dde2e8;--wash:#f5f7f9}*{box-sizing:border-box}
body{margin:0;background:#fff;color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Liberation Sans",Arial,sans-serif}
main{max-width:1160px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.015em;margin:0 0 20px}
h2{font-size:20px;letter-spacing:-.01em;margin:48px 0 6px}p{margin:0 0 14px;color:var(--soft);max-width:74ch}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:14px 28px;margin:0;
padding:18px 0;border:solid var(--rule);border-width:1px 0}
dt{font-size:13px;color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:14px;margin-top:24px}
.tile{background:var(--wash);border-radius:8px;padding:14px 18px 16px}
.tile b{display:block;font-size:32px;line-height:1.25;letter-spacing:-.02em;font-weight:600}
.tile span{font-size:14px;color:var(--soft)}.scroll{overflow-x:auto;margin:12px 0 16px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:100%}
th,td{padding:8px 22px 8px 0;border-bottom:1px solid var(--rule);text-align:left;vertical-align:baseline}
thead th{border-bottom:2px solid var(--ink);font-weight:600}tbody th{font-weight:400}
td small{color:var(--soft);font-size:13px;white-space:nowrap}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));gap:20px 24px}
svg{display:block;width:100%;height:auto}svg text{font-size:11.5px;fill:var(--soft);font-family:inherit}
svg .name{font-size:13.5px;font-weight:600;fill:var(--ink)}svg .rule{stroke:var(--rule)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:14px;margin:4px 0 16px;padding:0;list-style:none}
.legend li{display:flex;align-items:center;gap:6px}.legend svg{width:28px;height:14px;flex:none}
.notes{margin:0;padding-left:18px;color:var(--soft);font-size:14px}@media(max-width:560px){
main{padding:24px 16px 48px}h1{font-size:25px}h2{font-size:19px;margin-top:40px}
dl{grid-template-columns:1fr 1fr;gap:12px 16px}.tiles{grid-template-columns:1fr 1fr;gap:10px}
.tile{padding:12px 14px}.tile b{font-size:26px}.tile span{font-size:13px}table{font-size:14px}
th,td{padding-right:9px}td small{display:block;margin:0;font-size:12px;letter-spacing:-.02em}}
"""


def write_report(
    path: Path,
    evaluation: Evaluation,
    table: pd.DataFrame,
    *,
    title: str,
    facts: Mapping[str, str],
    timelines: Mapping[str, Timeline] | None = None,
) -> None:
    """Write the report of an evaluation, replacing `path` at once or not at all.

    Args:
        path: the HTML file; its folder exists.
        evaluation: what `evaluate_predictors` made of `table`. Its first predictor is drawn in the curves.
        table: the same table, one row an encode.
        title: the page's heading.
        facts: label -> value for the head of the page: dataset, label kind, display height, model, ids.
        timelines: clip -> (seconds, score) points to draw, where the model scored along time.

    Raises:
        ValueError: the table is not the one that was evaluated (its length differs or a column is missing).
    """
    lines = {clip: [(float(t), float(s)) for t, s in points] for clip, points in (timelines or {}).items()}
    shown = {"title": title, "facts": dict(facts), "timelines": lines}
    page = _page(evaluation, _data(evaluation, table) | shown)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)


def _data(evaluation: Evaluation, table: pd.DataFrame) -> dict[str, Any]:
    """What the page shows, JSON-ready: the whole evaluation, and by column the rows of the contents drawn."""
    names = [r.predictor for r in evaluation.predictors]
    names = [*names[: _MAX_DRAWN - 1], *names[_MAX_DRAWN - 1 :][-1:]]  # the baseline is last
    columns = ["content", evaluation.truth]
    missing = [c for c in (*columns, *names) if c not in table.columns and c != PREDICTOR_LOG_BITRATE]
    if missing or len(table) != evaluation.n:
        raise ValueError(f"want the table of {evaluation.n} rows, got {len(table)}, without {missing}")
    sizes = table.groupby("content").size().sort_index()
    every = max(-(-len(sizes) // _MAX_CONTENTS), -(-len(table) // _MAX_ROWS), 1)
    rows = table[table["content"].isin(sizes.index[::every])]
    known = rows["bitrate_kbps"] if "bitrate_kbps" in rows.columns else pd.Series(np.nan, rows.index)
    bitrate = known.to_numpy(dtype=float, na_value=np.nan)
    predictions = {name: rows[name].to_numpy(float) for name in names if name in rows.columns}
    if PREDICTOR_LOG_BITRATE in names:
        predictions[PREDICTOR_LOG_BITRATE] = np.log10(bitrate)
    return {
        "evaluation": evaluation.model_dump(mode="json"),
        "contents_drawn": [str(c) for c in sizes.index[::every]],
        "rows": {
            "clip": [str(c) for c in (rows["clip"] if "clip" in rows.columns else rows.index)],
            "content": [str(c) for c in rows["content"]],
            "series": _series(rows),
            "bitrate_kbps": _or_none(bitrate),
            "truth": _or_none(rows[evaluation.truth].to_numpy(float)),
            "predictions": {name: _or_none(values) for name, values in predictions.items()},
        },
    }


def _or_none(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _series(rows: pd.DataFrame) -> list[str]:
    """Codec and height of each row, as far as they are known."""
    codec = rows["codec"].fillna("").astype(str) if "codec" in rows.columns else pd.Series("", rows.index)
    height = rows["height"] if "height" in rows.columns else pd.Series(np.nan, rows.index)
    sizes = ["" if pd.isna(value) else f"{value:g}p" for value in height]
    return [" ".join(part for part in (name, size) if part) or "all" for name, size in zip(codec, sizes, strict=True)]


def _page(evaluation: Evaluation, data: dict[str, Any]) -> str:
    embedded = embed(json.dumps(data, ensure_ascii=False, allow_nan=False))
    facts = "".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in data["facts"].items())
    thinned = len(data["contents_drawn"]) < evaluation.contents
    drawn = f" Drawn: {len(data['contents_drawn'])} of {evaluation.contents} contents, evenly picked." * thinned
    shown = [result for result in evaluation.predictors if result.predictor in data["rows"]["predictions"]]
    if len(shown) < len(evaluation.predictors):
        drawn += f" Drawn: {len(shown)} of {len(evaluation.predictors)} predictors."
    sections = [
        f"<h1>{_text(data['title'])}</h1><dl>{facts}</dl>",
        _tiles(evaluation),
        _tables(evaluation),
        "<ul class='notes'>" + "".join(f"<li>{_text(note)}</li>" for note in evaluation.notes) + "</ul>",
        f"<h2>Truth against prediction</h2><p>One mark an encode; the line is the map to the label scale.{drawn}</p>",
        _legend([(name, _mark(14, 7, i, "")) for i, name in enumerate(data["contents_drawn"])]),
        _grid(_scatter(evaluation, result, data) for result in shown),
        _curves(evaluation, data),
        "<h2>Residuals by content</h2><p>Mapped prediction less label, in label points: encodes as dots, the "
        "middle half as a bar, the median as a tick. One off to a side is judged wrongly as a whole.</p>",
        _grid(_residuals(evaluation, result, data) for result in shown),
    ]
    if data["timelines"]:
        panels = [_timeline(clip, points) for clip, points in data["timelines"].items() if points]
        sections += ["<h2>Score along time</h2>", _grid(panels)]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{_text(data['title'])}</title><style>{_CSS}</style></head><body><main>"
        + "\n".join(sections)
        + f'</main><script type="application/json" id="data">{embedded}</script></body></html>\n'
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _tiles(evaluation: Evaluation) -> str:
    first = evaluation.predictors[0]
    tiles = [
        (first.srcc, f"SRCC over all encodes, {first.predictor}"),
        (first.within_content_srcc, "SRCC within a content"),
        (first.pairs_cross_codec, "of pairs across codecs in order"),
    ]
    tiles += [(d.srcc, f"SRCC above {d.against}") for d in evaluation.differences[:1]]
    cells = (
        f"<div class='tile'><b>{_number(figure.value, 'srcc')}</b><span>{_text(label)}</span></div>"
        for figure, label in tiles
    )
    return f"<div class='tiles'>{''.join(cells)}</div>"


def _rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    top = "".join(f"<th scope='col'>{cell}</th>" for cell in head)
    rest = ("".join(f"<td>{cell}</td>" for cell in row[1:]) for row in body)
    lines = "".join(f"<tr><th scope='row'>{row[0]}</th>{r}</tr>" for row, r in zip(body, rest, strict=True))
    return f"<div class='scroll'><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"


def _tables(evaluation: Evaluation) -> str:
    found = []
    for title, (head, *body) in tables(evaluation):
        cells = [[_cell(cell) for cell in row] for row in body]
        found.append(f"<h2>{_text(title)}</h2>{_INTRO.get(title, '')}{_rows([_text(cell) for cell in head], cells)}")
    return "\n".join(found)


def _cell(text: str) -> str:
    """An interval in small print."""
    value, bracket, rest = text.partition(" [")
    small = f" <small>[{_text(rest)}</small>" if bracket else ""
    return ("&ndash;" if text == "-" else _text(value)) + small


class _Axis(NamedTuple):
    label: str
    low: float
    high: float
    ticks: list[tuple[float, str]]


def _axis(label: str, values: Sequence[float], num_ticks: int = 5) -> _Axis:
    """A linear axis around the values, with ticks at 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    pad = 0.04 * (high - low) or 1.0
    low, high = low - pad, high + pad
    rough = (high - low) / num_ticks
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    marks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return _Axis(label, low, high, [(float(m), f"{m:g}" if abs(m) > 1e-12 else "0") for m in marks.round(10)])


def _log_axis(label: str, logs: Sequence[float]) -> _Axis:
    low, high = min(logs) - 0.06, max(logs) + 0.06
    steps = (1, 2, 5) if high - low < 1.7 else (1, 3) if high - low < 2.6 else (1,)
    decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    marks = [m * 10.0**d for d in decades for m in steps if low <= np.log10(m * 10.0**d) <= high]
    marks = marks or [float(f"{10 ** ((low + high) / 2):.2g}")]
    return _Axis(label, low, high, [(float(np.log10(m)), f"{m:g}") for m in marks])


def _plot(name: str, x: _Axis, y: _Axis, draw: Callable[[Scale, Scale], str], left: int = 46, height: int = 270) -> str:
    """Axes and grid around what `draw` makes of the two scales (value -> SVG coordinate)."""

    def sx(value: float) -> float:
        return round(left + (value - x.low) / (x.high - x.low) * (_WIDTH - left - _RIGHT), 2)

    def sy(value: float) -> float:
        return round(height - _BOTTOM - (value - y.low) / (y.high - y.low) * (height - _BOTTOM - _TOP), 2)

    right, bottom, center = _WIDTH - _RIGHT, height - _BOTTOM, (_TOP + height - _BOTTOM) / 2
    lines = [f"<text class='name' x='{left}' y='16'>{_text(name)}</text>"]
    for value, text in y.ticks:
        lines.append(f"<path class='rule' d='M{left} {sy(value)}H{right}'/>")
        lines.append(f"<text x='{left - 7}' y='{sy(value) + 4}' text-anchor='end'>{text}</text>")
    for value, text in x.ticks:
        lines.append(f"<path d='M{sx(value)} {bottom}v4' stroke='#535e6c'/>")
        lines.append(f"<text x='{sx(value)}' y='{bottom + 17}' text-anchor='middle'>{text}</text>")
    lines.append(f"<path d='M{left} {bottom}H{right}' stroke='#535e6c'/>")
    middle = "text-anchor='middle'"
    lines.append(f"<text x='{(left + right) / 2}' y='{height - 7}' {middle}>{_text(x.label)}</text>")
    lines.append(f"<text transform='translate(12 {center})rotate(-90)' {middle}>{_text(y.label)}</text>")
    head = f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='{_text(name)}'>"
    return head + "".join(lines) + draw(sx, sy) + "</svg>"


def _grid(panels: Iterable[str]) -> str:
    return f"<div class='grid'>{''.join(panels)}</div>"


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    items = (f"<li><svg viewBox='0 0 28 14'>{mark}</svg>{_text(name)}</li>" for name, mark in entries)
    return f"<ul class='legend'>{''.join(items)}</ul>"


def _mark(x: float, y: float, style: int, title: str, hollow: bool = False, radius: float = 3.4) -> str:
    """The style-th color and shape; 28 before they repeat."""
    color, r = COLORS[style % len(COLORS)], radius
    paths = (
        f"M{x - r} {y}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r} {y - r}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x} {y - 1.3 * r}l{1.2 * r} {2.2 * r}h{-2.4 * r}z",
        f"M{x} {y - 1.4 * r}l{1.4 * r} {1.4 * r}l{-1.4 * r} {1.4 * r}l{-1.4 * r} {-1.4 * r}z",
    )
    solid, open_ = f"fill='{color}' fill-opacity='.75'", f"fill='#fff' stroke='{color}' stroke-width='1.4'"
    hover = f"<title>{_text(title)}</title>" if title else ""
    return f"<path d='{paths[style // len(COLORS) % len(paths)]}' {open_ if hollow else solid}>{hover}</path>"


def _polyline(points: Sequence[tuple[float, float]], color: str, dashed: bool = False) -> str:
    line = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)
    dash = " stroke-dasharray='4 3'" if dashed else ""
    return f"<path d='{line}' fill='none' stroke='{color}' stroke-width='1.6'{dash}/>"


def _mapped(evaluation: Evaluation, result: PredictorResult, predictions: Sequence[float]) -> list[float]:
    """Predictions on the label's own scale and polarity."""
    sign = -1.0 if evaluation.truth_negated else 1.0
    return [float(v) for v in sign * result.quality_map(predictions)]


def _present(data: dict[str, Any], name: str) -> list[tuple[int, float]]:
    return [(i, v) for i, v in enumerate(data["rows"]["predictions"][name]) if v is not None]


def _scatter(evaluation: Evaluation, result: PredictorResult, data: dict[str, Any]) -> str:
    rows, present = data["rows"], _present(data, result.predictor)
    if not present:
        return ""
    is_bitrate = result.predictor == PREDICTOR_LOG_BITRATE
    pred = [v for _, v in present]
    linear = _axis(f"predicted by {result.predictor}", pred)
    x = _log_axis("bitrate, kbps (log)", pred) if is_bitrate else linear
    style = {name: i for i, name in enumerate(data["contents_drawn"])}

    def draw(sx: Scale, sy: Scale) -> str:
        steps = [float(v) for v in np.linspace(min(pred), max(pred), 60)]
        fit = [(sx(a), sy(b)) for a, b in zip(steps, _mapped(evaluation, result, steps), strict=True)]
        marks = []
        for i, value in present:
            shown = f"{rows['bitrate_kbps'][i]:.1f} kbps" if is_bitrate else f"predicted {value:.2f}"
            title = f"{rows['content'][i]}, {rows['series'][i]}: label {rows['truth'][i]:.2f}, {shown}"
            marks.append(_mark(sx(value), sy(rows["truth"][i]), style[rows["content"][i]], title))
        return "".join(marks) + _polyline(fit, "#14181f")

    return _plot(result.predictor, x, _axis(evaluation.truth, rows["truth"]), draw)


def _curves(evaluation: Evaluation, data: dict[str, Any]) -> str:
    rows, first = data["rows"], evaluation.predictors[0]
    raw = rows["predictions"][first.predictor]
    known = [i for i, v in enumerate(rows["bitrate_kbps"]) if v is not None and raw[i] is not None]
    heading = "<h2>Quality against bitrate</h2>"
    if not known:
        return heading + "<p>The table has no bitrates.</p>"
    margin = 0.1 * (evaluation.score_max - evaluation.score_min)
    low, high = evaluation.score_min - margin, evaluation.score_max + margin
    is_raw = first.rmse_raw is not None and all(low <= v <= high for _, v in _present(data, first.predictor))
    student = {i: raw[i] if is_raw else _mapped(evaluation, first, [raw[i]])[0] for i in known}
    style = {name: i for i, name in enumerate(sorted(set(rows["series"])))}
    x = _log_axis("bitrate, kbps (log)", [float(np.log10(rows["bitrate_kbps"][i])) for i in known])
    y = _axis(evaluation.truth, [rows["truth"][i] for i in known] + list(student.values()))

    def panel(content: str) -> str:
        def draw(sx: Scale, sy: Scale) -> str:
            lines, marks = [], []
            for name, index in style.items():
                ladder = [i for i in known if rows["content"][i] == content and rows["series"][i] == name]
                ladder.sort(key=lambda i: rows["bitrate_kbps"][i])
                for values, is_student in ((rows["truth"], False), (student, True)):
                    at = [(sx(float(np.log10(rows["bitrate_kbps"][i]))), sy(values[i])) for i in ladder]
                    if len(at) > 1:
                        lines.append(_polyline(at, COLORS[index % len(COLORS)], is_student))
                    for i, (px, py) in zip(ladder, at, strict=True):
                        what = first.predictor if is_student else "label"
                        title = f"{name}, {rows['bitrate_kbps'][i]:.1f} kbps: {what} {values[i]:.2f}"
                        marks.append(_mark(px, py, index, title, is_student))
            return "".join(lines + marks)

        return _plot(content, x, y, draw)

    scale = "as it is" if is_raw else "mapped to the label scale"
    said = f"Solid and filled: label. Dashed and hollow: {_text(first.predictor)}, {scale}."
    line = [(0.0, 7.0), (28.0, 7.0)]
    keys = [(name, _polyline(line, COLORS[i % len(COLORS)]) + _mark(14, 7, i, "")) for name, i in style.items()]
    return f"{heading}<p>{said}</p>{_legend(keys)}" + _grid(panel(content) for content in data["contents_drawn"])


def _residuals(evaluation: Evaluation, result: PredictorResult, data: dict[str, Any]) -> str:
    rows, present = data["rows"], _present(data, result.predictor)
    if not present:
        return ""
    mapped = _mapped(evaluation, result, [v for _, v in present])
    residuals: dict[str, list[tuple[int, float]]] = {}
    for (i, _), value in zip(present, mapped, strict=True):
        residuals.setdefault(rows["content"][i], []).append((i, value - rows["truth"][i]))
    order = sorted(residuals, key=lambda c: float(np.median([r for _, r in residuals[c]])))
    x = _axis("mapped prediction less label", [0.0, *(r for c in order for _, r in residuals[c])])
    names = [(float(k), _text(c if len(c) <= 17 else c[:16] + "…")) for k, c in enumerate(order)]

    def draw(sx: Scale, sy: Scale) -> str:
        parts = [f"<path d='M{sx(0)} {sy(len(order) - 0.5)}V{sy(-0.5)}' stroke='#535e6c'/>"]
        for k, content in enumerate(order):
            values = [r for _, r in residuals[content]]
            q1, median, q3 = (sx(float(q)) for q in np.quantile(values, [0.25, 0.5, 0.75]))
            parts.append(f"<path d='M{q1} {sy(k)}H{q3}' stroke='#9cc3dd' stroke-width='9'/>")
            for i, r in residuals[content]:
                parts.append(_mark(sx(r), sy(k), 0, f"{content}, {rows['series'][i]}: {r:+.2f}", radius=2.4))
            parts.append(f"<path d='M{median} {sy(k) - 7}v14' stroke='#14181f' stroke-width='2'/>")
        return "".join(parts)

    y = _Axis("", -0.5, len(order) - 0.5, names)
    return _plot(result.predictor, x, y, draw, left=116, height=_TOP + _BOTTOM + 22 * len(order))


def _timeline(clip: str, points: Sequence[Sequence[float]]) -> str:
    x, y = _axis("seconds", [p[0] for p in points]), _axis("score", [p[1] for p in points])

    def draw(sx: Scale, sy: Scale) -> str:
        marks = (_mark(sx(t), sy(s), 0, f"{t:.2f} s: {s:.2f}") for t, s in points)
        return _polyline([(sx(t), sy(s)) for t, s in points], COLORS[0]) + "".join(marks)

    return _plot(clip, x, y, draw)
