"""`rungwise score`: the verb's options, what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rungwise.cli.options import Json

if TYPE_CHECKING:
    from rungwise.score.batch import Result
    from rungwise.score.scorer import Score, Scorer


class HdrChoice(StrEnum):
    """What is done with PQ and HLG."""

    refuse = "refuse"
    tonemap = "tonemap"


def score(
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEOS...", help="files, folders, 'patterns/**/*.mp4', local .m3u8 or .mpd, - for y4m on stdin"
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="exported .onnx file [the one that is shipped]")
    ] = None,
    listed: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="a text file of inputs, one a line; - is stdin")
    ] = None,
    display_height: Annotated[
        int | None,
        typer.Option("--display-height", min=2, help="lines at which the videos are shown [each its own]"),
    ] = None,
    hdr: Annotated[HdrChoice, typer.Option(help="PQ and HLG: refuse, or tonemap for an SDR screen")] = HdrChoice.refuse,
    timeline: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="score windows of so many seconds as well")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, metavar="N", help="name the N worst windows")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="folder for the timelines (.csv, .json, .svg) and the worst windows' frames (.png)"),
    ] = None,
    fail_under: Annotated[float | None, typer.Option(help="exit 1 if a video's score is worse than this")] = None,
    fail_under_worst: Annotated[
        float | None, typer.Option(help="exit 1 if any window's score is worse than this")
    ] = None,
    vmaf_json: Annotated[
        Path | None,
        typer.Option("--vmaf-json", metavar="PATH", help="write libvmaf's JSON: a .json file, or a folder of them"),
    ] = None,
    pictures_only: Annotated[
        bool, typer.Option("--pictures-only", help="leave out of account how many bits a file's frames take")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="videos at a time")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="threads of decoder and model, for each job")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, tensorrt, openvino, coreml, directml, ...")] = "cpu",
    cache: Annotated[
        Path | None, typer.Option(help="folder of results by content, model and options, to keep and to look in first")
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV instead of text")] = False,
) -> None:
    """Score videos with an exported file. One line a video, as they are done."""
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    if not videos and listed is None:
        raise typer.BadParameter("name a video, or give --from FILE", param_hint="VIDEOS")
    if listed == "-" and "-" in (videos or ()):
        raise typer.BadParameter("stdin holds either a list (--from -) or a y4m stream (-)")
    from rungwise.score.batch import Options, score_all
    from rungwise.score.inputs import find_inputs
    from rungwise.score.scorer import Scorer

    scorer = Scorer(model, threads=threads, device=device)
    options = Options(
        display_height,
        hdr.value,
        timeline,
        find_cuts=timeline is not None and (out is not None or as_json),
        pictures_only=pictures_only,
    )
    inputs = find_inputs(_arguments(videos or [], listed))
    pipe = None if sys.stdin is None else sys.stdin.buffer  # None: closed
    results = score_all(scorer, inputs, options, pipe=pipe, jobs=jobs, cache=cache)
    writer = _Writer(scorer, out, vmaf_json, worst, tonemap=options.hdr == "tonemap", as_json=as_json, as_csv=as_csv)
    heights: set[int] = set()
    failed = 0
    for result in results:
        failed += not writer.write(result)
        if result.score is None:
            continue
        heights.add(result.score.display_height)
        failed += sum(1 for _ in _gates(result.score, fail_under, fail_under_worst))
    if display_height is None and len(heights) > 1:
        _note(
            "warning: scores hold at different display heights "
            f"({', '.join(map(str, sorted(heights)))}) and don't compare; give --display-height"
        )
    if failed:
        raise typer.Exit(1)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments(videos: list[str], listed: str | None) -> Iterator[str]:
    """Inputs of the command line, then of a list: one a line, blank lines and those that begin with # left out."""
    yield from videos
    if listed == "-":
        yield from _listed(sys.stdin)
    elif listed is not None:
        from rungwise.tables import read_text

        yield from _listed(read_text(Path(listed)).splitlines())


