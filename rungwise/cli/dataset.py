"""`rungwise dataset`: import rated data sets, list them, check a table's videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.options import Json, Quiet

NAMES_SHOWN = 5


def list_(as_json: Json = False, quiet: Quiet = False) -> None:
    """Print the data sets that can be imported: label files, encodes, kind and range of the score, license."""
    from rungwise.datasets.catalog import CATALOG

    for name, known in CATALOG.items():
        kind, lowest, highest = known.scale
        labels = [[file.path for file in layout.files] for layout in known.layouts]
        if as_json:
            facts = {"name": name, "title": known.title, "labels": labels, "encodes": known.encodes}
            scale = {"kind": kind, "polarity": known.polarity, "min": lowest, "max": highest}
            where = {"license": known.license, "url": known.url, "about": known.about}
            print(json.dumps(facts | scale | where))
            continue
        polarity = known.polarity.replace("_", " ")
        print(f"{name:20}{known.encodes:>6} encodes  {kind} {lowest:g}..{highest:g}, {polarity}")
        print(f"{'':20}{' or '.join(', '.join(paths) for paths in labels)}")
        print(f"{'':20}{known.url} ({known.license})")
        if known.about:
            print(f"{'':20}{known.about}")


def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="data set, see `rungwise dataset list`")],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="folder of the videos")],
    out: Annotated[Path, typer.Option("--out", metavar="TABLE", help="table to write, .parquet or .csv")],
    labels: Annotated[
        Path | None, typer.Option(metavar="PATH", help="label file or its folder", show_default="ROOT")
    ] = None,
    no_videos: Annotated[bool, typer.Option("--no-videos", help="import the labels alone, open no video")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a data set's table and report every row of its labels; exit 1 if any was refused."""
    from rungwise.datasets import import_dataset

    report = import_dataset(name, root, out, labels=labels, videos=not no_videos)
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        splits = ", ".join(f"{split or 'no split'} {count}" for split, count in report.splits.items())
        refused = sum(len(names) for names in report.refused.values())
        print(f"labels:    {', '.join(report.labels)}")
        print(f"rows:      {report.rows} read, {report.imported} imported, {refused} refused")
        print(f"contents:  {report.contents} in {report.groups} groups; {splits}")
        for reason, names in report.refused.items():
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            print(f"refused:   {reason}: {len(names)}: {', '.join(names[:NAMES_SHOWN])}{more}")
        for line in report.notes:
            print(f"note:      {line}")
        print(f"table:     {report.table}")
    if not report.clean:
        raise typer.Exit(1)


def check(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="dataset table, .parquet or .csv")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Open every video of a table and report what is wrong, clip by clip; exit 1 if anything is."""
    from rungwise.datasets.check import check_videos

    problems, clips = check_videos(table)
    if as_json:
        print(json.dumps({"table": str(table), "clips": clips, "problems": problems}))
    else:
        for clip, faults in problems.items():
            print(f"{clip}: {'; '.join(faults)}")
        wrong = len(problems) - (str(table) in problems)
        print(f"{clips - wrong} of {clips} clips are as the table says")
    if problems:
        raise typer.Exit(1)


def aggregate(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="dataset table, .parquet or .csv")],
    ratings: Annotated[
        Path, typer.Argument(metavar="RATINGS", help="single ratings: columns clip, rater, score; .parquet or .csv")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="TABLE", help="table to write, .parquet or .csv")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a table with scores recovered from single ratings: each rater's bias off, careless raters weighed down."""
    from rungwise.datasets.raters import aggregate as aggregate_ratings
    from rungwise.metrics.statistics import srcc

    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"{out}: the extension of a table must be .parquet or .csv")
    rows, means, recovery = aggregate_ratings(table, ratings, out)
    bias, inconsistency = recovery.bias, recovery.inconsistency
    (low, high), (least, most) = (bias.min(), bias.max()), (inconsistency.min(), inconsistency.max())
    facts = {
        "table": str(out),
        "clips": len(rows),
        "raters": len(recovery.bias),
        "ratings": int(rows["score_raters"].sum()),
        "bias": [float(low), float(high)],
        "inconsistency": [float(least), float(most)],
        "mean_ci95": float(rows["score_ci95"].mean()),
        "srcc_to_means": srcc(means.to_numpy(float), rows["score"].to_numpy(float)),
    }
    if as_json:
        print(json.dumps(facts))
        return
    print(f"ratings:        {facts['ratings']} of {facts['clips']} clips by {facts['raters']} raters")
    print(f"bias:           {low:+.2f} to {high:+.2f} by rater")
    print(f"inconsistency:  {least:.2f} to {most:.2f} by rater")
    print(f"scores:         +/- {facts['mean_ci95']:.2f} on average, SRCC {facts['srcc_to_means']:.3f} to plain means")
    print(f"table:          {out}")
