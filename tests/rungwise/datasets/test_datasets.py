"""Import of rated data sets: small copies of every layout, the published label files if present, and errors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from rungwise.dataset_table import read_table
from rungwise.datasets import import_dataset
from rungwise.datasets.catalog import CATALOG
from rungwise.datasets.import_report import ImportReport

HIGHER, LOWER = "higher_is_better", "lower_is_better"
METADATA = "vid,mos,width,height,pixfmt,framerate,nb_frames,bitdepth,bitrate\n"
UHD1 = "american_football_harmonic_200kbps_360p_59.94fps_h264.mp4"
UHD1_8S = "american_football_harmonic_8s_97kbps_360p_59.94fps_hevc.mp4"
NVC = '[{"name": "water_av1_1280x720_q48", "mos": 3.1, "std": 0.5, "ci": 0.2, "source": "water", "codec": "AV1", '
NVC += '"width": 1280, "height": 720, "quality": 48, "bitrate": 874343.2, "fps": 60, "frames": 600, "vmaf": 79.9, '
NVC += '"cvqa-nr": 4.8}, {"name": "lava_av1_1280x720_q48", "mos": 3.1, "source": "lava", "codec": "AV1"}]'
VSR = '[{"name": "water_av1_640x360_q54.dove", "source": "water", "codec": "av1", "width": 640, "height": 360, '
VSR += '"qp": "q54", "method": "dove", "mos": 3.5, "std": 0.9, "count": 28, "ci": 0.3, "fps": 60, "duration": 10.0, '
VSR += '"encoding_bitrate": 97919.0, "vmaf": 91.9, "clipiqa+": 0.4}, {"name": "water_original_3840x2160_q0.source", '
VSR += '"source": "water", "codec": "original", "qp": "q0", "method": "source", "mos": 4.1, "encoding_bitrate": 2e9}]'

# (data set, label files, one clip, columns of its row and refused rows)
EXAMPLES: list[tuple[str, dict[str, str], str, dict[str, Any]]] = [
    (
        "lsvq",
        {"train_labels.txt": "ia/a.mp4, -1, -1, 60.5\n", "labels_test.txt": "ia/b.mp4, -1, -1, 40.25\n"},
        "ia/b",
        {"score": 40.25, "split": "test", "content": "ia/b", "score_max": 100, "fps": None},
    ),
    (
        "lsvq",
        {"labels_train_test.csv": "name,height,width,mos,frame_number,is_test\nia/a.,540,960,60.5,240,False\n"},
        "ia/a.",
        {"score": 60.5, "split": "train", "width": 960, "height": 540, "display_height": 540, "path": "ia/a..mp4"},
    ),
    ("lsvq_1080p", {"labels_1080p.txt": "ia/c.mp4, -1, -1, 70\n"}, "ia/c", {"score": 70, "split": "test"}),
    (
        "lsvq_1080p",
        {"labels_test_1080p.csv": 'name,p1,height,width,mos_p1,mos\nia/c,"[1, 2]",1080,1920,55,70\n'},
        "ia/c",
        {"score": 70, "split": "test", "height": 1080},
    ),
    (
        "konvid_1k",
        {"labels.txt": "KoNViD_1k_videos/4542323058.mp4, 8.008, 29.97, 3.22\n"},
        "KoNViD_1k_videos/4542323058",
        {"score": 3.22, "content": "4542323058", "fps": 29.97, "duration_seconds": 8.008, "score_min": 1},
    ),
    ("konvid_1k", {"KoNViD_1k_mos.csv": '"flickr_id","mos"\n3015,3.1\n'}, "KoNViD_1k_videos/3015", {"score": 3.1}),
    (
        "konvid_1k",
        {"KoNViD_1k_attributes.csv": "flickr_id,x,file_name,MOS\n3015,1,3015_original_centercrop_960x540_8s.mp4,3.1\n"},
        "KoNViD_1k_videos/3015",
        {"score": 3.1, "content": "3015"},
    ),
    (
        "live_vqc",
        {"labels.txt": "Video/A001.mp4, 10.0, 30.0, 80.2\n"},
        "Video/A001",
        {"score": 80.2, "content": "A001"},
    ),
    (
        "youtube_ugc",
        {"labels.txt": "CoverSong_480P-2207_crf_10_ss_00_t_20.0.mp4, -1, -1, 3.4\n"},
        "CoverSong_480P-2207_crf_10_ss_00_t_20.0",
        {"score": 3.4, "content": "CoverSong_480P-2207", "group": "CoverSong_2207"},
    ),
    (
        "youtube_ugc",
        {
            "YOUTUBE_UGC_H264_metadata.csv": METADATA
            + "Vlog_360P-08c9_crf_10_ss_00_t_20.0,3.6,640,360,a,30.0,600,8,9000\n"
        },
        "Vlog_360P-08c9_crf_10_ss_00_t_20.0",
        {"score": 3.6, "content": "Vlog_360P-08c9", "bitrate_kbps": 9, "duration_seconds": 20, "num_frames": 600},
    ),
    (
        "youtube_ugc",
        {"original_videos_MOS_for_YouTube_UGC_dataset.csv": "vid,category,MOS full\nVlog_360P-08c9,Vlog,3.6\n"},
        "Vlog_360P-08c9",
        {"score": 3.6, "group": "Vlog_08c9"},
    ),
    (
        "cvd2014",
        {"labels.txt": "Test4/City/Test04_City_D06.avi, 15.0, 24.0, -6.5\n"},
        "Test4/City/Test04_City_D06",
        {"score": -6.5, "content": "City", "test": "4"},
    ),
    (
        "cvd2014",
        {
            "Realignment_MOS.csv": "Content;File_name;Original MOS;Realignment MOS;;;;\n"
            "Talking head;Test04_Talking_Head_D06;7,82;1,97;;;;\n;;;;;;;\n"
        },
        "Test4/Talking_head/Test04_Talking_Head_D06",
        {"score": 1.97, "content": "Talking_head", "original_mos": 7.82},
    ),
    (
        "live_qualcomm",
        {"labels.txt": "Focus/0912_CheerLeader1_GS5_2.yuv, -1, -1, 41.6\n"},
        "Focus/0912_CheerLeader1_GS5_2",
        {"score": 41.6, "content": "0912_cheerleader1", "distortion": "Focus"},
    ),
    (
        "live_yt_gaming",
        {"LIVE_YT_GAMING_metadata.csv": METADATA + "AgeEmpires-004,80.0,1920,1080,yuv420p,30,270,8,8128431\n"},
        "AgeEmpires-004",
        {"score": 80, "group": "AgeEmpires", "bitrate_kbps": 8128.431, "duration_seconds": 9},
    ),
    (
        "maxwell",
        {
            "MaxWell_train.csv": "O,A-1,A-all,T-all\n1.0,0,1.5,1.6\n2.0,0,2.5,2.6\n3.0,0,3.5,3.6\n",
            "MaxWell_val.csv": "O,A-1,A-all,T-all\n1.5,0,1.5,1.6\n2.5,0,2.5,2.6\n",
            "train_labels.txt": "0000.mp4, -1, -1, 1.16\n0002.mp4, -1, -1, 2.09\n0004.mp4, -1, -1, 3.02\n",
            "test_labels.txt": "0001.mp4, -1, -1, 1.625\n0003.mp4, -1, -1, 2.555\n",
        },
        "0003",
        {"score": 2.5, "split": "validation", "technical_mos": 2.6, "aesthetic_mos": 2.5, "path": "0003.mp4"},
    ),
    (
        "maxwell",
        {"MaxWell_train.csv": "O,A-1,A-all,T-all\n1.0,0,1.5,1.6\n"},
        "train_row_0001",
        {"score": 1, "split": "train", "path": ""},
    ),
    (
        "kvq",
        {"KVQ_metadata.csv": METADATA + "val_video/0008,2.5,720,1280,yuv420p,0.5,6,0,81901\n"},
        "val_video/0008",
        {"score": 2.5, "split": "validation", "content": "val_002", "bitrate_kbps": 81.901, "fps": None, "width": 720},
    ),
    (
        "kvq",
        {"train_data.csv": "filename,score\ntrain/0007.mp4,3.1\n", "test_data.csv": "filename,score\ntest/0001.mp4,\n"},
        "train/0007",
        {"score": 3.1, "split": "train", "content": "train_001", "refused": {"no score": ["test/0001"]}},
    ),
    (
        "finevd",
        {"FINEVD_metadata.csv": METADATA + "0_08_00_1543240518,43.7,1080,1920,yuv420p,1000000.0,481,8,43703133\n"},
        "0_08_00_1543240518",
        {"score": 43.7, "fps": None, "duration_seconds": None, "display_height": 1920, "bitrate_kbps": 43703.133},
    ),
    (
        "cvqad",
        {
            "Subjective_scores.csv": "codec,preset,sequence,crf,standard,real_bitrate,bitrate,subjective_score\n"
            "x265-mw,fast,crowd-run-2020,35,h265,4749.0,mid,5.242461319543077\n",
            "labels.txt": "d/crowd_run/enc_res_x265_mw_mv_fast_2k_crowd_run_35.mp4, -1, -1, 5.242461319543077\n",
        },
        "crowd-run-2020/x265-mw_fast_35",
        {"score": 5.242461319543077, "codec": "hevc", "encoder": "x265-mw", "preset": "fast", "bitrate_kbps": 4749}
        | {"group": "crowd-run", "path": "d/crowd_run/enc_res_x265_mw_mv_fast_2k_crowd_run_35.mp4"},
    ),
    (
        "avt_vqdb_uhd_1",
        {
            "test_1/mos_ci.csv": f"src,video_name,MOS,CI\namerican_football_harmonic,{UHD1},2.5,0.25\n",
            "test_1/metadata.csv": "src,video_name,video_target_bitrate,video_height,video_width,video_frame_rate,"
            f"video_bitrate,video_duration,video_codec\nx,{UHD1},200,360,640,59.94,192.51,9.994,h264\n",
            "test_1/objective_scores.csv": f"src,video_name,psnr_score,vmaf_score\nx,{UHD1},25.4,7.0\n",
            "test_1/crowd_test/mos_ci.csv": f"video_name,MOS,CI\n{UHD1[:-4]},2.25,0.09\n",
            "test_3/mos_ci.csv": f"src,video_name,MOS,CI\namerican_football_harmonic_8s,{UHD1_8S},1.5,0.2\n",
            "test_4/mos_ci.csv": "src,video_name,MOS,CI\nSparks_cut_13,Sparks_cut_13_2kbps_360p_15.0fps_h264.mp4,2,0\n",
        },
        f"test_1/{UHD1[:-4]}",
        {"score": 2.5, "score_ci95": 0.25, "crowd_mos": 2.25, "vmaf": 7, "psnr": 25.4, "bitrate_kbps": 192.51}
        | {"height": 360, "display_height": 2160, "codec": "h264", "content": "american_football_harmonic"},
    ),
    (
        "avt_vqdb_uhd_1_nvc",
        {"results.json": NVC},
        "water_av1_1280x720_q48",
        {"score": 3.1, "score_std": 0.5, "bitrate_kbps": 874.3432, "codec": "av1", "content": "water", "cvqa_nr": 4.8}
        | {"duration_seconds": 10, "display_height": 2160, "refused": {"unknown content": ["lava"]}},
    ),
    (
        "avt_vqdb_uhd_1_nvc",
        {"subjective.csv": ",name,mos,std,var,ci\n0,water_vvc_640x360_q34,3.1,0.5,0.25,0.2\n"},
        "water_vvc_640x360_q34",
        {"score": 3.1, "codec": "vvc", "width": 640, "content": "water", "score_ci95": 0.2},
    ),
    (
        "avt_vqdb_uhd_1_vsr",
        {"dataset.json": VSR},
        "water_av1_640x360_q54.dove",
        {"score": 3.5, "method": "dove", "bitrate_kbps": 97.919, "score_raters": 28, "clipiqa": 0.4, "height": 360},
    ),
    (
        "avt_vqdb_uhd_1_vsr",
        {"subjective.json": VSR},
        "water_original_3840x2160_q0.source",
        {"score": 4.1, "method": "source", "bitrate_kbps": None},
    ),
    (
        "waterloo_ivc_4k",
        {"scores.txt": "HEVC, 1, 540p, 1, 18.21\nAV1, 20, 2160p, 4, 92.4\nAV1, 21, 2160p, 4, 92.4\n"},
        "HEVC/01/960x540_1",
        {"score": 18.21, "split": "test", "content": "01", "codec": "hevc", "width": 960, "height": 540, "level": 1}
        | {"refused": {"unknown content": ["21"]}},
    ),
    (
        "waterloo_ivc_4k",
        {
            "waterloo_data.csv": "Encoder,Video Number,Resolution,Distortion Level,MOS,path\n"
            "AV1,5,2160p,4,92.4,/mnt/Waterloo_IVC_4K/AV1/05/3840x2160_4.mp4\n"
        },
        "AV1/05/3840x2160_4",
        {"score": 92.4, "split": "train", "content": "05", "width": 3840, "display_height": 2160},
    ),
    (
        "bvi_hd",
        {"bvi_hd.csv": "file,DMOS\nHEVC/Bookcase_1920x1080_60fps_HEVC_QP27.yuv,5.4\n"},
        "HEVC/Bookcase_1920x1080_60fps_HEVC_QP27",
        {"score": 5.4, "score_polarity": LOWER, "split": "test", "content": "Bookcase", "fps": 60, "qp": 27},
    ),
    (
        "etri_live",
        {
            "ETRI-LIVE_MOS.csv": "\ufeffvideoName,MOS,std\nBeauty_1080p_60hz_q_27,64.6,10.7\n",
            "ETRI-LIVE_videoInfo.csv": "\ufeffvideoName,bitrate,bitrateLevel\nBeauty_1080p_60hz_q_27,8.43,2\n",
        },
        "Beauty_1080p_60hz_q_27",
        {"score": 64.6, "score_std": 10.7, "bitrate_kbps": 8430, "width": 1920, "fps": 60, "content": "Beauty"},
    ),
    (
        "etri_live_dmos",
        {"ETRI-LIVE_DMOS.csv": "videoName,DMOS,std\nBeauty_1080p_60hz_q_27,35.2,9.4\n"},
        "Beauty_1080p_60hz_q_27",
        {"score": 35.2, "score_kind": "dmos", "score_polarity": LOWER, "bitrate_kbps": None},
    ),
    (
        "nflx_public",
        {
            "NFLX_public_parsed.csv": "content,file,expert,height,kbps,dmos\nElFuente1,ElFuente1_30fps.yuv,,,,100.0\n"
            "ElFuente1,ElFuente1_10_288_375.yuv,10,288.0,375.0,18.3\n"
        },
        "ElFuente1_10_288_375",
        {"score": 18.3, "score_polarity": HIGHER, "bitrate_kbps": 375, "height": 288, "group": "ElFuente"}
        | {"refused": {"reference video": ["ElFuente1_30fps"]}},
    ),
]


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _row(report: ImportReport, clip: str) -> pd.Series[Any]:
    table = read_table(Path(report.table))
    return table[table["clip"] == clip].iloc[0]


@pytest.mark.parametrize(
    ("name", "files", "clip", "expected"), EXAMPLES, ids=[f"{t[0]}:{next(iter(t[1]))}" for t in EXAMPLES]
)
def test_layout(name: str, files: dict[str, str], clip: str, expected: dict[str, Any], tmp_path: Path) -> None:
    report = import_dataset(name, _write(tmp_path, files), tmp_path / "table.parquet", videos=False)
    row = _row(report, clip)
    assert report.refused == expected.get("refused", {})
    assert report.rows == report.imported + sum(map(len, report.refused.values()))
    assert row["score_polarity"] == CATALOG[name].polarity
    for column, value in expected.items():
        if column == "refused":
            continue
        if value is None:
            assert column not in row.index or math.isnan(row[column]), column
        else:
            assert row[column] == pytest.approx(value) if isinstance(value, float) else row[column] == value, column


def test_every_data_set_has_an_example() -> None:
    assert set(CATALOG) == {name for name, *_ in EXAMPLES}


def test_missing_label_files_are_noted(tmp_path: Path) -> None:
    files = next(files for name, files, *_ in EXAMPLES if name == "avt_vqdb_uhd_1")
    report = import_dataset("avt_vqdb_uhd_1", _write(tmp_path, files), tmp_path / "t.csv", videos=False)
    assert any(note == "missing label files: test_2/mos_ci.csv" for note in report.notes)
    assert any("test_3/metadata.csv" in note for note in report.notes)
    assert any("have 3 encodes" in note and "756" in note for note in report.notes)
    table = read_table(tmp_path / "t.csv")
    assert list(table["content"]) == ["american_football_harmonic"] * 2 + ["Sparks_cut_13"]
    assert table["group"].iloc[2] == "Sparks"


def test_matlab_files(tmp_path: Path) -> None:
    def cells(*names: str) -> np.ndarray[Any, Any]:
        return np.array([[name] for name in names], dtype=object)

    savemat(tmp_path / "data.mat", {"video_list": cells("A001.mp4", "B002.mp4"), "mos": [[80.2], [57.5]]})
    report = import_dataset("live_vqc", tmp_path, tmp_path / "vqc.parquet", videos=False)
    assert _row(report, "Video/B002")["score"] == 57.5

    savemat(tmp_path / "LIVEYTGaming.mat", {"video_list": cells("AgeEmpires-001", "Dota2-4"), "MOS": [[55.3], [60.1]]})
    report = import_dataset("live_yt_gaming", tmp_path, tmp_path / "ytg.parquet", videos=False)
    assert _row(report, "Dota2-4")["group"] == "Dota2"

    names = cells("0911duckSwim_a_1.yuv", "1006_ParkBus_b_2.yuv", "1006_ParkBus_c_3.yuv")
    videos = {"vidNames": names, "distortionType": [[2], [1], [2]], "distortionNames": cells("Artifacts", "Color")}
    scores = {"unBiasedMOS": [[41.0], [42.0], [43.0]]}
    savemat(tmp_path / "qualcommSubjectiveData.mat", {"qualcommVideoData": videos, "qualcommSubjectiveData": scores})
    report = import_dataset("live_qualcomm", tmp_path, tmp_path / "q.parquet", videos=False)
    assert _row(report, "Artifacts/1006_ParkBus_b_2")["score"] == 42
    assert _row(report, "Color/1006_ParkBus_c_3")["content"] == "1006_parkbus"


LABELS_WITH_ERRORS = (
    "KoNViD_1k_videos/1.mp4, 8, 30, 3.5\n"
    "KoNViD_1k_videos/2.mp4, 8, 30, five\n"
    "KoNViD_1k_videos/3.mp4, 8, 30,\n"
    "KoNViD_1k_videos/4.mp4, 8, 30, 55\n"
    "\n"
    "KoNViD_1k_videos/1.mp4, 8, 30, 3.5\n"
    "KoNViD_1k_videos/5.mp4, 8, 30, 2.0\n"
    "KoNViD_1k_videos/5.mp4, 8, 30, 2.5\n"
    "Video/A001.mp4, 8, 30, 2.5\n"
    "KoNViD_1k_videos/6.mp4, 8, 2.5\n"
)


def test_refused_rows_are_listed_by_reason(tmp_path: Path) -> None:
    report = import_dataset(
        "konvid_1k", _write(tmp_path, {"labels.txt": LABELS_WITH_ERRORS}), tmp_path / "t.parquet", videos=False
    )
    videos = "KoNViD_1k_videos"
    assert report.refused == {
        "score is not a number": [f"{videos}/2"],
        "no score": [f"{videos}/3"],
        "score outside 1..5": [f"{videos}/4"],
        "duplicate row": [f"{videos}/1 (labels.txt:6)"],
        "same video, contradicting scores": [f"{videos}/5 (labels.txt:7)", f"{videos}/5 (labels.txt:8)"],
        "unknown content": ["Video/A001.mp4"],
        "line has 3 cells instead of 4": [f"{videos}/6.mp4,8,2.5 (labels.txt:10)"],
    }
    assert (report.rows, report.imported) == (9, 1)
    assert "labels.txt: 1 blank lines" in report.notes


def test_invalid_label_files_raise(tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    with pytest.raises(ValueError, match=r"no data set 'konvid'; known: lsvq, .*nflx_public"):
        import_dataset("konvid", tmp_path, out)
    with pytest.raises(ValueError, match=r"no label file of KVQ; expected KVQ_metadata.csv; or train_data.csv, test"):
        import_dataset("kvq", tmp_path, out)
    with pytest.raises(ValueError, match="no such folder or file"):
        import_dataset("kvq", tmp_path / "nowhere", out)
    with pytest.raises(ValueError, match=r"must be \.parquet or \.csv"):
        import_dataset("kvq", tmp_path, tmp_path / "t.txt")
    _write(tmp_path, {"a/train_data.csv": "filename,score\n", "b/train_data.csv": "filename,mos\ntrain/0001.mp4,3\n"})
    with pytest.raises(ValueError, match=r"2 files named train_data\.csv .*--labels"):
        import_dataset("kvq", tmp_path, out)
    with pytest.raises(ValueError, match="no rows"):
        import_dataset("kvq", tmp_path, out, labels=tmp_path / "a")
    with pytest.raises(ValueError, match="no column 'score'; it has filename, mos"):
        import_dataset("kvq", tmp_path, out, labels=tmp_path / "b" / "train_data.csv")
    (tmp_path / "a" / "train_data.csv").write_bytes(b"filename,score\ntrain/\xff.mp4,3\n")
    with pytest.raises(ValueError, match="not UTF-8 text"):
        import_dataset("kvq", tmp_path, out, labels=tmp_path / "a")
    _write(tmp_path, {"c/results.json": "{}", "d/results.json": "["})
    with pytest.raises(ValueError, match="not a list of records"):
        import_dataset("avt_vqdb_uhd_1_nvc", tmp_path / "c", out)
    with pytest.raises(ValueError, match="not JSON"):
        import_dataset("avt_vqdb_uhd_1_nvc", tmp_path / "d", out)
    (tmp_path / "data.mat").write_bytes(b"no matrix")
    with pytest.raises(ValueError, match="not a readable MATLAB file"):
        import_dataset("live_vqc", tmp_path, out)
    _write(tmp_path, {"e/KVQ_metadata.csv": METADATA + "other/1,3,1,1,a,1,1,8,1\n"})
    with pytest.raises(ValueError, match=r"none of 1 rows .* is valid \(unknown content 1\); no table was written"):
        import_dataset("kvq", tmp_path / "e", out)
    _write(tmp_path, {"f/labels_train_test.csv": "name,height,width,mos\na,1,1,50\n"})
    with pytest.raises(ValueError, match="no column 'is_test'; it has name, height, width, mos"):
        import_dataset("lsvq", tmp_path / "f", out)
    _write(
        tmp_path, {"g/ETRI-LIVE_MOS.csv": "videoName,MOS\na,1\n", "g/ETRI-LIVE_videoInfo.csv": "name,bitrate\na,1\n"}
    )
    with pytest.raises(ValueError, match="no column 'videoName' to join by"):
        import_dataset("etri_live", tmp_path / "g", out)
    assert not out.exists()


def test_maxwell_lists_must_match_the_scores(tmp_path: Path) -> None:
    files = dict(next(files for name, files, *_ in EXAMPLES if name == "maxwell"))
    files["train_labels.txt"] = "0000.mp4, -1, -1, 3.02\n0002.mp4, -1, -1, 2.09\n0004.mp4, -1, -1, 1.16\n"
    with pytest.raises(ValueError, match=r"train_labels\.txt: the rows do not match MaxWell_train\.csv"):
        import_dataset("maxwell", _write(tmp_path, files), tmp_path / "t.parquet", videos=False)
