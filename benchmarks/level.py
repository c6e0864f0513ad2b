"""Refit the packaged model's regression to the presets people use, and measure its mean error.

The ladder that the model was trained on (benchmarks/default.yaml) has mostly fast presets. A slower encoder spends
fewer bits at a QP, which the regression mistook for loss. Here it is refitted to the ladder of benchmarks/level.yaml,
and is held to its former predictions at its own support points, which stand for the old ladder. Pixels, network and
graph do not change.

python benchmarks/level.py --base BASE.onnx --runs runs --out rungwise/score/models/default.onnx --json level.json
python benchmarks/level.py --base BASE.onnx --out rungwise/score/models/default.onnx --json level.json \\
  --judge NAME=TABLE
BASE.onnx is what `make default-model` exports; docs/lab-notes/2026-11.md lists masters/ and photographs/.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from distill.data import Data, read_data
from distill.pipeline import run
from rungwise.artifact import sha256_file, write_json, write_text
from rungwise.bitstream.features import NUM_BITSTREAM_FEATURES
from rungwise.bitstream.qp import CODECS
from rungwise.config import load_config
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.pairs import PairRule
from rungwise.progress import note, track
from rungwise.score.contract import Contract
from rungwise.score.scorer import Scorer
from student.card import error_table
from student.export import seal
from student.gates import PAIR_GAP_SHARE
from student.head import REGRESSION_WEIGHT, HybridHead
from student.texture import Texture

CONFIG = Path(__file__).parent / "level.yaml"
PREFIX = "model.head.stream."
FITTED = ("support", "weight", "offset")
CARD_SECTION = "## Error by codec, preset and height"
# Chosen on the validation contents of level.yaml (docs/lab-notes/2026-11.md has the others).
VERYFAST_WEIGHT = 0.25
LARGE_WEIGHT = 2.0  # of encodes shown at 1080 lines or more: few, and under-estimated most
KEPT_WEIGHTS = {"h264": 0.1, "hevc": 0.1}  # of support clips of codecs whose ladder was of fast presets
KEPT_WEIGHT = 0.3  # of the others
NOISE = 1.0


def read_regression(graph: onnx.ModelProto, contract: Contract) -> HybridHead:
    """The head with the regression of an exported graph; its network stays untrained and unused."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    width = arrays[PREFIX + "pictures.weight"].shape[1]
    head = HybridHead(width, minimum=contract.scale.minimum, maximum=contract.scale.maximum)
    for name in ("centre", "spread", *FITTED):
        getattr(head, name).copy_(torch.from_numpy(arrays[PREFIX + name].copy()))
    return head.eval()


def write_regression(graph: onnx.ModelProto, head: HybridHead) -> onnx.ModelProto:
    """The graph with another regression."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    for tensor in changed.graph.initializer:
        name = tensor.name.removeprefix(PREFIX)
        if tensor.name.startswith(PREFIX) and name in FITTED:
            tensor.CopyFrom(numpy_helper.from_array(getattr(head, name).numpy(), tensor.name))
    return changed


def scored_table(data: Data, scorer: Scorer) -> tuple[pd.DataFrame, NDArray[np.float32], NDArray[np.float32]]:
    """The clips whose stream can be read, with the base's scores; their texture_NQ and terms_NF."""
    texture = Texture(scorer.contract.view.patch_px)
    rows = np.flatnonzero(~np.isnan(data.stream).any(1))
    terms = data.terms(rows)
    textures, pixel_scores, scores = [], [], []
    for row, of_stream in track(zip(rows, terms, strict=True), "base model", total=len(rows)):
        view = np.array(data.pixels[row, :1])
        with torch.no_grad():
            textures.append(texture(torch.from_numpy(view)).mean(1)[0].numpy())
        plain, fused = scorer.run(["score", "fused"], view, of_stream[None])
        pixel_scores.append(float(plain[0]))
        scores.append(float(fused[0]))
    table = data.table.iloc[rows].reset_index(drop=True).assign(pixel_only=pixel_scores, before=scores)
    return table, np.stack(textures), terms


def refit(head: HybridHead, table: pd.DataFrame, texture: torch.Tensor, terms: torch.Tensor) -> None:
    """Fit the regression to the train clips so that it and the network together say their labels."""
    train = (table["split"] == "train").to_numpy()
    share = (table["score"].to_numpy(float) - head.minimum) / head.span
    with torch.no_grad():
        before = head.regressed(texture, terms).double().numpy()
    of_network = (table["before"].to_numpy(float) - head.minimum) / head.span - REGRESSION_WEIGHT * before
    targets = np.clip((share - of_network) / REGRESSION_WEIGHT, 0, 1.05)
    weight = np.where(table["preset"] == "veryfast", VERYFAST_WEIGHT, 1.0)
    weight *= np.where(table["display_height"] >= 1080, LARGE_WEIGHT, 1.0)
    codecs = head.support[:, NUM_BITSTREAM_FEATURES : NUM_BITSTREAM_FEATURES + len(CODECS)]
    support_weights = torch.full((len(codecs),), KEPT_WEIGHT)
    for codec, value in KEPT_WEIGHTS.items():
        support_weights[codecs[:, CODECS.index(codec)] > 0.5] = value
    head.refit_closed_form(
        texture[train], terms[train], torch.from_numpy(targets[train]), torch.from_numpy(weight[train]),
        support_weights, NOISE,
    )  # fmt: skip


