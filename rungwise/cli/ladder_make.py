"""`rungwise ladder make`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.options import Config, Json, Quiet, Runs, SourcesOption
from rungwise.cli.pipeline import report_failures


def make(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="make every N-th encode alone; a run without it merges all shards")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode every rung of every master and label it against its master."""
    from rungwise.config import load_config
    from rungwise.ladder.make import Shard, make_ladder, read_failures, read_ladder
    from rungwise.ladder.sources import find_unlabelled, make_masters

    settings = load_config(config, sources=sources)
    if settings.ladder is None:
        raise ValueError(f"{config}: has no `ladder` to make, its encodes come from sources.dataset")
    made = make_masters(settings.sources, runs, held_out=settings.splits.named)
    share = None if shard is None else Shard.parse(shard)
    unlabelled = find_unlabelled(settings.sources, made)
    artifact = make_ladder(settings.ladder, made, runs, unlabelled=unlabelled, shard=share)
    failures, table = read_failures(artifact), read_ladder(artifact)
    facts = {"table": str(artifact.path / "table.parquet"), "encodes": len(table), "failures": failures}
    if as_json:
        print(json.dumps(facts))
    else:
        print(f"{len(table)} encodes of {table['content'].nunique()} contents: {facts['table']}")
    report_failures(failures)
