"""`rungwise evaluate`: a run's config, a model on a dataset, or a table that holds scores already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from rungwise.cli.options import Device, Json, Runs, SourcesOption

if TYPE_CHECKING:
    import pandas as pd

    from rungwise.metrics.evaluation_result import Evaluation


def evaluate(
    config: Annotated[
        Path | None, typer.Argument(help="a run's YAML: judge its models on its test contents. Without it: --scores")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", "--data", help="table with scores, or a dataset's for --model: .csv, .parquet, .json"),
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="exported .onnx file to score the videos")] = None,
    truth: Annotated[str, typer.Option(metavar="COLUMN", help="the label")] = "score",
    pred: Annotated[
        str, typer.Option(metavar="COLUMN,...", help="predictions, or patterns; '*' is every other number column")
    ] = "",
    falling: Annotated[
        str, typer.Option(metavar="COLUMN,...", help="those of them that are lower for better quality")
    ] = "",
    polarity: Annotated[
        str | None, typer.Option(metavar="higher|lower", help="which label is the better one [the table's word]")
    ] = None,
    value_range: Annotated[
        str | None, typer.Option("--range", metavar="LOW,HIGH", help="the label's scale [the table's word]")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS",
            help="the table's name for content, codec, preset, width, height, bitrate_kbps, score_ci95 (half-width), "
            "score_std or score_raters; may be repeated",
        ),
    ] = None,
    content: Annotated[str | None, typer.Option(metavar="COLUMN", help="as --column content=COLUMN")] = None,
    bitrate: Annotated[str | None, typer.Option(metavar="COLUMN", help="as --column bitrate_kbps=COLUMN")] = None,
    protocol: Annotated[
        str, typer.Option(metavar="NAME,...", help="more tables: pooled, within-content, msu, split-median[:K]")
    ] = "",
    by: Annotated[str, typer.Option(metavar="COLUMN,...", help="cut by columns, by resolution, by bitrate-band")] = "",
    against: Annotated[
        str, typer.Option(metavar="COLUMN,...", help="compare all with these [log-bitrate and the first prediction]")
    ] = "",
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="pairs that must be in order: interval (labels differ by more than theirs), content-range:S, "
            "label-range:S (by more than that share) [interval where known, else content-range:0.1]",
        ),
    ] = None,
    ladders: Annotated[bool, typer.Option("--ladders", help="BD-rates, hulls and steps against the truth's")] = False,
    resamples: Annotated[int, typer.Option(min=1, help="content resamples for the intervals")] = 1000,
    seed: Annotated[int, typer.Option(help="of the resamples and splits")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="folder for report.html, evaluation.json and .csv, table.txt, predictions.csv")
    ] = None,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    device: Device = "cpu",
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV instead of text, one line a figure")] = False,
) -> None:
    """Judge a run's models, a model on a dataset, or any table of scores; log-bitrate is always beside."""
    if config is not None:
        if scores is not None or model is not None or pred:
            raise typer.BadParameter("give a run's CONFIG, or --scores with --pred or --model, not both")
        from rungwise.cli.pipeline import run_until

        run_until("evaluate", config, runs, sources, device, as_json)
        return
    if scores is None:
        raise typer.BadParameter("give a run's CONFIG, or a table: --scores TABLE --truth COLUMN --pred COLUMN,...")
    if as_json and as_csv:
        raise typer.BadParameter("give one of --json and --csv")
    if polarity not in (None, "higher", "lower"):
        raise typer.BadParameter(f"{polarity!r} is neither higher nor lower", param_hint="--polarity")
    columns = _columns(column, content, bitrate)
    limits = _range(value_range)
    from rungwise.metrics.evaluate import evaluate_predictors, parse_pair_rule
    from rungwise.metrics.evaluation_result import format_table, to_csv, to_json
    from rungwise.metrics.scores import read_scores, score_videos

    try:
        rule = parse_pair_rule(pairs) if pairs else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--pairs") from error
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    table, names, notes = read_scores(
        scores,
        truth,
        _names(pred),
        columns=columns,
        polarity=cast(Literal["higher", "lower"] | None, polarity),
        value_range=limits,
        falling=_names(falling),
    )
    failures: dict[str, str] = {}
    if model is not None:
        if model.stem in table.columns:
            raise ValueError(f"{scores}: has a column {model.stem!r} already; rename the model's file")
        keep = None if out is None else out / "scores.jsonl"
        table[model.stem], failures = score_videos(table, model, scores.parent, keep=keep)
        names = [model.stem, *names]
    result = evaluate_predictors(
        table,
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
    print((to_json if as_json else to_csv if as_csv else format_table)(result), end="")
    if out is not None:
        _write(out, result, table, scores, model)
        if not (as_json or as_csv):
            print(out / "report.html")
    if failures:
        raise typer.Exit(1)


def _write(out: Path, result: Evaluation, table: pd.DataFrame, scores: Path, model: Path | None) -> None:
    from rungwise.artifact import write_text
    from rungwise.metrics.evaluation_result import format_table, to_csv, to_json
    from rungwise.report.evaluation_page import write_report

    write_text(out / "evaluation.json", to_json(result))
    write_text(out / "evaluation.csv", to_csv(result))
    write_text(out / "table.txt", format_table(result))
    write_text(out / "predictions.csv", table.to_csv(index=False))
    kinds = ", ".join(sorted(set(table["score_kind"]))) if "score_kind" in table.columns else result.truth
    facts = {
        "table": scores.name,
        "label": f"{kinds}, {result.score_polarity.replace('_', ' ')}, {result.score_min:g} to {result.score_max:g}",
        "encodes": f"{result.n} of {result.contents} contents",
        "pairs": result.pair_rule,
    } | ({"model": model.name} if model else {})
    write_report(out / "report.html", result, table, title=f"{scores.stem}: {result.truth}", facts=facts)


def _columns(columns: list[str] | None, content: str | None, bitrate: str | None) -> dict[str, str]:
    """Our column -> theirs.

    Raises:
        typer.BadParameter: not OURS=THEIRS, or no column of ours.
    """
    from rungwise.metrics.scores import COLUMNS

    found = {}
    for text in columns or []:
        ours, sign, theirs = text.partition("=")
        if not sign or ours not in COLUMNS or not theirs:
            wanted = f"OURS=THEIRS with OURS one of {', '.join(COLUMNS)}"
            raise typer.BadParameter(f"{text!r} is not {wanted}", param_hint="--column")
        found[ours] = theirs
    return found | {ours: theirs for ours, theirs in (("content", content), ("bitrate_kbps", bitrate)) if theirs}


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
