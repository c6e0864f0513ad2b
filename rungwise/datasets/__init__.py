"""Import rated data sets into the dataset table: one importer, and one description per data set (`catalog`).

Every row of a label file is either imported or refused, and refused rows are listed by reason and name.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

from rungwise.dataset_table import NUMBER_COLUMNS, TEXT_COLUMNS, write_table
from rungwise.datasets.catalog import describe
from rungwise.datasets.derive import REFERENCE, REFUSED
from rungwise.datasets.description import OWN_HEIGHT, Description, Layout
from rungwise.datasets.import_report import ImportReport
from rungwise.datasets.labels import LINE, LINE_LENGTH, find_labels, read_rows, without_extension
from rungwise.datasets.videos import PROBED_COLUMNS, with_videos

if TYPE_CHECKING:
    import pandas as pd

FPS_RANGE = (1.0, 300.0)  # published tables hold misread values such as 0.5, 90000 and 1000000
CODECS = {"h265": "hevc", "h.265": "hevc", "avc": "h264", "dcvc-fm": "dcvcfm", "dcvc-rt": "dcvcrt"}
SPLITS = {"val": "validation"}
UNKNOWN_CONTENT, CONTRADICTION, DUPLICATE = "unknown content", "same video, contradicting scores", "duplicate row"


def import_dataset(
    name: str, root: Path, out: Path, *, labels: Path | None = None, videos: bool = True
) -> ImportReport:
    """Write the dataset table of the valid rows, and report the others.

    Args:
        name: a key of the catalog.
        root: the folder of the videos, searched recursively.
        out: the table, `.parquet` or `.csv`; its paths are relative to its folder.
        labels: folder of the label files, or one label file; the default is `root`.
        videos: False opens no videos. Paths are then the expected ones, and only columns of the label files are filled.

    Raises:
        ValueError: an unknown data set, no label file, a missing column, or no valid row.
    """
    description = describe(name)
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"{out}: the extension of a table must be .parquet or .csv")
    layout, files, missing = find_labels(description, labels or root)
    rows, notes = read_rows(layout, files)
    report = ImportReport(name, str(out), [str(path) for _, path in files], rows=len(rows))
    if missing:
        report.notes.append(f"missing label files: {', '.join(missing)}")
    report.notes += notes
    table = _table(description, layout, rows, files[0][1].parent, report)
    encodes = len(rows) - sum(len(names) for reason, names in report.refused.items() if reason == REFERENCE)
    if encodes != description.encodes:
        report.notes.append(f"the label files have {encodes} encodes, the published data set has {description.encodes}")
    if videos:
        table = with_videos(table, root, report)
    else:
        table["path"] = [str(root.resolve() / video) if video else "" for video in table["video"]]
    folder = out.parent.resolve()
    table["path"] = [Path(os.path.relpath(path, folder)).as_posix() if path else "" for path in table["path"]]
    if table.empty:
        reasons = ", ".join(f"{reason} {len(names)}" for reason, names in report.refused.items())
        raise ValueError(
            f"{name}: none of {report.rows} rows of {report.labels[0]} is valid ({reasons}); no table was written"
        )
    height = float(description.display_height)
    table["display_height"] = table["height"] if height == OWN_HEIGHT else height
    _clear_conflicting_splits(table, report)
    mean_srcc, _ = bitrate_srcc(table)
    if mean_srcc < 0:
        report.notes.append(f"CHECK POLARITY: quality falls as bitrate rises (mean per-content SRCC {mean_srcc:.2f})")
    report.imported, report.contents, report.groups = len(table), table["content"].nunique(), table["group"].nunique()
    report.splits = dict(Counter(table["split"]))
    standard = [*TEXT_COLUMNS, *NUMBER_COLUMNS]
    other = [column for column in table.columns if column not in (*standard, "video")]
    extras = [column for column in other if not table[column].isna().all()]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(out, table[[*standard, *extras]].reset_index(drop=True))
    return report


def bitrate_srcc(table: pd.DataFrame) -> tuple[float, int]:
    """Mean per-content SRCC of bitrate and quality, and the number of contents with three or more bitrates.

    Quality is the score, negated if lower is better. A positive mean confirms the polarity.
    """
    import pandas as pd

    sign = table["score_polarity"].map({"higher_is_better": 1.0, "lower_is_better": -1.0})
    rated = pd.DataFrame({"content": table["content"], "rate": table["bitrate_kbps"], "quality": sign * table["score"]})
    correlations = [
        float(rows["rate"].rank().corr(rows["quality"].rank()))
        for _, rows in rated.dropna().groupby("content")
        if rows["rate"].nunique() > 2 and rows["quality"].nunique() > 1
    ]
    return (sum(correlations) / len(correlations) if correlations else float("nan")), len(correlations)


def _table(
    description: Description, layout: Layout, rows: pd.DataFrame, folder: Path, report: ImportReport
) -> pd.DataFrame:
    """Label rows in the columns of the table, with the expected path in `video`; refused rows go to the report."""
    score_source = layout.numbers["score"]
    score_column = score_source if isinstance(score_source, str) else score_source[0]
    rows, unknown_content = _parsed_rows(layout, rows, score_column, folder, report.labels[0])
    rows = _identified_rows(layout, rows)
    table = _filled_table(description, layout, rows)
    _clear_impossible_values(table, report)
    reasons = _refusal_reasons(description, table, rows, unknown_content, rows[score_column])
    for index in reasons.index[reasons != ""]:
        reason = reasons[index]
        name = rows[layout.parse[0]][index] if reason == UNKNOWN_CONTENT else rows["clip"][index]
        ambiguous = reason.startswith((LINE_LENGTH, DUPLICATE, CONTRADICTION)) or not name
        report.refused.setdefault(reason, []).append(f"{name} ({rows[LINE][index]})" if ambiguous else str(name))
    return table[reasons == ""].copy()


def _parsed_rows(
    layout: Layout, rows: pd.DataFrame, score_column: str, folder: Path, file: str
) -> tuple[pd.DataFrame, pd.Series[bool]]:
    """Rows with the cells of `parse` and `derive`, and which rows do not match `parse`."""
    import pandas as pd

    column, pattern = layout.parse
    _require_column(rows, column, file)
    unmatched = pd.Series(False, index=rows.index)
    if column:
        cells = rows[column].str.extract(f"^{pattern}").fillna("")
        unmatched = ~rows[column].str.match(f"^{pattern}")
        rows = rows.assign(**{str(name): cells[name] for name in cells})
    _require_column(rows, score_column, file)
    if layout.derive:
        try:
            rows = layout.derive(rows, folder).sort_index()
        except KeyError as error:
            _require_column(rows, str(error.args[0]), file)
            raise
    return rows, unmatched


def _identified_rows(layout: Layout, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the cells video (expected path), clip, content and group; each may use those before it."""
    rows["_video"] = _filled(layout.video, rows).str.replace("\\", "/")
    rows["clip"] = (_filled(layout.clip, rows) if layout.clip else rows["_video"]).map(without_extension)
    rows["content"] = _filled(layout.content, rows)
    rows["group"] = _filled(layout.group, rows)
    return rows


