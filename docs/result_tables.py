"""Markdown tables of the committed results: one function a table, each of the JSON in benchmarks/results/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from student.card import error_table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
SPACE = "\N{NO-BREAK SPACE}"  # inside brackets
Facts = dict[str, Any]


def read(name: str) -> Facts:
    """A results file by its name."""
    facts: Facts = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return facts


def read_csv(name: str) -> pd.DataFrame:
    """A results table by its name."""
    return pd.read_csv(RESULTS / name, keep_default_na=False, na_values=[""])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(figure: Mapping[str, float | None] | None, digits: int = 3) -> str:
    """A value with its 95 % interval; empty where there is none."""
    if figure is None or figure["value"] is None:
        return ""
    value, low, high = (
        "" if figure[part] is None else f"{figure[part]:.{digits}f}" for part in ("value", "low", "high")
    )
    return f"{value} [{low},{SPACE}{high}]" if low and high else value


ACCURACY_ROWS = {
    "log-bitrate": "log-bitrate (baseline)",
    "psnr": "PSNR (full reference)",
    "ssim": "SSIM (full reference)",
    "pixel_only": "**Rungwise, pixel-only**",
    "hybrid": "**Rungwise, hybrid**",
    "vmaf_v0": "VMAF v0 (full reference)",
}


def accuracy() -> str:
    """The packaged model beside the usual metrics, on held-out contents."""
    facts = read("accuracy.json")
    results = {result["predictor"]: result for result in facts["predictors"]}
    rows = [
        (title, interval(results[name]["srcc"]), interval(results[name]["rmse"], 1),
         interval(results[name]["within_content_srcc"]))
        for name, title in ACCURACY_ROWS.items()
    ]  # fmt: skip
    size = f"{results['hybrid']['n']} encodes of {results['hybrid']['contents']} contents"
    return table((size, "SRCC", "RMSE, points", "per-content SRCC"), rows)


def accuracy_in_full() -> str:
    """The same with every other figure."""
    results = {result["predictor"]: result for result in read("accuracy.json")["predictors"]}
    columns = {
        "rmse_raw": ("RMSE without the logistic", 1), "plcc": ("PLCC", 3), "krcc": ("KRCC", 3),
        "pairs_same_codec": ("pairs in a codec", 3), "pairs_cross_codec": ("cross-codec pairs", 3),
        "pairs_cross_resolution": ("cross-resolution pairs", 3),
    }  # fmt: skip
    rows = []
    for name, title in ACCURACY_ROWS.items():
        of_other_scale = name in ("psnr", "ssim")
        cells = [
            "" if of_other_scale and key == "rmse_raw" else interval(results[name][key], digits)
            for key, (_, digits) in columns.items()
        ]
        rows.append((title, *cells))
    return table(("", *(title for title, _ in columns.values())), rows)


def accuracy_by() -> str:
    """The packaged model on parts of the test encodes: by display height, and re-encodes apart."""
    facts, rows = read("accuracy.json"), list[Sequence[str]]()
    titles = {
        "720 and more": "720p to 1080p",
        "below 720": "below 720p",
        "master": "of the master",
        "re-encode": "re-encodes",
    }
    for part in facts["slices"]:
        if part["predictor"] in BRIEF_ROWS:
            size = f"{titles[part['group']]} ({part['n']} encodes, {part['contents']} contents)"
            figures = interval(part["srcc"]), interval(part["rmse"], 1), interval(part["within_content_srcc"])
            rows.append((size, ACCURACY_ROWS[part["predictor"]], *figures))
    return table(("test encodes", "", "SRCC", "RMSE, points", "per-content SRCC"), rows)


BRIEF_ROWS = ("log-bitrate", "pixel_only", "hybrid")


def errors() -> str:
    """Bias and RMSE of the packaged model by codec, preset and height, on test contents."""
    names = {" lines or more": "p and more", " lines": "p", "under ": "below "}
    rows = []
    for line in error_table(read_csv("accuracy.csv"), "hybrid")[2:]:
        name, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
        for old, new in names.items():
            name = name.replace(old, new)
        rows.append((name, *cells))
    return table(("encodes", "number", "contents", "bias", "RMSE"), rows)


UNSEEN_ROWS = {
    "libaom": "AV1 by libaom",
    "openh264": "H.264 by OpenH264",
    "kvazaar": "HEVC by Kvazaar",
    "mpeg2": "MPEG-2",
    "wmv2": "WMV",
    "theora": "Theora",
    "mjpeg": "Motion JPEG",
}


def unseen() -> str:
    """Encoders and codecs that the ladder does not have."""
    facts, rows = read_csv("unseen.csv"), list[Sequence[str]]()
    for kind, title in UNSEEN_ROWS.items():
        part = facts[facts["kind"] == kind]
        error = part["hybrid"] - part["score"]
        ranks = (f"{part[name].corr(part['score'], method='spearman'):.3f}" for name in ("pixel_only", "hybrid"))
        size = str(len(part)), str(part["content"].nunique())
        rows.append((title, *size, *ranks, f"{error.mean():+.1f}", f"{(error**2).mean() ** 0.5:.1f}"))
    header = ("encodes", "number", "contents", "SRCC, pixel-only", "SRCC, hybrid", "bias, hybrid", "RMSE, hybrid")
    return table(header, rows)


def coverage() -> str:
    """How many test encodes lie within the packaged model's 90 % interval."""
    own, unknown = read_csv("accuracy.csv"), read_csv("unseen.csv")
    parts = {"all": own, **{f"{lines} lines": part for lines, part in own.groupby("lines")},
             "re-encodes": own[own["generation"] != "master"], "unseen codecs and encoders": unknown}  # fmt: skip
    rows = []
    for title, part in parts.items():
        is_inside = (part["low"] <= part["score"]) & (part["score"] <= part["high"])
        rows.append((f"{title} ({len(part)})", f"{is_inside.mean():.0%}"))
    return table(("encodes", "within the 90 % interval"), rows)


