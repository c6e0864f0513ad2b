"""Markdown tables of the students and the published systems in benchmarks/results/."""

from __future__ import annotations

from collections.abc import Sequence

from result_tables import SPACE, Facts, interval, read, table


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


TRANSFER = ("no tuning", "StylePrompt tuning", "full tuning")
COARSE_TO_FINE = ("label only", "+ coarse", "+ coarse and fine")


def published() -> str:
    """The six small configs, each from masters to its exported file, and log-bitrate on the same encodes."""
    rows = read("published.json")["rows"]
    digits = {"srcc": 3, "rmse": 1, "within_content_srcc": 3}

    def line(name: str, own: Facts, *end: str) -> tuple[str, ...]:
        return (name, *(interval(own[figure], places) for figure, places in digits.items()), *end)

    lines = [line("log-bitrate (baseline)", rows[0]["predictors"]["log-bitrate"], "", "")]
    for row in rows:
        gates, seconds, own = row["gates"], sum(row["seconds"].values()), row["predictors"]
        lines.append(line(f"{row['method']}, teacher", own["teacher"], "", ""))
        ends = f"{gates['passed']} of {gates['all']}", f"{seconds:.0f} s"
        lines.append(line(f"{row['method']}, student's ONNX", own["student-onnx"], *ends))
    return table(("system", "SRCC", "RMSE, points", "per-content SRCC", "gates passed", "time"), lines)


def student_exports() -> str:
    """Each student at one size: its cost, and its file through the gates."""
    rows = [
        (
            f"`{row['student']}` {row['size']}",
            f"{row['weights'] / 1e6:.1f} M",
            f"{row['macs'] / 1e9:.1f} G",
            *(
                (
                    f"{row['megabytes']:.1f} MB",
                    f"{row['seconds_a_view']:.2f} s" if "seconds_a_view" in row else "",
                    f"{sum(gate['passed'] for gate in row['gates'])} of {len(row['gates'])}",
                )
                if "gates" in row
                else ("", "", "")
            ),
        )
        for row in read("student_exports.json")["rows"]
    ]
    return table(("student", "weights", "multiply-adds", "fp32 file", "CPU time of a view", "gates passed"), rows)


def methods() -> str:
    """What was measured of published parts of students."""
    rows = list[tuple[str, ...]]()
    for method, student, codecs, variants in (
        ("QMamba's StylePrompt, light student", "mamba", "av1, vp9", TRANSFER),
        ("SwinV2 coarse-to-fine, light student", "swin", "all", COARSE_TO_FINE),
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