def _filled_table(description: Description, layout: Layout, rows: pd.DataFrame) -> pd.DataFrame:
    """All columns of the table, and `video`, before any check."""
    import pandas as pd

    table = pd.DataFrame(index=rows.index)
    table["video"] = rows["_video"]
    for column in TEXT_COLUMNS:
        table[column] = rows[column] if column in ("clip", "content", "group") else ""
    for column, template in layout.texts.items():
        table[column] = _filled(template, rows)
    table["codec"] = [CODECS.get(codec.lower(), codec.lower()) for codec in table["codec"]]
    table["split"] = table["split"].replace(SPLITS)
    kind, lowest, highest = description.scale
    table["score_kind"], table["score_polarity"] = kind, description.polarity
    table[list(NUMBER_COLUMNS)] = float("nan")
    for column, source in layout.numbers.items():
        table[column] = _numbers(rows, source, layout.decimal)
    table["score_min"], table["score_max"] = float(lowest), float(highest)
    return table


def _refusal_reasons(
    description: Description,
    table: pd.DataFrame,
    rows: pd.DataFrame,
    unknown_content: pd.Series[bool],
    score_text: pd.Series[str],
) -> pd.Series[str]:
    """Why each row is refused, "" for valid rows; the first reason that applies."""
    _, lowest, highest = description.scale
    reasons = rows[REFUSED].copy()
    for reason, applies in (
        (UNKNOWN_CONTENT, unknown_content),
        ("no score", score_text.str.lower().isin(["", "nan", "none", "null"])),
        ("score is not a number", table["score"].isna()),
        (f"score outside {lowest:g}..{highest:g}", (table["score"] < lowest) | (table["score"] > highest)),
    ):
        reasons = reasons.mask((reasons == "") & applies, reason)
    valid = table[reasons == ""]
    contradicting = valid.groupby("clip")["score"].transform("nunique") > 1
    repeated = valid["clip"].duplicated() & ~contradicting
    reasons[contradicting[contradicting].index] = CONTRADICTION
    reasons[repeated[repeated].index] = DUPLICATE
    return reasons