def ablation() -> str:
    """What each part adds, on five folds."""
    evaluation = read("ablation.json")["evaluation"]
    against = {(one["predictor"], one["against"]): one for one in evaluation["differences"]}
    rows = []
    for result in evaluation["predictors"]:
        name = result["predictor"]
        base = f"full, {'hybrid' if 'hybrid' in name else 'pixel-only'}"
        difference = against.get((name, base))
        cells = interval(result["srcc"]), interval(result["rmse_raw"], 2), interval(result["within_content_srcc"])
        rows.append((name, *cells, interval(difference["srcc"]) if difference else ""))
    return table(("", "SRCC", "RMSE, points", "per-content SRCC", "SRCC less the full one's"), rows)


def held_out() -> str:
    """The packaged recipe on its own folds."""
    rows = [
        (result["predictor"], interval(result["srcc"]), interval(result["rmse_raw"], 2) if result["rmse_raw"] else "",
         interval(result["within_content_srcc"]))
        for result in read("held_out.json")["evaluation"]["predictors"]
    ]  # fmt: skip
    return table(("2,527 encodes of 389 contents", "SRCC", "RMSE, points", "per-content SRCC"), rows)


QUICKSTART_ROWS = {
    "log-bitrate": "log-bitrate (baseline)",
    "teacher": "teacher",
    "student": "student, pixel-only",
    "student-onnx": "student, hybrid (ONNX)",
}
QUICKSTART_COLUMNS = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "krcc": "KRCC",
    "rmse": "RMSE",
    "within_content_srcc": "per-content SRCC",
}


def quickstart() -> str:
    """The quickstart's held-out scenes."""
    results = {result["predictor"]: result for result in read("quickstart.json")["predictors"]}
    rows = [
        (title, *(interval(results[name][column], 2 if column == "rmse" else 3) for column in QUICKSTART_COLUMNS))
        for name, title in QUICKSTART_ROWS.items()
    ]
    return table(("", *QUICKSTART_COLUMNS.values()), rows)


def quickstart_gain() -> str:
    """The quickstart's students above the baseline, paired."""
    rows = [
        (QUICKSTART_ROWS[one["predictor"]], interval(one["srcc"]), interval(one["within_content_srcc"]))
        for one in read("quickstart.json")["differences"]
        if one["against"] == "log-bitrate" and one["predictor"] in QUICKSTART_ROWS
    ]
    return table(("above log-bitrate by", "SRCC", "per-content SRCC"), rows)


