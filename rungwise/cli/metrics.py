"""`rungwise metrics`: any metric's scores in a table, or an exported model on a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rungwise.cli.options import OUTPUT, Csv, Json, Quiet, check_format

if TYPE_CHECKING:
    import pandas as pd

    from rungwise.metrics.evaluation_result import Evaluation
    from rungwise.metrics.pairs import PairRule

TABLE, PROTOCOL = "Columns and scales", "Evaluation"
Table = Annotated[
    Path, typer.Argument(metavar="TABLE", help="scores and labels, or a dataset for --model: .csv, .parquet, .json")
]
Model = Annotated[
    Path | None, typer.Option("--model", "-m", metavar="FILE", help="score the table's videos with this .onnx file")
]
Truth = Annotated[str, typer.Option(metavar="COLUMN", help="the label", rich_help_panel=TABLE)]
Pred = Annotated[
    str,
    typer.Option(
        metavar="COLUMN,...",
        help="the metrics' scores, or patterns; '*' is every other number column",
        rich_help_panel=TABLE,
    ),
]
LowerIsBetter = Annotated[
    str,
    typer.Option(metavar="COLUMN,...", help="those of --pred that are lower for better quality", rich_help_panel=TABLE),
]
Polarity = Annotated[
    Literal["higher", "lower"] | None,
    typer.Option(help="the better label", show_default="as in the table", rich_help_panel=TABLE),
]
Range = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW,HIGH",
        help="the label's scale",
        show_default="as in the table",
        rich_help_panel=TABLE,
    ),
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OURS=THEIRS",
        help="the table's name for content, codec, preset, width, height, bitrate_kbps, score_ci95 (half-width), "
        "score_std or score_raters; may be repeated",
        rich_help_panel=TABLE,
    ),
]
Content = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="as --column content=COLUMN", rich_help_panel=TABLE)
]
Bitrate = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="as --column bitrate_kbps=COLUMN", rich_help_panel=TABLE)
]
Protocols = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="NAME,...",
        help="more tables: pooled, within-content, msu, split-median[:K]",
        rich_help_panel=PROTOCOL,
    ),
]
By = Annotated[
    str,
    typer.Option(
        metavar="COLUMN,...",
        help="more tables by the values of columns, by resolution or by bitrate-band",
        rich_help_panel=PROTOCOL,
    ),
]
Against = Annotated[
    str,
    typer.Option(
        metavar="COLUMN,...",
        help="compare all with these",
        show_default="log-bitrate and the first of --pred",
        rich_help_panel=PROTOCOL,
    ),
]
Pairs = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        help="pairs that count, by the difference of their labels: interval (above its 95 % interval), "
        "content-range:F (above F times the content's label range), label-range:F (above F times the label scale)",
        show_default="interval where known, else content-range:0.1",
        rich_help_panel=PROTOCOL,
    ),
]
LadderFidelity = Annotated[
    bool,
    typer.Option("--ladders", help="BD-rates, hulls and steps beside the label's", rich_help_panel=PROTOCOL),
]
Resamples = Annotated[
    int, typer.Option(min=1, metavar="N", help="content resamples for the intervals", rich_help_panel=PROTOCOL)
]
Seed = Annotated[int, typer.Option(metavar="N", help="of the resamples and splits", rich_help_panel=PROTOCOL)]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="folder for report.html, evaluation.json and .csv, table.txt, predictions.csv",
        rich_help_panel=OUTPUT,
    ),
]


def metrics(
    table: Table,
    model: Model = None,
    truth: Truth = "score",
    pred: Pred = "",
    lower_is_better: LowerIsBetter = "",
    polarity: Polarity = None,
    value_range: Range = None,
    column: Column = None,
    content: Content = None,
    bitrate: Bitrate = None,
    protocol: Protocols = "",
    by: By = "",
    against: Against = "",
    pairs: Pairs = None,
    ladders: LadderFidelity = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate any metrics against the labels of a table, beside the log-bitrate baseline."""
    check_format(as_json, as_csv)
    columns, limits, rule = _columns(column, content, bitrate), _range(value_range), _pair_rule(pairs)
    negated = _names(lower_is_better)
    from rungwise.metrics.evaluate import evaluate_predictors
    from rungwise.metrics.scores import read_scores

    rows, names, notes = read_scores(
        table, truth, _names(pred), columns=columns, polarity=polarity, value_range=limits, lower_is_better=negated
    )
    failures = {} if model is None else _score(rows, table, model, names, out)
    result = evaluate_predictors(
        rows,
        names,
        truth=truth,
        num_resamples=resamples,
        seed=seed,
        pair_rule=rule,
        against=_names(against),
        protocols=_names(protocol),
        by=_names(by),
        ladders=ladders,
    )
    if not names:
        notes.append("No predictions were named (--pred, --model): this is the baseline alone.")
    result = result.model_copy(update={"notes": (*notes, *result.notes)})
    _print(result, as_json, as_csv)
    if out is not None:
        _write(out, result, rows, table, model)
        if not (as_json or as_csv):
            print(out / "report.html")
    if failures:
        raise typer.Exit(1)


