"""Print the README's results tables from committed JSON.

    python benchmarks/results_table.py benchmarks/results/quickstart.json
    python benchmarks/results_table.py benchmarks/results/default.json

The first is `evaluation.json` of a run's `evaluate` artifact, the second what benchmarks/default_model.py writes. A
test holds the README and this output equal.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROWS = {
    "log-bitrate": "log-bitrate (baseline)",
    "teacher": "teacher",
    "student": "student",
    "student-onnx": "student, ONNX",
}
COLUMNS = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "krcc": "KRCC",
    "rmse": "RMSE",
    "within_content_srcc": "SRCC within content",
}


def markdown(evaluation: dict[str, Any]) -> str:
    """The table, one row a predictor, 95 % intervals in brackets."""
    results = {result["predictor"]: result for result in evaluation["predictors"]}
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, title in ROWS.items():
        cells = [_cell(results[name][column], column) for column in COLUMNS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


SHIPPED_COLUMNS = {
    "srcc": "SRCC",
    "plcc_linear": "PLCC",
    "within_content_srcc": "SRCC within content",
    "pairs_cross_codec": "pairs across codecs",
    "pairs_cross_resolution": "pairs across sizes",
}
SHIPPED_ROWS = {
    "log-bitrate": "log-bitrate (baseline)",
    "brisque": "BRISQUE",
    "niqe": "NIQE",
    "ridge 0": "frozen EfficientNet-Lite0 + ridge",
    "teacher 0": "teacher",
    "pictures 0": "student, pictures alone",
    "student 0": "student, pictures and stream",
    "shipped pictures": "shipped file, pictures alone",
    "shipped": "shipped file",
    "psnr": "PSNR (has the reference)",
    "ssim": "SSIM (has the reference)",
    "vmaf_v0": "VMAF v0 (has the reference)",
}
SECTIONS = {
    "five folds": "five folds over {contents} contents, {clips} encodes",
    "one generation": "of them the {clips} encodes of the master itself",
    "two generations": "of them the {clips} encodes of an encode",
    "folds without AV1": "the same folds, trained without AV1 and judged on its {clips} encodes",
    "folds with AV1": "trained with AV1, the same {clips}",
    "older codecs": "the same folds, {clips} encodes by VP8 and MPEG-4",
    "other settings": "the same folds, {clips} encodes by slower and faster presets, tuned otherwise",
    "1080 lines": "1080 lines: {contents} photographs under a camera, in folds by picture, {clips} encodes",
    "test": "{contents} test contents, {clips} encodes",
    "test, one generation": "of them the {clips} encodes of the master itself",
    "test, other settings": "test contents, {clips} encodes by slower and faster presets, tuned otherwise",
    "untaught libaom": "never taught: AV1 by libaom, {clips} encodes of the test contents",
    "untaught openh264": "never taught: H.264 by OpenH264, {clips} encodes",
    "untaught kvazaar": "never taught: HEVC by Kvazaar, {clips} encodes",
    "untaught mpeg2": "never taught: MPEG-2, {clips} encodes",
    "untaught wmv2": "never taught: WMV, {clips} encodes",
    "untaught theora": "never taught: Theora, {clips} encodes",
    "untaught mjpeg": "never taught: Motion JPEG, {clips} encodes",
    "without AV1": "trained without AV1, judged on its {clips} encodes of test contents",
    "with AV1": "trained with AV1, the same {clips}",
    "without half size": "trained without half size, judged on its {clips} encodes of test contents",
    "with half size": "trained with half size, the same {clips}",
}
ALL_ROWS = ("five folds", "test")
FEW_ROWS = ("log-bitrate", "pictures 0", "student 0", "shipped pictures", "shipped")


def shipped(facts: dict[str, Any]) -> str:
    """The shipped model's table: a block for each way of judging, one row a predictor."""
    lines = ["| | " + " | ".join(SHIPPED_COLUMNS.values()) + " |", "|---" * (len(SHIPPED_COLUMNS) + 1) + "|"]
    for name, title in SECTIONS.items():
        section = facts["sections"][name]
        lines.append(f"| **{title.format(**section)}** |" + " |" * len(SHIPPED_COLUMNS))
        for predictor, row in SHIPPED_ROWS.items():
            if predictor in section["predictors"] and (name in ALL_ROWS or predictor in FEW_ROWS):
                cells = [_cell(section["predictors"][predictor][column], column) for column in SHIPPED_COLUMNS]
                lines.append(f"| {row} | " + " | ".join(cells) + " |")
        seeds = [_seeds(section, predictor) for predictor in ("pictures", "student")]
        if all(seeds):
            lines.append(f"| the same by seed: pictures; with stream | {'; '.join(seeds)} |" + " |" * 4)
    return "\n".join(lines)


def _seeds(section: dict[str, Any], predictor: str) -> str:
    found = [section["predictors"].get(f"{predictor} {seed}") for seed in range(3)]
    return ", ".join(f"{row['srcc']['value']:.3f}" for row in found if row) if all(found) else ""


def _cell(figure: dict[str, float | None], column: str) -> str:
    if figure["value"] is None:
        return ""
    digits = 2 if column == "rmse" else 3
    value, low, high = (
        "" if figure[part] is None else f"{figure[part]:.{digits}f}" for part in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]" if low and high else value


if __name__ == "__main__":
    read = json.loads(Path(sys.argv[1]).read_text())
    print(shipped(read) if "sections" in read else markdown(read))
