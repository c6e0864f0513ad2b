"""`rungwise score`: the verb's options, what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rungwise.cli.options import OUTPUT, Csv, Json, Quiet, check_format

if TYPE_CHECKING:
    from rungwise.score.batch import Result
    from rungwise.score.result import Score
    from rungwise.score.scorer import Scorer


SCORING, GATES, SPEED = "Scoring", "Gates", "Speed"
Videos = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="VIDEO", help="files, folders, 'patterns/**/*.mp4', local .m3u8 or .mpd, - for y4m on stdin"
    ),
]
ListFile = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="FILE", help="a text file of inputs, one a line; - is stdin", rich_help_panel=SCORING
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        metavar="FILE",
        help="exported .onnx file",
        show_default="the packaged model",
        rich_help_panel=SCORING,
    ),
]
DisplayHeight = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="PIXELS",
        help="height at which the videos are shown",
        show_default="each video's own",
        rich_help_panel=SCORING,
    ),
]
Hdr = Annotated[
    Literal["refuse", "tonemap"],
    typer.Option(help="PQ and HLG: refuse, or tone-map for an SDR screen", rich_help_panel=SCORING),
]
PixelOnly = Annotated[bool, typer.Option("--pixel-only", help="ignore the bitstream features", rich_help_panel=SCORING)]
Timeline = Annotated[
    float | None,
    typer.Option(min=0.1, metavar="SECONDS", help="score windows of this length too", rich_help_panel=SCORING),
]
Worst = Annotated[int, typer.Option(min=0, metavar="N", help="print the N worst windows", rich_help_panel=OUTPUT)]
FailUnder = Annotated[
    float | None, typer.Option(metavar="SCORE", help="exit 1 if a video's score is worse", rich_help_panel=GATES)
]
FailUnderWorst = Annotated[
    float | None, typer.Option(metavar="SCORE", help="exit 1 if any window's score is worse", rich_help_panel=GATES)
]
Jobs = Annotated[int, typer.Option(min=1, metavar="N", help="videos at a time", rich_help_panel=SPEED)]
Threads = Annotated[
    int, typer.Option(min=1, metavar="N", help="threads of decoder and model, for each job", rich_help_panel=SPEED)
]
ScoreDevice = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="cpu, cuda, tensorrt, openvino, coreml, directml, ...",
        rich_help_panel=SPEED,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="folder of results that are reused, by content, model and options", rich_help_panel=SPEED
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="folder for timelines (.csv, .json, .svg) and the frames of the worst windows (.png)",
        rich_help_panel=OUTPUT,
    ),
]
VmafJson = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="write libvmaf's JSON: a .json file, or a folder of them", rich_help_panel=OUTPUT
    ),
]


def score(
    videos: Videos = None,
    listed: ListFile = None,
    model: Model = None,
    display_height: DisplayHeight = None,
    hdr: Hdr = "refuse",
    pixel_only: PixelOnly = False,
    timeline: Timeline = None,
    fail_under: FailUnder = None,
    fail_under_worst: FailUnderWorst = None,
    jobs: Jobs = 1,
    threads: Threads = 1,
    device: ScoreDevice = "cpu",
    cache: Cache = None,
    worst: Worst = 0,
    out: Out = None,
    vmaf_json: VmafJson = None,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Score videos: one line each, as they are done."""
    check_format(as_json, as_csv)
    if not videos and listed is None:
        raise typer.BadParameter("name a video, or give --from FILE", param_hint="VIDEO")
    if listed == "-" and "-" in (videos or ()):
        raise typer.BadParameter("stdin holds either a list (--from -) or a y4m stream (-)")
    from rungwise.score.batch import Options, score_all
    from rungwise.score.inputs import find_inputs
    from rungwise.score.scorer import Scorer

    find_cuts = timeline is not None and (out is not None or as_json)
    options = Options(display_height, hdr, timeline, find_cuts=find_cuts, pixel_only=pixel_only)
    scorer = Scorer(model, threads=threads, device=device)
    inputs = find_inputs(_arguments(videos or [], listed))
    pipe = None if sys.stdin is None else sys.stdin.buffer  # None: closed
    results = score_all(scorer, inputs, options, pipe=pipe, jobs=jobs, cache=cache)
    writer = _Writer(scorer, _Output(out, vmaf_json, worst, hdr == "tonemap", as_json, as_csv))
    if not _write_all(results, writer, _Gates(fail_under, fail_under_worst), display_height):
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Output:
    """What is printed, and which files are written."""

    folder: Path | None
    vmaf_json: Path | None
    num_worst: int
    tonemap: bool
    as_json: bool
    as_csv: bool


