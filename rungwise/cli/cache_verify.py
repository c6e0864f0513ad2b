"""`rungwise cache verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rungwise.cli.each_input import each_input
from rungwise.cli.options import Device, Json, Quiet
from rungwise.cli.pipeline import training_packages


def verify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="a cache's folder (runs/cache/ID), or a runs folder: all its caches")
    ],
    sample: Annotated[int, typer.Option(min=1, metavar="N", help="clips to run again")] = 32,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="which clips are drawn", show_default="another each time; printed")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="FRACTION",
            help="allowed difference as a fraction of a field's scale",
            show_default="0.001 in fp32, 0.03 in bf16",
        ),
    ] = None,
    device: Device = "cpu",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the teacher again on random clips of a finished cache; exit 1 if any differs."""
    import secrets

    caches = [run] if (run / "manifest.json").is_file() else sorted((run / "cache").glob("*/manifest.json"))
    if not caches:
        raise ValueError(
            f"{run}: neither a finished cache nor a runs folder with one; make one with `rungwise cache make`"
        )
    seed = secrets.randbelow(2**31) if seed is None else seed
    with training_packages():
        from distill.cache_audit import verify_cache

    def work(path: Path) -> bool:
        rows, allowed = verify_cache(path, sample=sample, seed=seed, tolerance=tolerance, device=device)
        return _report(path, rows, seed, allowed, as_json)

    folders = (path if path.is_dir() else path.parent for path in caches)
    each_input("cache verify", folders, work, key="cache", as_json=as_json)


def _report(path: Path, rows: list[dict[str, Any]], seed: int, tolerance: float, as_json: bool) -> bool:
    """Print how far a cache's clips are off; whether all are within the tolerance."""
    worst = {name: max(row[name] for row in rows) for name in rows[0] if name != "clip"}
    off: int = sum(max(row[name] for name in worst) > tolerance for row in rows)
    if as_json:
        facts = {"cache": str(path), "clips": len(rows), "off": off, "seed": seed, "tolerance": tolerance}
        print(json.dumps(facts | worst | {"rows": rows}))
    else:
        figures = ", ".join(f"{name} {value:.2g}" for name, value in worst.items())
        print(f"{path}: {len(rows) - off} of {len(rows)} clips agree (seed {seed}, tolerance {tolerance:g}); {figures}")
    return off == 0
