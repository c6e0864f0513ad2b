"""Cells that need more than a template.

Each function takes the rows of a label file (all cells text) and its folder, and returns the rows with more cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

REFUSED = "_refused"  # a derived cell: the reason to refuse a row; empty for a valid row
REFERENCE = "reference video"
WATERLOO_TEST = ("01", "02", "03", "04")
BVI_HD_TEST = ("BallUnderWater", "Bookcase", "BricksLeaves", "Music", "PlasmaSlowRandom", "TreeGrassFamily")


def _train_or_test(is_test: pd.Series[bool]) -> pd.Series[str]:
    return is_test.map({True: "test", False: "train"})


def lsvq_split(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The split, from `is_test`."""
    return rows.assign(part=_train_or_test(rows["is_test"].str.lower().isin(["true", "1", "1.0"])))


def lower_scene(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Lower-case scenes, because one is spelled in two ways."""
    return rows.assign(scene=rows["scene"].str.lower())


def qualcomm_kind(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The folder: the name of the distortion, which the label file numbers from 1."""
    kinds = [name for name in rows["distortionNames"] if name]
    numbers = rows["distortionType"].astype(float).astype(int)
    return lower_scene(rows.assign(kind=[kinds[number - 1] for number in numbers]), folder)


def cvd2014_folder(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The folder: the name of the scene with underscores."""
    return rows.assign(scene=rows["Content"].str.replace(" ", "_"))


def kvq_source(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The source: videos 1 to 7 of a part come from source 1, 8 to 14 from source 2, and so on."""
    number = (rows["number"].replace("", "0").astype(int) - 1) // 7 + 1
    return rows.assign(source=rows["part"] + "_" + number.astype(str).str.zfill(3))


def film_or_scene(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The source: the film if the scene is a cut of one, else the scene."""
    return rows.assign(source=rows["film"].where(rows["film"] != "", rows["scene"]))


def waterloo_split(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The split of InternVQA."""
    return rows.assign(part=_train_or_test(rows["scene"].isin(WATERLOO_TEST)))


def waterloo_names(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Two-digit scenes and the resolution, as in the file names; the label file has only "540p"."""
    heights = rows["resolution"].str.removesuffix("p")
    widths = heights.map({"540": "960", "1080": "1920", "2160": "3840"}).fillna("")
    return waterloo_split(rows.assign(scene=rows["scene"].str.zfill(2), height=heights, width=widths), folder)


def bvi_hd_split(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The split of InternVQA."""
    return rows.assign(part=_train_or_test(rows["scene"].isin(BVI_HD_TEST)))


def vsr_bitrate(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The bitrate of the encode; empty for the lossless "original" inputs."""
    return rows.assign(codec_bitrate=rows["encoding_bitrate"].where(rows["codec"] != "original", ""))


def nflx_references(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Refuse the references, which have a score by definition and no bitrate."""
    film = rows["film"].where(rows["film"] != "", rows["scene"])
    return rows.assign(film=film, **{REFUSED: (rows["kbps"] == "").map({True: REFERENCE, False: ""})})


def maxwell_names(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Video names from the accompanying lists, matched row by row.

    The scores of a list are a linear map of the overall MOS, so a correlation of 1 verifies the order.

    Raises:
        ValueError: a list differs in length or order.
    """
    import numpy as np
    import pandas as pd

    parts = []
    for part, names in (("train", "train_labels.txt"), ("val", "test_labels.txt")):
        part_rows = rows[rows["part"] == part]
        part_rows = part_rows.assign(video="", name=[f"{part}_row_{line:04d}" for line in range(1, len(part_rows) + 1)])
        path = folder / names
        if len(part_rows) and path.is_file():
            listed = pd.read_csv(path, header=None, names=["video", "seconds", "rate", "mos"], skipinitialspace=True)
            overall = pd.to_numeric(part_rows["O"], errors="coerce").to_numpy(dtype=np.float64)
            known = np.isfinite(overall)
            if len(listed) != len(part_rows) or np.corrcoef(overall[known], listed["mos"][known])[0, 1] < 0.9999:
                raise ValueError(f"{path}: the rows do not match MaxWell_{part}.csv")
            stems = listed["video"].str.replace(r"\.\w+$", "", regex=True)
            part_rows = part_rows.assign(video=listed["video"].to_numpy(), name=stems.to_numpy())
        parts.append(part_rows)
    return pd.concat(parts)


def cvqad_names(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Video names from `labels.txt` of MSU_Benchmark in ExplainableVQA, matched by encoder, preset, CRF and score."""
    import pandas as pd

    path = folder / "labels.txt"
    if not path.is_file():
        return rows.assign(video="")
    listed = pd.read_csv(path, header=None, names=["video", "seconds", "rate", "mos"], skipinitialspace=True)
    name_parts = listed["video"].str.extract(r"enc_res_(.+?)_mv_(subjective|offline|fast)_.*_(\d+)\.\w+$")
    keys = name_parts[0] + "|" + name_parts[1] + "|" + name_parts[2] + "|" + listed["mos"].map("{:.9f}".format)
    names = dict(zip(keys, listed["video"], strict=True))
    for key in keys[keys.duplicated()]:
        names[key] = ""  # ambiguous
    scores = pd.to_numeric(rows["subjective_score"], errors="coerce").map("{:.9f}".format)
    row_keys = rows["codec"].str.replace("-", "_") + "|" + rows["preset"] + "|" + rows["crf"] + "|" + scores
    return rows.assign(video=row_keys.map(names).fillna(""))