def _score(rows: pd.DataFrame, table: Path, model: Path, names: list[str], out: Path | None) -> dict[str, str]:
    """Add the model's scores as the first of the columns to evaluate; which videos failed, and why."""
    from rungwise.metrics.scores import score_videos

    if model.stem in rows.columns:
        raise ValueError(f"{table}: has a column {model.stem!r} already; rename the model's file")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    keep = None if out is None else out / "scores.jsonl"
    rows[model.stem], failures = score_videos(rows, model, table.parent, keep=keep)
    names.insert(0, model.stem)
    return failures


def _print(result: Evaluation, as_json: bool, as_csv: bool) -> None:
    from rungwise.metrics.evaluation_result import format_table, to_csv, to_json

    print((to_json if as_json else to_csv if as_csv else format_table)(result), end="")


def _write(out: Path, result: Evaluation, rows: pd.DataFrame, table: Path, model: Path | None) -> None:
    from rungwise.artifact import write_text
    from rungwise.metrics.evaluation_result import format_table, to_csv, to_json
    from rungwise.report.evaluation_page import write_report

    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "evaluation.json", to_json(result))
    write_text(out / "evaluation.csv", to_csv(result))
    write_text(out / "table.txt", format_table(result))
    write_text(out / "predictions.csv", rows.to_csv(index=False))
    kinds = ", ".join(sorted(set(rows["score_kind"]))) if "score_kind" in rows.columns else result.truth
    facts = {
        "table": table.name,
        "label": f"{kinds}, {result.score_polarity.replace('_', ' ')}, {result.score_min:g} to {result.score_max:g}",
        "encodes": f"{result.n} of {result.contents} contents",
        "pairs": result.pair_rule,
    } | ({"model": model.name} if model else {})
    write_report(out / "report.html", result, rows, title=f"{table.stem}: {result.truth}", facts=facts)


def _columns(columns: list[str] | None, content: str | None, bitrate: str | None) -> dict[str, str]:
    """Our column -> theirs.

    Raises:
        typer.BadParameter: not OURS=THEIRS, or no column of ours.
    """
    from rungwise.metrics.scores import COLUMNS

    theirs_by_ours = {}
    for text in columns or []:
        ours, sign, theirs = text.partition("=")
        if not sign or ours not in COLUMNS or not theirs:
            rule = f"OURS=THEIRS with OURS one of {', '.join(COLUMNS)}"
            raise typer.BadParameter(f"{text!r} is not {rule}", param_hint="--column")
        theirs_by_ours[ours] = theirs
    return theirs_by_ours | {ours: name for ours, name in (("content", content), ("bitrate_kbps", bitrate)) if name}


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not LOW,HIGH", param_hint="--range") from None
    return low, high


def _pair_rule(text: str | None) -> PairRule | None:
    from rungwise.metrics.pairs import parse_pair_rule

    try:
        return parse_pair_rule(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--pairs") from error
