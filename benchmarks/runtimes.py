"""The packaged model in other runtimes: scores against onnxruntime's Python package, and CPU time beside it.

    npm install --no-save --ignore-scripts onnxruntime-node onnxruntime-web
    pip install openvino
    python benchmarks/runtimes.py --out benchmarks/results/runtimes.json

Views: the golden input, and built-in scenes encoded at three CRFs. Every runtime has one thread and scores one view at
a time. They take turns, round after round, and every ratio is taken within a round: of CPU time, so that other programs
matter little. Exit 1 if a score is off by more than the contract's tolerance.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from cost import processor
from numpy.typing import NDArray

from rungwise.artifact import write_json
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.progress import note
from rungwise.scenes import write_master
from rungwise.score.contract import golden_input
from rungwise.score.needed_pixels import read_needed_pixels
from rungwise.score.scorer import Scorer
from rungwise.score.views import ViewRecipe, make_views

ROOT = Path(__file__).parents[1]
SCENES, HEIGHT, NUM_FRAMES, FPS, CRFS = ("street_a", "fog_a", "water_17"), 540, 24, 24.0, (24, 34, 44)
OUTPUTS = ("score", "fused")
NODE_MODULES = {
    "onnxruntime-node": "onnxruntime-node/dist/index.js",
    "onnxruntime-web in Node": "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
}
BASE = "onnxruntime"
Scores = NDArray[np.float64]  # views x outputs
Round = Callable[[], tuple[float, Scores]]  # CPU seconds, and the scores of all views


def make_pixels(folder: Path, recipe: ViewRecipe) -> NDArray[np.uint8]:
    """The views, x_VTSSC."""
    pixels = [golden_input(recipe)]
    for scene in SCENES:
        master = folder / f"{scene}.mkv"
        write_master(scene, master, width=HEIGHT * 16 // 9, height=HEIGHT, num_frames=NUM_FRAMES, fps=FPS)
        for crf in CRFS:
            clip = folder / f"{scene}_{crf}.mp4"
            encode(master, clip, EncodeSpec("h264", HEIGHT, crf=crf))
            pixels.append(read_needed_pixels(clip, make_views(clip, recipe)))
    return np.concatenate(pixels)


def timed(predict: Callable[[NDArray[np.uint8]], list[float]], pixels: NDArray[np.uint8]) -> Round:
    """A round of a runtime in this process."""

    def play() -> tuple[float, Scores]:
        start = time.process_time()
        scores = [predict(view[None]) for view in pixels]
        return time.process_time() - start, np.asarray(scores, float)

    return play


def in_onnxruntime(scorer: Scorer, pixels: NDArray[np.uint8]) -> tuple[str, Round]:
    """onnxruntime's Python package: its version, and a round."""
    stream = np.full((1, BITSTREAM_INPUT_DIM), 0.5, np.float32)
    outputs = list(OUTPUTS)
    return onnxruntime.__version__, timed(lambda x: [float(y[0]) for y in scorer.run(outputs, x, stream)], pixels)


def in_openvino(scorer: Scorer, pixels: NDArray[np.uint8]) -> tuple[str, Round]:
    """OpenVINO's CPU plugin, in fp32 where the file is not quantized."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(scorer.path), "CPU", settings)
    stream = np.full((1, BITSTREAM_INPUT_DIM), 0.5, np.float32)

    def predict(view: NDArray[np.uint8]) -> list[float]:
        outputs = model({"frames": view, "stream": stream})
        return [float(outputs[name][0]) for name in OUTPUTS]

    return openvino.__version__.partition("-")[0], timed(predict, pixels)


@contextmanager
def in_node(script: Path, model: Path, views: Path, shape: tuple[int, ...]) -> Iterator[tuple[str, Round]]:
    """A JavaScript runtime, in a process of its own."""
    facts = [script, model, views, ",".join(map(str, shape)), BITSTREAM_INPUT_DIM]
    command = ["node", *map(str, [Path(__file__).with_suffix(".mjs"), *facts])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        versions = json.loads(process.stdout.readline())

        def play() -> tuple[float, Scores]:
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            answer = json.loads(process.stdout.readline())
            return answer["seconds"], np.asarray(answer["scores"], float)

        yield versions.get("node") or versions["web"], play
        process.stdin.close()


def compare(runtimes: dict[str, tuple[str, Round]], num_rounds: int, tolerance: float) -> list[dict[str, Any]]:
    """One row a runtime: its largest and mean difference from onnxruntime, and its CPU time relative to it."""
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    scores: dict[str, Scores] = {}
    for number in range(num_rounds + 1):  # the first warms up
        for name, (_, play) in runtimes.items():
            spent, scores[name] = play()
            if number:
                seconds[name].append(spent)
        note(f"round {number} of {num_rounds}")
    rows = []
    for name, (version, _) in runtimes.items():
        ratios = np.divide(seconds[name], seconds[BASE])
        difference = np.abs(scores[name] - scores[BASE])
        rows.append({
            "runtime": name, "version": version, "max_difference": float(difference.max()),
            "mean_difference": float(difference.mean()), "within_tolerance": bool((difference <= tolerance).all()),
            "milliseconds_per_view": 1e3 * float(np.median(seconds[name])) / len(difference),
            "time_to_onnxruntime": float(np.median(ratios)), "lowest_ratio": float(ratios.min()),
            "highest_ratio": float(ratios.max()),
        })  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an exported hybrid .onnx file (default: the packaged model)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--node-modules", type=Path, default=ROOT / "node_modules")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    scorer = Scorer(args.model)
    assert scorer.contract.golden is not None
    tolerance = scorer.contract.golden.tolerance
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        pixels = make_pixels(folder, scorer.contract.view)
        pixels.tofile(folder / "views.raw")
        runtimes = {BASE: in_onnxruntime(scorer, pixels), "OpenVINO": in_openvino(scorer, pixels)}
        for name, path in NODE_MODULES.items():
            process = in_node(args.node_modules / path, scorer.path, folder / "views.raw", pixels.shape[1:])
            runtimes[name] = stack.enter_context(process)
        rows = compare(runtimes, args.rounds, tolerance)
    facts = {"model": scorer.contract.training_id, "precision": scorer.contract.precision, "cpu": processor(),
             "views": len(pixels), "rounds": args.rounds, "tolerance": tolerance, "rows": rows}  # fmt: skip
    if args.out:
        write_json(args.out, facts)
    print(json.dumps(facts, indent=2))
    return int(not all(row["within_tolerance"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