def _listed(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        text = line.strip("\r\n").removeprefix("\ufeff")
        text = text if os.path.exists(text) else text.strip()
        if text and (not text.startswith("#") or os.path.exists(text)):
            yield text


def _gates(score: Score, fail_under: float | None, fail_under_worst: float | None) -> Iterator[str]:
    """One line to stderr for each gate that a video fails."""
    from rungwise.score.output import clock
    from rungwise.score.timeline import worst_windows

    sign = -1 if score.polarity == "lower_is_better" else 1
    if fail_under is not None and sign * score.score < sign * fail_under:
        line = f"rungwise score: {score.path}: {score.score:.3f} is worse than --fail-under {fail_under:g}"
        _note(line)
        yield line
    [worst] = worst_windows(score, 1)
    if fail_under_worst is not None and sign * worst.score < sign * fail_under_worst:
        line = (
            f"rungwise score: {score.path}: {worst.score:.3f} at {clock(worst.start_seconds)} "
            f"is worse than --fail-under-worst {fail_under_worst:g}"
        )
        _note(line)
        yield line


class _Writer:
    """Prints results as they come and writes the files asked for; a name that comes twice gets a number."""

    def __init__(
        self,
        scorer: Scorer,
        out: Path | None,
        vmaf_json: Path | None,
        worst: int,
        *,
        tonemap: bool,
        as_json: bool,
        as_csv: bool,
    ) -> None:
        self.range = scorer.contract.scale.minimum, scorer.contract.scale.maximum
        self.out, self.vmaf_json, self.worst, self.tonemap = out, vmaf_json, worst, tonemap
        self.as_json, self.as_csv = as_json, as_csv
        self.stems: set[str] = set()
        if as_csv:
            from rungwise.score.output import CSV_COLUMNS

            print(",".join(CSV_COLUMNS), flush=True)

    def write(self, result: Result) -> bool:
        """One result to stdout and to files; whether there is a score and all files are written."""
        from rungwise.failures import failure
        from rungwise.score.output import csv_line, text_line, window_line

        score = result.score
        if score is None:
            values: dict[str, Any] = {"path": result.name, "error": result.error}
            if not self.as_json and not self.as_csv:
                _note(f"rungwise score: {result.error}")
        else:
            values = score.as_dict()
        if self.as_csv:
            print(csv_line(values), flush=True)
        stem = self._stem(result.name)
        worst: list[dict[str, Any]] = []
        complete = score is not None
        try:
            if score is not None:
                self._files(result, score, stem)
                worst += self._worst(score, stem)
        except Exception as error:
            complete = False
            _note(f"rungwise score: {failure(result.name, error)}")
        if self.as_json:
            if score is not None and score.timeline:
                values["timeline"] = [
                    {"start_seconds": w.start_seconds, "end_seconds": w.end_seconds, "score": w.score, "flat": w.flat}
                    for w in score.timeline
                ]
                values["cuts_seconds"] = list(result.cuts or ())
            print(json.dumps(values | ({"worst": worst} if worst else {})), flush=True)
        elif not self.as_csv and score is not None:
            lines = [text_line(score), *map(window_line, score.timeline), *map(_worst_line, worst)]
            print("\n".join(lines), flush=True)
        return complete

    def _stem(self, name: str) -> str:
        """What a result's files are called."""
        from rungwise.media.suffixes import PLAYLIST_SUFFIXES

        path, _, variant = name.partition("#")
        stem = "stdin" if name == "-" else Path(path).stem
        if variant and Path(path).suffix.lower() in PLAYLIST_SUFFIXES:
            stem = "_".join([stem, *Path(variant).with_suffix("").parts])
        elif variant:
            stem = Path(name).stem
        unique, number = stem, 1
        while unique in self.stems:
            number += 1
            unique = f"{stem}-{number}"
        self.stems.add(unique)
        return unique

    def _worst(self, score: Score, stem: str) -> Iterator[dict[str, Any]]:
        from rungwise.score.timeline import save_frame, worst_frame, worst_windows

        for number, window in enumerate(worst_windows(score, self.worst), 1):
            index, seconds = worst_frame(window, score.polarity)
            values: dict[str, Any] = {
                "start_seconds": window.start_seconds,
                "end_seconds": window.end_seconds,
                "score": window.score,
                "frame": index,
                "frame_seconds": seconds,
            }
            if self.out is not None and Path(score.path).is_file():
                picture = self.out / f"{stem}.worst{number}.png"
                save_frame(Path(score.path), index, picture, tonemap=self.tonemap)
                values["picture"] = str(picture)
            yield values

    def _files(self, result: Result, score: Score, stem: str) -> None:
        from rungwise.artifact import write_json
        from rungwise.score.output import vmaf_json
        from rungwise.score.timeline import write_timeline

        if self.out is not None and score.timeline:
            write_timeline(self.out, stem, score, result.cuts or (), self.range)
        if self.vmaf_json is not None:
            path = self.vmaf_json
            if path.suffix != ".json":
                path = path / f"{stem}.json"
            elif len(self.stems) > 1:
                raise ValueError(f"--vmaf-json {path}: one file takes one video; give a folder")
            write_json(path, vmaf_json(score))


def _worst_line(values: dict[str, Any]) -> str:
    from rungwise.score.output import clock

    picture = f"  {values['picture']}" if "picture" in values else ""
    return (
        f"  worst  {clock(values['start_seconds'])} to {clock(values['end_seconds'])}  {values['score']:7.3f}  "
        f"frame {values['frame']} at {clock(values['frame_seconds'])}{picture}"
    )
