"""`rungwise masters`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.options import Quiet


def masters(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="folder to write to")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCENE", help="fog_a, fog_17, ...", show_default="all that end in a letter"),
    ] = None,
    height: Annotated[int, typer.Option(min=64, metavar="PIXELS", help="height of the 16:9 frames")] = 360,
    frames: Annotated[int, typer.Option(min=1, metavar="N", help="frames a scene")] = 48,
    fps: Annotated[float, typer.Option(min=1, metavar="RATE", help="frames a second")] = 24.0,
    sheet: Annotated[bool, typer.Option("--sheet", help="write a contact sheet too")] = False,
    quiet: Quiet = False,
) -> None:
    """Render the built-in scenes as lossless video, for use elsewhere."""
    from rungwise.progress import track
    from rungwise.scenes import SCENES, contact_sheet, find_scene, write_master

    chosen = names or sorted(SCENES)
    for name in chosen:
        find_scene(name)  # a wrong name stops the command before anything is drawn
    out.mkdir(parents=True, exist_ok=True)
    width = round(height * 16 / 9 / 2) * 2
    for name in track(chosen, "masters", total=len(chosen)):
        write_master(name, out / f"{name}.mkv", width=width, height=height, num_frames=frames, fps=fps)
        print(out / f"{name}.mkv")
    if sheet:
        contact_sheet(chosen, out / "contact_sheet.png")
        print(out / "contact_sheet.png")