STEPS = {
    "decode every frame to the last used": "decoding every frame",
    "decode what it uses": "decoding the frames it uses",
    "decode and view": "decoding and cropping them",
    "model, all windows": "the network alone",
    "read the bitstream features": "reading the bitstream features",
    "score, pixel-only": "a pixel-only score",
    "VMAF v1": "VMAF v1",
    "VMAF v0": "VMAF v0",
}


def cost() -> str:
    """Time and memory of a score of ten seconds on one core."""
    rows = read("cost.json")["rows"]
    lines = [
        ("seconds", *(f"{row['seconds']['score']:.2f}" for row in rows)),
        ("seconds with process start", *(f"{row['process']['seconds']:.2f}" for row in rows)),
        ("peak memory, MB", *(f"{row['process']['peak_mb']:.0f}" for row in rows)),
        *((f"time relative to {title}", *(f"{row['score_to'][step]:.2f}" for row in rows))
          for step, title in STEPS.items()),
    ]  # fmt: skip
    return table(("score of 10 s, one core", *(f"{row['height']}p" for row in rows)), lines)


def precisions() -> str:
    """Size and speed of each file, by the network alone."""
    models, rows = read("cost.json")["models"], list[Sequence[str]]()
    for precision in dict.fromkeys(row["precision"] for row in models):
        one, two = (row for row in models if row["precision"] == precision)
        times = (f"{row['to_fp32_one_thread']:.2f}" for row in (one, two))
        rows.append((precision, f"{one['bytes'] / 1e6:.1f} MB", *times))
    return table(("file", "size", "relative time, one thread", "two threads"), rows)


def gates() -> str:
    """What fp16 and int8 lose against fp32."""
    rows: list[Sequence[str]] = []
    for student in ("mamba", "swin"):
        facts = read(f"export_{student}.json")
        figures = {(gate["name"], gate["precision"]): gate["figure"] for gate in facts["gates"]}
        in_float = len(facts["left_in_float"]["student.int8.onnx"])
        for name in ("SRCC loss", "pair loss", "mean score deviation"):
            losses = (f"{figures[name, precision]:.4f}" for precision in ("fp16", "int8"))
            title = name.replace("mean score deviation", "mean absolute difference of scores")
            rows.append((f"{student.capitalize()} `small`, {title}", *losses, str(in_float)))
    return table(("144 clips of 12 validation contents", "fp16", "int8", "layers left in float"), rows)


def frozen() -> str:
    """What storing the output of frozen layers saves."""
    rows = [
        (row["teacher"], f"{row['seconds_each_time']:.1f} s", f"{row['seconds_kept']:.1f} s",
         f"{row['times_as_fast']:.1f}x")
        for row in read("keep_frozen.json")["rows"]
    ]  # fmt: skip
    return table(("teacher, 8 epochs", "recomputed", "`keep_frozen`", "speedup"), rows)


def evaluation_time() -> str:
    """How long an evaluation takes."""
    rows = [
        (
            f"{part['predictors']} metrics on {part['rows']:,} encodes",
            str(part["resamples"]),
            f"{part['seconds']:.0f} s",
        )
        for part in read("evaluation.json")["tables"].values()
    ]
    return table(("table", "resamples", "time"), rows)


def runtimes() -> str:
    """The packaged model in other runtimes, beside onnxruntime's Python package."""
    facts = read("runtimes.json")
    rows = [
        (f"{row['runtime']} {row['version']}", f"{row['max_difference']:.2f}", f"{row['mean_difference']:.2f}",
         f"{row['time_to_onnxruntime']:.2f} ({row['lowest_ratio']:.2f} to {row['highest_ratio']:.2f})")
        for row in facts["rows"]
    ]  # fmt: skip
    views = f"{facts['precision']}, {facts['views']} views, one thread"
    header = (views, "largest difference, points", "mean difference", "CPU time relative to onnxruntime")
    return table(header, rows)
