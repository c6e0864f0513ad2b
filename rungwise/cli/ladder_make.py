"""`rungwise ladder make`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rungwise.cli.options import Config, Json, Quiet, Ray, Runs, SourcesOption
from rungwise.cli.pipeline import report_failures

if TYPE_CHECKING:
    from rungwise.artifact import Artifact


def make(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="make shard I of N alone; auto or auto/N is this task of an array job of Slurm, AWS Batch or "
            "Kubernetes; a run without it merges all shards",
        ),
    ] = None,
    missing: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="print the array indices, from 0, of the shards of N to run again"),
    ] = None,
    ray: Ray = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode every rung of every master and label it against its master."""
    from rungwise.config import load_config
    from rungwise.ladder.make import make_ladder, missing_shards, read_failures
    from rungwise.ladder.shards import Shard
    from rungwise.ladder.sources import find_unlabelled, make_masters

    if shard is not None and missing is not None:
        raise typer.BadParameter("give one of --shard and --missing")
    part = None if shard is None else Shard.parse(shard)
    settings = load_config(config, sources=sources)
    if settings.ladder is None:
        raise ValueError(f"{config}: has no `ladder` to make, its encodes come from sources.dataset")
    made = make_masters(settings.sources, runs, held_out=settings.splits.named)
    unlabelled = find_unlabelled(settings.sources, made)
    if missing is not None:
        indices = missing_shards(settings.ladder, made, runs, missing, unlabelled=unlabelled)
        print(json.dumps({"missing": indices}) if as_json else ",".join(map(str, indices)))
        return
    artifact = make_ladder(settings.ladder, made, runs, unlabelled=unlabelled, shard=part, ray=ray)
    failures = read_failures(artifact)
    if part is None:
        _print_ladder(artifact, failures, as_json)
    else:
        clips = len(list((artifact.path / "encodes").glob("*.json")))
        facts = {"shard": str(part), "path": str(artifact.path), "encodes": clips, "failures": failures}
        print(json.dumps(facts) if as_json else f"{clips} encodes of shard {part}: {artifact.path}")
    report_failures(failures)


def _print_ladder(artifact: Artifact, failures: dict[str, str], as_json: bool) -> None:
    from rungwise.ladder.make import read_ladder

    table, path = read_ladder(artifact), str(artifact.path / "table.parquet")
    if as_json:
        print(json.dumps({"table": path, "encodes": len(table), "failures": failures}))
    else:
        print(f"{len(table)} encodes of {table['content'].nunique()} contents: {path}")