@dataclass(frozen=True)
class _Gates:
    """Scores below which a video fails."""

    score: float | None
    worst_window: float | None

    def failures(self, score: Score) -> Iterator[str]:
        """One line for each gate that a video fails."""
        from rungwise.score.output import clock
        from rungwise.score.timeline import worst_windows

        sign = -1 if score.polarity == "lower_is_better" else 1
        if self.score is not None and sign * score.score < sign * self.score:
            yield f"{score.score:.3f} is worse than --fail-under {self.score:g}"
        [worst] = worst_windows(score, 1)
        if self.worst_window is not None and sign * worst.score < sign * self.worst_window:
            when = clock(worst.start_seconds)
            yield f"{worst.score:.3f} at {when} is worse than --fail-under-worst {self.worst_window:g}"


def _write_all(results: Iterable[Result], writer: _Writer, gates: _Gates, display_height: int | None) -> bool:
    """Write each result as it comes; whether all inputs have a score that passes the gates."""
    heights: set[int] = set()
    passed = True
    for result in results:
        passed &= writer.write(result)
        if result.score is None:
            continue
        heights.add(result.score.display_height)
        for line in gates.failures(result.score):
            _warn(f"rungwise score: {result.score.path}: {line}")
            passed = False
    if display_height is None and len(heights) > 1:
        _warn(
            "warning: scores hold at different display heights "
            f"({', '.join(map(str, sorted(heights)))}) and don't compare; give --display-height"
        )
    return passed


def _warn(text: str) -> None:
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


class _Writer:
    """Prints results as they come and writes the files asked for; a name that comes twice gets a number."""

    def __init__(self, scorer: Scorer, output: _Output) -> None:
        self.range = scorer.contract.scale.minimum, scorer.contract.scale.maximum
        self.output = output
        self.stems: set[str] = set()
        if output.as_csv:
            from rungwise.score.output import CSV_COLUMNS

            print(",".join(CSV_COLUMNS), flush=True)

    def write(self, result: Result) -> bool:
        """One result to stdout and to files; whether there is a score and all files are written."""
        from rungwise.failures import failure
        from rungwise.score.output import csv_line, text_line, window_line

        score = result.score
        if score is None:
            values: dict[str, Any] = {"path": result.name, "error": result.error}
            if not self.output.as_json and not self.output.as_csv:
                _warn(f"rungwise score: {result.error}")
        else:
            values = score.as_dict()
        if self.output.as_csv:
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
            _warn(f"rungwise score: {failure(result.name, error)}")
        if self.output.as_json:
            if score is not None and score.timeline:
                values["timeline"] = [
                    {"start_seconds": w.start_seconds, "end_seconds": w.end_seconds, "score": w.score, "flat": w.flat}
                    for w in score.timeline
                ]
                values["cuts_seconds"] = list(result.cuts or ())
            print(json.dumps(values | ({"worst": worst} if worst else {})), flush=True)
        elif not self.output.as_csv and score is not None:
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

        for number, window in enumerate(worst_windows(score, self.output.num_worst), 1):
            index, seconds = worst_frame(window, score.polarity)
            values: dict[str, Any] = {
                "start_seconds": window.start_seconds,
                "end_seconds": window.end_seconds,
                "score": window.score,
                "frame": index,
                "frame_seconds": seconds,
            }
            if self.output.folder is not None and Path(score.path).is_file():
                picture = self.output.folder / f"{stem}.worst{number}.png"
                save_frame(Path(score.path), index, picture, tonemap=self.output.tonemap)
                values["picture"] = str(picture)
            yield values

    def _files(self, result: Result, score: Score, stem: str) -> None:
        from rungwise.artifact import write_json
        from rungwise.report.timeline import write_timeline
        from rungwise.score.output import vmaf_json

        if self.output.folder is not None and score.timeline:
            write_timeline(self.output.folder, stem, score, result.cuts or (), self.range)
        if self.output.vmaf_json is not None:
            path = self.output.vmaf_json
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
