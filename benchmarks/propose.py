"""`ladder propose` beside the exhaustive hull: encodes made, VMAF lost, bitrate against a fixed ladder.

    python benchmarks/propose.py --masters MASTER ... --work DIR --out benchmarks/results/propose.json

The exhaustive search measures every height at all CRFs by VMAF, and interpolates between them in the log of bitrate.
What a proposed rung loses is the VMAF of the best height at its bitrate, less its own: what the exhaustive search
would have under the same cap. The fixed ladder is the same for all masters; its rungs' VMAF is read from the exhaustive
curve of their height. Trials are cached in --work, so a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from rungwise.artifact import write_json
from rungwise.ladder.encode import EncodeSpec
from rungwise.ladder.propose import CodecLadder, ProposeRequest, propose
from rungwise.media.ffmpeg import ffmpeg_version
from rungwise.metrics.curves import bd_rate
from rungwise.progress import note

# Height over the master's and kbps of the first four rungs of Apple's HLS authoring specification (H.264).
FIXED = ((0.6, 145.0), (1.0, 365.0), (1.0, 730.0), (1.0, 1100.0))
Curves = dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]  # bitrates and VMAF by height


def exhaustive_curves(request: ProposeRequest, ladder: CodecLadder, crfs: list[int]) -> Curves:
    """Every height at every CRF, by rising bitrate."""
    curves = Curves()
    with request.open_trials() as trials:
        for height in request.heights:
            specs = [EncodeSpec(ladder.codec, height, crf=crf, preset=ladder.preset) for crf in crfs]
            points = list[tuple[float, float]]()
            for spec in specs:
                points.append((trials.kbps(spec), trials.vmaf(spec)))
                note(f"{request.master.name} {height}p crf {spec.crf}: VMAF {points[-1][1]:.1f}")
            kbps, vmaf = np.array(sorted(points)).T
            curves[height] = kbps, vmaf
    return curves


def compare(request: ProposeRequest, crfs: list[int]) -> dict[str, Any]:
    """One master: the proposal beside all encodes of its heights, and beside the fixed ladder."""
    (ladder,) = propose(request).ladders
    curves = exhaustive_curves(request, ladder, crfs)
    interpolated = {height: PchipInterpolator(np.log2(kbps), vmaf) for height, (kbps, vmaf) in curves.items()}
    rates = np.array([rung.bitrate_kbps for rung in ladder.rungs])
    scores = np.array([rung.vmaf for rung in ladder.rungs])
    best = np.nanmax([curve(np.log2(rates), extrapolate=False) for curve in interpolated.values()], axis=0)
    lost = (best - scores)[np.isfinite(best)]
    pairs = zip(FIXED, fixed_heights(request.heights), strict=True)
    fixed = [float(interpolated[height](np.log2(rate))) for (_, rate), height in pairs]
    saving = bd_rate([rate for _, rate in FIXED], fixed, rates.tolist(), scores.tolist())
    points = [point for curve in ladder.curves for point in curve.points]
    return {
        "master": request.master.name,
        "codec": f"{ladder.codec} {ladder.preset}",
        "heights": list(request.heights),
        "rungs": [f"{rung.height}p crf {rung.crf}" for rung in ladder.rungs],
        "encodes": len(points),
        "vmaf_runs": sum(point.measured for point in points),
        "exhaustive_encodes": len(crfs) * len(curves),
        "vmaf_lost_mean": round(float(lost.mean()), 2),
        "vmaf_lost_largest": round(float(lost.max()), 2),
        "fixed_vmaf": [round(score, 1) for score in fixed],
        "bd_rate_against_fixed_percent": None if saving.percent is None else round(saving.percent, 1),
        "bd_rate_reason": saving.reason,
    }


def fixed_heights(heights: tuple[int, ...]) -> list[int]:
    """The heights nearest to those of the fixed ladder."""
    return [min(heights, key=lambda height: abs(height - ratio * max(heights))) for ratio, _ in FIXED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masters", type=Path, nargs="+", required=True)
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--heights", default="360,240")
    parser.add_argument("--crfs", default=",".join(map(str, range(15, 46, 3))))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    codec, _, preset = arguments.codec.partition(":")
    heights = tuple(map(int, arguments.heights.split(",")))
    crfs = list(map(int, arguments.crfs.split(",")))
    results = list[dict[str, Any]]()
    for master in arguments.masters:
        request = ProposeRequest(master, arguments.work, codecs=((codec, preset),), heights=heights)
        results.append(compare(request, crfs))
        print(json.dumps(results[-1]), flush=True)
        if arguments.out is not None:
            write_json(arguments.out, {"ffmpeg": ffmpeg_version(), "crfs": crfs, "masters": results})


if __name__ == "__main__":
    main()
