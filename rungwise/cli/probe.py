"""`rungwise probe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.each_input import each_input
from rungwise.cli.options import Json, Quiet


def probe(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO", help="video files")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print a video's codec, size, frame rate, bit depth, color, rotation, VFR and HDR."""
    from rungwise.media import video

    def work(path: Path) -> bool:
        facts = video.probe(path).model_dump()
        if as_json:
            print(json.dumps(facts))
        else:
            facts["notes"] = "; ".join(facts["notes"])
            print("\n".join(f"{name:22}{value}" for name, value in facts.items() if value != ""))
        return True

    each_input("probe", videos, work, as_json=as_json)
