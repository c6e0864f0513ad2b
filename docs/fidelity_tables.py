"""Markdown tables of benchmarks/results/ladder_fidelity.json."""

from __future__ import annotations

from result_tables import read, table

FIDELITY_ROWS = ("log-bitrate", "pixel-only", "hybrid, each rung by itself", "hybrid", "VMAF v0")


OUTCOMES = ("found", "uncertain", "missed")


def ladder_fidelity() -> str:
    """Decisions of `ladder check` by each metric beside those by VMAF v1."""
    facts, rows = read("ladder_fidelity.json"), []
    for name in FIDELITY_ROWS:
        row = facts["rows"][name]
        faults = row["faults"]
        rows.append((
            f"**{name}**" if name == "hybrid" else name,
            ", ".join(str(faults[key]) for key in OUTCOMES), str(faults["false"]),
            *(_decimals(faults[key], 2) for key in ("precision", "recall", "f1")),
            _decimals(row["false_alarms_on_20"], 1), _decimals(row["hull_agreement"]["value"], 2),
            _decimals(row["crossover_mean_octaves"], 2), _decimals(row["bd_mean_error"], 0),
            "" if row["bd_same_sign"] is None else f"{100 * row['bd_same_sign']:.0f} %", _decimals(row["vmaf_lost"], 2),
        ))  # fmt: skip
    sound = facts["rows"]["hybrid"]["sound_ladders"]
    size = (
        f"{facts['contents']} contents, {facts['encodes']} encodes, {sound} sound ladders, {facts['ladders'] - sound}"
    )
    header = (
        f"{size} faulty", "faults found, uncertain, missed", "false", "precision", "recall", "F1",
        "false alarms on 20 sound ladders", "hull agreement", "crossover error, octaves", "BD-rate error, points",
        "BD-rate sign", "VMAF v1 lost",
    )  # fmt: skip
    return table(header, rows)


def planted_faults() -> str:
    """Planted faults found, uncertain and missed by each metric."""
    rows = read("ladder_fidelity.json")["rows"]
    lines = []
    for fault, title in PLANTED_FAULTS.items():
        cells = [rows[name]["planted"].get(fault) for name in FIDELITY_ROWS]
        counts = (", ".join(str(cell[key]) for key in OUTCOMES) if cell else "" for cell in cells)
        lines.append((title, *counts))
    return table(("planted: found, uncertain, missed", *FIDELITY_ROWS), lines)


def errors_needed() -> str:
    """What VMAF v1 itself would reach with an error of its differences, or with an offset between codecs."""
    facts = read("ladder_fidelity.json")
    errors = [
        (f"{row['error']:g}", _decimals(row["f1"], 2), _decimals(row["false_alarms_on_20"], 1))
        for row in facts["vmaf_v1_with_error"]
    ]
    offsets = [
        (f"{row['offset']:g}", _decimals(row["bd_mean_error"], 0), f"{100 * row['bd_same_sign']:.0f} %")
        for row in facts["vmaf_v1_with_offset"]
    ]
    first = table(("error of a difference, points", "F1", "false alarms on 20 sound ladders"), errors)
    second = table(("offset between two codecs, points", "BD-rate error, points", "BD-rate sign"), offsets)
    return f"{first}\n\n{second}"


PLANTED_FAULTS = {
    "unordered": "out of order",
    "off-hull": "below the hull",
    "close": "too close",
    "saturated": "saturated top",
    "gap": "gap",
    "reencode": "re-encode",
    "blurred": "blurred",
}


def _decimals(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
