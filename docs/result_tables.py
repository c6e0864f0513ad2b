"""Markdown tables of the committed results: one function a table, each of the JSON in benchmarks/results/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
SPACE = "\N{NO-BREAK SPACE}"  # inside brackets
Facts = dict[str, Any]


def read(name: str) -> Facts:
    """A results file by its name."""
    facts: Facts = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return facts


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


ERROR_HEADER = ("encodes", "number", "contents", "bias", "RMSE")


def errors() -> str:
    """Bias and RMSE of the packaged model by codec, preset and height, on validation contents."""
    lines = read("level.json")["splits"]["validation"]["errors"]["after"][2:]
    names = {" lines or more": "p and more", " lines": "p", "under ": "below "}
    rows = []
    for line in lines:
        name, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
        for old, new in names.items():
            name = name.replace(old, new)
        rows.append((name, *cells))
    return table(ERROR_HEADER, rows)


LEVEL_SPLITS = {
    "validation": "validation, presets people use",
    "test": "test, presets people use",
    "test contents, ladder of default.yaml": "test, the first ladder",
    "codecs and encoders that nothing was trained on": "test, unseen codecs and encoders",
}


def level() -> str:
    """What the refit of the regression changed."""
    splits = read("level.json")["splits"]
    rows: list[Sequence[str]] = []
    for split, title in LEVEL_SPLITS.items():
        part = splits[split]
        results = {result["predictor"]: result for result in part["evaluation"]["predictors"]}
        size = f"{results['after']['n']} encodes, {results['after']['contents']} contents"
        rows.append((f"**{title}** ({size})", *[""] * 5))
        for name in ("log-bitrate", "before", "after"):
            bias = _bias(part["errors"].get(name, []))
            cells = [interval(results[name][key], digits)
                     for key, digits in (("srcc", 3), ("rmse_raw", 1), ("within_content_srcc", 3))]  # fmt: skip
            rows.append((name, *cells, bias.get("all", ""), bias.get("h264 medium", "")))
    return table(("", "SRCC", "RMSE, points", "per-content SRCC", "bias", "bias, x264 medium"), rows)


def _bias(lines: Sequence[str]) -> dict[str, str]:
    """Kind of encode -> bias, of a table of errors."""
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:]]
    return {row[0]: row[3] for row in cells}


def coverage() -> str:
    """How many encodes lie within the packaged model's 90 % interval."""
    splits = read("level.json")["splits"]
    rows = [(LEVEL_SPLITS[split], f"{splits[split]['held_by_interval']['after']:.0%}") for split in LEVEL_SPLITS]
    return table(("encodes", "within the 90 % interval"), rows)


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


RECIPE_COLUMNS = {
    "srcc": "SRCC",
    "plcc_linear": "PLCC",
    "within_content_srcc": "per-content SRCC",
    "pairs_cross_codec": "cross-codec pairs",
    "pairs_cross_resolution": "cross-resolution pairs",
}
RECIPE_ROWS = {
    "log-bitrate": "log-bitrate (baseline)",
    "brisque": "BRISQUE",
    "niqe": "NIQE",
    "ridge 0": "frozen EfficientNet-Lite0 + ridge",
    "teacher 0": "teacher",
    "pictures 0": "student, pixel-only",
    "student 0": "student, hybrid",
    "shipped pictures": "file before the refit, pixel-only",
    "shipped": "file before the refit, hybrid",
    "psnr": "PSNR (full reference)",
    "ssim": "SSIM (full reference)",
    "vmaf_v0": "VMAF v0 (full reference)",
}
RECIPE_SECTIONS = {
    "five folds": "five folds over {contents} contents, {clips} encodes",
    "one generation": "of these, the {clips} encodes of the master",
    "two generations": "of these, the {clips} re-encodes",
    "folds without AV1": "the same folds, trained without AV1, its {clips} encodes",
    "folds with AV1": "trained with AV1, the same {clips}",
    "older codecs": "the same folds, {clips} encodes by VP8 and MPEG-4",
    "other settings": "the same folds, {clips} encodes by other presets and tunes",
    "1080 lines": "1080p: synthetic pan/zoom clips from {contents} stills, folds by picture, {clips} encodes",
    "test": "{contents} test contents, {clips} encodes",
    "test, one generation": "of these, the {clips} encodes of the master",
    "test, other settings": "test contents, {clips} encodes by other presets and tunes",
    "unseen libaom": "unseen encoder: AV1 by libaom, {clips} encodes of the test contents",
    "unseen openh264": "unseen encoder: H.264 by OpenH264, {clips} encodes",
    "unseen kvazaar": "unseen encoder: HEVC by Kvazaar, {clips} encodes",
    "unseen mpeg2": "unseen codec: MPEG-2, {clips} encodes",
    "unseen wmv2": "unseen codec: WMV, {clips} encodes",
    "unseen theora": "unseen codec: Theora, {clips} encodes",
    "unseen mjpeg": "unseen codec: Motion JPEG, {clips} encodes",
    "without AV1": "trained without AV1, its {clips} encodes of the test contents",
    "with AV1": "trained with AV1, the same {clips}",
    "without half size": "trained without half size, its {clips} encodes of the test contents",
    "with half size": "trained with half size, the same {clips}",
}
FULL_SECTIONS = ("five folds", "test")
FEW_ROWS = ("log-bitrate", "pictures 0", "student 0", "shipped pictures", "shipped")


