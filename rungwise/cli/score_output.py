"""What `rungwise score` prints and writes, and the gates that a video must pass."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rungwise.score.batch import Result
    from rungwise.score.result import Score, Window
    from rungwise.score.scorer import Scorer


@dataclass(frozen=True)
class Output:
    """What is printed, and which files are written."""

    folder: Path | None
    vmaf_json: Path | None
    num_worst: int
    tonemap: bool
    as_json: bool
    as_csv: bool


@dataclass(frozen=True)
class Gates:
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
        if self.worst_window is None:
            return
        [worst] = worst_windows(score, 1)
        if sign * worst.score < sign * self.worst_window:
            when = clock(worst.start_seconds)
            yield f"{worst.score:.3f} at {when} is worse than --fail-under-worst {self.worst_window:g}"


def write_results(results: Iterable[Result], writer: Writer, gates: Gates, display_height: int | None) -> bool:
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


def print_window(name: str, window: Window, is_hybrid: bool) -> None:
    """One NDJSON line for a window."""
    values = {
        "path": name,
        "start_seconds": window.start_seconds,
        "end_seconds": window.end_seconds,
        "score": window.score,
        "pixel_score": window.pixel_score,
        "bitstream_used": is_hybrid,
        "flat": window.flat,
    }
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Writer:
    """Prints results as they come and writes the files asked for; a name that comes twice gets a number."""

    def __init__(self, scorer: Scorer, output: Output) -> None:
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
        from rungwise.media.remote import is_url
        from rungwise.media.suffixes import PLAYLIST_SUFFIXES

        path, _, variant = name.partition("#")
        path = path.partition("?")[0] if is_url(path) else path
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
