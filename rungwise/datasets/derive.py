"""Cells that a template cannot fill: small functions of a label file's rows (all cells text) and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

REFUSED = "_refused"  # a derived cell: why a row is no encode; empty for a good row
REFERENCE = "reference, no encode"
WATERLOO_TEST = ("01", "02", "03", "04")
BVI_HD_TEST = ("BallUnderWater", "Bookcase", "BricksLeaves", "Music", "PlasmaSlowRandom", "TreeGrassFamily")


def _train_or_test(is_test: pd.Series[bool]) -> pd.Series[str]:
    return is_test.map({True: "test", False: "train"})


def lsvq_split(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """`is_test` says where a video belongs."""
    return rows.assign(part=_train_or_test(rows["is_test"].str.lower().isin(["true", "1", "1.0"])))


def lower_scene(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """One scene is spelled in two ways."""
    return rows.assign(scene=rows["scene"].str.lower())


def qualcomm_kind(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Folders are named by the kind of distortion, which the file numbers from 1."""
    kinds = [name for name in rows["distortionNames"] if name]
    numbers = rows["distortionType"].astype(float).astype(int)
    return lower_scene(rows.assign(kind=[kinds[number - 1] for number in numbers]), folder)


def cvd2014_folder(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Folders are the scene's name with underscores."""
    return rows.assign(scene=rows["Content"].str.replace(" ", "_"))


def kvq_source(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Videos 1 to 7 of a part come from source 1, 8 to 14 from source 2, and so on."""
    number = (rows["number"].replace("", "0").astype(int) - 1) // 7 + 1
    return rows.assign(source=rows["part"] + "_" + number.astype(str).str.zfill(3))


def film_or_scene(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Cuts of one film share a source."""
    return rows.assign(source=rows["film"].where(rows["film"] != "", rows["scene"]))


def waterloo_split(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """InternVQA's test contents."""
    return rows.assign(part=_train_or_test(rows["scene"].isin(WATERLOO_TEST)))


def waterloo_names(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Folders number the sources in two digits, and files say their size; the scores say 540p."""
    lines = rows["resolution"].str.removesuffix("p")
    widths = lines.map({"540": "960", "1080": "1920", "2160": "3840"}).fillna("")
    return waterloo_split(rows.assign(scene=rows["scene"].str.zfill(2), lines=lines, width=widths), folder)


def bvi_hd_split(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """InternVQA's test contents."""
    return rows.assign(part=_train_or_test(rows["scene"].isin(BVI_HD_TEST)))


def vsr_bitrate(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The "original" inputs are lossless, and their rate says nothing of a codec."""
    return rows.assign(codec_bitrate=rows["encoding_bitrate"].where(rows["codec"] != "original", ""))


def nflx_references(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """References stand in the same table, with a score by definition and no rate."""
    film = rows["film"].where(rows["film"] != "", rows["scene"])
    return rows.assign(film=film, **{REFUSED: (rows["kbps"] == "").map({True: REFERENCE, False: ""})})


def maxwell_names(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Row by row the lists beside name the videos; their scores are the overall MOS on another straight scale.

    Raises:
        ValueError: a list that is there has another length or another order.
    """
    import numpy as np
    import pandas as pd

    parts = []
    for part, names in (("train", "train_labels.txt"), ("val", "test_labels.txt")):
        chosen = rows[rows["part"] == part]
        chosen = chosen.assign(video="", name=[f"{part}_row_{line:04d}" for line in range(1, len(chosen) + 1)])
        path = folder / names
        if len(chosen) and path.is_file():
            listed = pd.read_csv(path, header=None, names=["video", "seconds", "rate", "mos"], skipinitialspace=True)
            overall = pd.to_numeric(chosen["O"], errors="coerce").to_numpy(dtype=np.float64)
            known = np.isfinite(overall)
            if len(listed) != len(chosen) or np.corrcoef(overall[known], listed["mos"][known])[0, 1] < 0.9999:
                raise ValueError(f"{path}: not the names of MaxWell_{part}.csv, row by row")
            stems = listed["video"].str.replace(r"\.\w+$", "", regex=True)
            chosen = chosen.assign(video=listed["video"].to_numpy(), name=stems.to_numpy())
        parts.append(chosen)
    return pd.concat(parts)


def cvqad_names(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Names from `labels.txt` of ExplainableVQA's MSU_Benchmark, found by encoder, preset, CRF and score."""
    import pandas as pd

    path = folder / "labels.txt"
    if not path.is_file():
        return rows.assign(video="")
    listed = pd.read_csv(path, header=None, names=["video", "seconds", "rate", "mos"], skipinitialspace=True)
    said = listed["video"].str.extract(r"enc_res_(.+?)_mv_(subjective|offline|fast)_.*_(\d+)\.\w+$")
    keys = said[0] + "|" + said[1] + "|" + said[2] + "|" + listed["mos"].map("{:.9f}".format)
    names = dict(zip(keys, listed["video"], strict=True))
    for key in keys[keys.duplicated()]:
        names[key] = ""  # two videos fit: better none
    scores = pd.to_numeric(rows["subjective_score"], errors="coerce").map("{:.9f}".format)
    wanted = rows["codec"].str.replace("-", "_") + "|" + rows["preset"] + "|" + rows["crf"] + "|" + scores
    return rows.assign(video=wanted.map(names).fillna(""))