def figures(table: pd.DataFrame) -> dict[str, Any]:
    """Accuracy before and after, log-bitrate beside, and errors by codec, preset and height."""
    result = evaluate_predictors(table, ["after", "before", "pixel_only"], num_resamples=1000, against=["before"],
                                 pair_rule=PairRule("label-range", PAIR_GAP_SHARE))  # fmt: skip
    errors = {name: error_table(table, name) for name in ("before", "after")}
    held = {name: float(((table[name] - table["score"]).abs() <= table["half_width"]).mean()) for name in errors}
    return {"evaluation": result.model_dump(mode="json"), "errors": errors, "held_by_interval": held}


def scored_files(path: Path, base: Scorer, scorer: Scorer) -> pd.DataFrame:
    """A labeled table's videos as a user would have them scored, by the file before and the file after.

    Re-encodes and codecs whose QP can't be read are among them if they are in the table.
    """
    from rungwise.tables import read_table_file

    table = read_table_file(path).dropna(subset=["score"])
    videos = [path.parent / video for video in table["path"]]
    heights = table["display_height"].astype(int)
    rows = []
    for video, height in track(zip(videos, heights, strict=True), path.stem, total=len(table)):
        scores = [model.score(video, display_height=height) for model in (base, scorer)]
        low, high = scores[1].low, scores[1].high
        assert low is not None
        assert high is not None
        rows.append((scores[0].score, scores[1].score, scores[1].pixel_score, (high - low) / 2))
    columns = dict(zip(("before", "after", "pixel_only", "half_width"), zip(*rows, strict=True), strict=True))
    missing = {} if "preset" in table else {"preset": ""}
    return table.reset_index(drop=True).assign(**columns, **missing)


def with_errors(card: str, lines: list[str], note_line: str) -> str:
    """A model card with another table of errors."""
    head, _, rest = card.partition(CARD_SECTION)
    following = "## Files" + (rest or head).partition("## Files")[2]
    return "\n".join([(head if rest else head.partition("## Files")[0]).rstrip(), "", CARD_SECTION, "", note_line, "",
                      *lines, "", following])  # fmt: skip


def judge(arguments: argparse.Namespace) -> None:
    """Add the figures of labeled tables, before and after the refit, to the JSON."""
    base, scorer = Scorer(arguments.base), Scorer(arguments.out, check=False)
    facts = json.loads(arguments.json.read_text())
    for argument in arguments.judge:
        name, _, path = argument.partition("=")
        facts["splits"][name] = figures(scored_files(Path(path), base, scorer))
        for when in ("before", "after"):
            print(f"{name}, {when}", *facts["splits"][name]["errors"][when], sep="\n")
        write_json(arguments.json, facts)


def main() -> None:
    """Refit, write the file, its card and the figures."""
    parser = argparse.ArgumentParser(description="Refit the shipped regression to the presets people use")
    parser.add_argument("--base", type=Path, required=True, help="exported .onnx to start from")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, required=True, help=".onnx to write; its card is taken from beside it")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--judge", action="append", default=[], metavar="NAME=TABLE",
                        help="no fit: judge a labeled table before and after, and add it to --json")  # fmt: skip
    arguments = parser.parse_args()
    if arguments.judge:
        judge(arguments)
        return
    config = load_config(arguments.config)
    artifacts = run(config, arguments.runs, until="views").artifacts
    data = read_data(config, artifacts["ladder"], artifacts["views"])
    graph, base = onnx.load(str(arguments.base)), Scorer(arguments.base)
    table, texture, terms = scored_table(data, base)
    head = read_regression(graph, base.contract)
    both = torch.from_numpy(texture), torch.from_numpy(terms)
    with torch.no_grad():
        before = head.regressed(*both).double().numpy()
        refit(head, table, *both)
        after = head.regressed(*both).double().numpy()
    table["after"] = (table["before"] + head.span * REGRESSION_WEIGHT * (after - before)).clip(
        head.minimum, head.minimum + head.span
    )
    stream = base.contract.stream
    assert stream is not None
    assert stream.calibration is not None
    table["half_width"] = stream.calibration.half_width
    facts = data.stream[~np.isnan(data.stream).any(1)][(table["split"] == "train").to_numpy()]
    wider = stream.model_copy(update={"low": tuple(np.minimum(stream.low, facts.min(0))),
                                      "high": tuple(np.maximum(stream.high, facts.max(0)))})  # fmt: skip
    read = {"base": sha256_file(arguments.base), "level_views": data.views.content_sha256}
    contract = base.contract.model_copy(
        update={"golden": None, "stream": wider, "inputs_sha256": base.contract.inputs_sha256 | read}
    )
    scorer = seal(write_regression(graph, head), contract, arguments.out)
    check = [
        scorer.run(["fused"], np.array(data.pixels[row, :1]), terms[[row]])[0][0] for row in range(0, len(table), 100)
    ]
    deviation = float(np.abs(np.array(check) - table["after"].to_numpy()[::100]).max())
    note(f"level: the file differs from the fit by {deviation:.2g} points at most")
    splits = {split: figures(table[table["split"] == split].reset_index(drop=True)) for split in ("validation", "test")}
    line = (
        "Validation encodes of benchmarks/level.yaml, of contents that nothing was trained on; bias is the mean of "
        "score - label, in points; with the bitstream."
    )
    card = arguments.out.with_suffix(".md")
    if card.is_file():
        write_text(card, with_errors(card.read_text(), splits["validation"]["errors"]["after"], line))
    for split, split_figures in splits.items():
        for name in ("before", "after"):
            print(f"{split}, {name}", *split_figures["errors"][name], sep="\n")
    if arguments.json:
        command = f"python {Path(sys.argv[0]).name} --base BASE --runs RUNS --out MODEL"
        write_json(
            arguments.json, {"command": command, "encodes": len(table), "deviation": deviation, "splits": splits}
        )


if __name__ == "__main__":
    main()