def recipe() -> str:
    """The recipe before the refit: a table for each way to hold out, one row a predictor."""
    sections = read("default.json")["sections"]
    parts = []
    for name, title in RECIPE_SECTIONS.items():
        section = sections[name]
        predictors = {key: value for key, value in RECIPE_ROWS.items() if name in FULL_SECTIONS or key in FEW_ROWS}
        rows = [
            (label, *(interval(section["predictors"][predictor][key]) for key in RECIPE_COLUMNS))
            for predictor, label in predictors.items()
            if predictor in section["predictors"]
        ]
        heading = title.format(**section)
        parts += [f"**{heading[0].upper()}{heading[1:]}**", table(("", *RECIPE_COLUMNS.values()), rows)]
        seeds = [_seeds(section, predictor) for predictor in ("pictures", "student")]
        if all(seeds):
            parts.append(f"SRCC of three seeds: pixel-only {seeds[0]}; hybrid {seeds[1]}.")
    return "\n\n".join(parts)


def _seeds(section: Facts, predictor: str) -> str:
    results = [section["predictors"].get(f"{predictor} {seed}") for seed in range(3)]
    return ", ".join(f"{row['srcc']['value']:.3f}" for row in results if row) if all(results) else ""


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


def student_sizes() -> str:
    """Weights and multiply-adds of each student."""
    rows = [
        (
            row["model"],
            row["size"],
            str(row["stem_stages"]),
            f"{row['weights'] / 1e6:.1f} M",
            f"{row['macs'] / 1e9:.2f} G",
        )
        for row in read("students.json")["costs"]
        if row.get("size")
    ]
    return table(("student", "`size`", "`stem_stages`", "weights", "multiply-adds per view"), rows)


GAIN_ROWS = {
    "teacher": "teacher (Lite0)",
    "log-bitrate": "log-bitrate (baseline)",
    "small: label only": "labels alone",
    "small: distribution, feature, relation": "with the teacher's distribution, features and relations",
}


def student_gains() -> str:
    """What the teacher adds to the default students, on test contents."""
    rows = []
    for row in read("students.json")["rows"]:
        if row["codecs"] == "all" and row["variant"] in GAIN_ROWS:
            title = ": ".join(filter(None, (row["student"].capitalize(), GAIN_ROWS[row["variant"]])))
            rows.append((title, _listed(row["srcc"]), _listed(row.get("gain"))))
    return table(("", "SRCC", "gain"), rows)


def _listed(figure: Sequence[float] | None) -> str:
    return interval(dict(zip(("value", "low", "high"), figure, strict=True))) if figure else ""


METHOD_TEACHERS = {"internvideo2": "InternVQA", "q_clip": "Q-CLIP", "clipvqa": "CLIPVQA", "conviqt": "CONVIQT"}
TRANSFER = ("no tuning", "StylePrompt tuning", "full tuning")
COARSE_TO_FINE = ("label only", "+ coarse", "+ coarse and fine")


def methods() -> str:
    """What was measured of each published method."""
    rows = [
        (f"{METHOD_TEACHERS[row['teacher']]}, tiny teacher", f"{row['validation_encodes']} validation encodes",
         row["validation_srcc"].replace(", ", f",{SPACE}"))
        for row in read("teachers_tiny.json")["rows"] if row["teacher"] in METHOD_TEACHERS
    ]  # fmt: skip
    for method, student, codecs, variants in (
        ("QMamba", "mamba", "av1, vp9", TRANSFER),
        ("SwinV2 coarse-to-fine", "swin", "all", COARSE_TO_FINE),
    ):
        by_variant = {row["variant"]: row for row in read("students.json")["rows"]
                      if (row["codecs"], row["student"]) == (codecs, student)}  # fmt: skip
        rows += [(f"{method}, {variant.removeprefix('+ ')}", "test encodes", _listed(by_variant[variant]["srcc"]))
                 for variant in variants]  # fmt: skip
    return table(("method", "on", "SRCC"), rows)


def students() -> str:
    """What each part of distillation adds, on validation and on test contents."""
    columns, rows = list[dict[tuple[str, str], Facts]](), list[Sequence[str]]()
    names = ("students_validation.json", "students.json")
    for student in ("mamba", "swin"):
        for name in names:
            columns.append({(row["codecs"], row["variant"]): row for row in read(name)["rows"]
                            if row["student"] in (student, "")})  # fmt: skip
    for key in columns[0]:
        rows.append((_variant(*key), *(_gain(column[key]) for column in columns)))
    return table(("SRCC (gain)", "Mamba, validation", "Mamba, test", "Swin, validation", "Swin, test"), rows)


def _variant(codecs: str, variant: str) -> str:
    return variant if codecs == "all" else f"to AV1 and VP9: {variant}"


def _gain(row: Facts) -> str:
    value = f"{row['srcc'][0]:.3f}"
    if "gain" not in row or row["gain"] is None:
        return value
    gain, low, high = row["gain"]
    return f"{value} ({gain:+.3f}{SPACE}[{low:.3f},{SPACE}{high:.3f}])"