def _require_column(rows: pd.DataFrame, column: str, file: str) -> None:
    """Raise ValueError if the label file lacks a column."""
    if column and column not in rows.columns:
        columns = ", ".join(str(name) for name in rows.columns if not str(name).startswith("_"))
        raise ValueError(f"{file}: no column {column!r}; it has {columns[:300]}")


def _filled(template: str, rows: pd.DataFrame) -> pd.Series[str]:
    """A template filled from every row; a cell that no label file has is empty."""
    import pandas as pd

    filled = pd.Series("", index=rows.index)
    for text, cell, _, _ in Formatter().parse(template):
        filled = filled + text + (rows[cell] if cell in rows.columns else "")
    return filled


def _numbers(rows: pd.DataFrame, source: str | tuple[str, float], decimal: str) -> pd.Series[float]:
    """A number column in the table's unit; NaN where it is missing, infinite or not a number."""
    import pandas as pd

    column, factor = (source, 1.0) if isinstance(source, str) else source
    if column not in rows.columns:
        return pd.Series(float("nan"), index=rows.index)
    text = rows[column] if decimal == "." else rows[column].str.replace(decimal, ".")
    numbers = pd.to_numeric(text, errors="coerce").astype(float) * factor
    return numbers.where(numbers.abs() < float("inf")).round(9)


def _clear_impossible_values(table: pd.DataFrame, report: ImportReport) -> None:
    """Set impossible sizes, rates and durations to NaN, and derive missing durations from frame counts."""
    columns = list(PROBED_COLUMNS)
    table[columns] = table[columns].where(table[columns] > 0)
    invalid = table["fps"].notna() & ~table["fps"].between(*FPS_RANGE)
    if invalid.any():
        values = ", ".join(f"{fps:g}" for fps in sorted(set(table["fps"][invalid])))
        report.notes.append(f"impossible fps {values}: treated as unknown in {int(invalid.sum())} rows")
        table.loc[invalid, "fps"] = float("nan")
    if "num_frames" in table:
        table["num_frames"] = table["num_frames"].where(table["num_frames"] > 1)
        duration = table["num_frames"] / table["fps"]
        table["duration_seconds"] = table["duration_seconds"].fillna(duration)


def _clear_conflicting_splits(table: pd.DataFrame, report: ImportReport) -> None:
    """Clear the official split of groups that are in more than one."""
    conflicting = table.groupby("group")["split"].transform("nunique") > 1
    if conflicting.any():
        names = sorted(set(table["group"][conflicting]))
        report.notes.append(
            f"the official split divides {len(names)} groups ({', '.join(names[:5])}): "
            f"the split of their {int(conflicting.sum())} rows was cleared"
        )
        table.loc[conflicting, "split"] = ""
