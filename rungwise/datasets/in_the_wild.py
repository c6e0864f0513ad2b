"""User-generated and in-the-wild data sets; most have one rated video per content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rungwise.datasets import derive
from rungwise.datasets.description import Description, LabelFile, Layout, Number, label_files

# Label lists of FAST-VQA and related projects: "path, duration in seconds, frames per second, MOS", -1 if unknown.
LIST = ("video", "seconds", "rate", "mos")
LIST_NUMBERS: dict[str, Number] = {"score": "mos", "duration_seconds": "seconds", "fps": "rate"}
# Metadata tables of CAMP-VQA: probed values, bitrate in bit/s.
PROBED_NUMBERS: dict[str, Number] = {
    "score": "mos",
    "width": "width",
    "height": "height",
    "fps": "framerate",
    "num_frames": "nb_frames",
    "bitrate_kbps": ("bitrate", 1e-3),
}


def _list(
    *files: LabelFile,
    parse: str = r"(?P<stem>.+)\.\w+$",
    content: str = "{clip}",
    group: str = "{content}",
    texts: Mapping[str, str] | None = None,
) -> Layout:
    return Layout(
        files,
        video="{video}",
        header=LIST,
        numbers=LIST_NUMBERS,
        parse=("video", parse),
        content=content,
        group=group,
        texts=texts or {},
    )


IN_THE_WILD: dict[str, Description] = {
    "lsvq": Description(
        "LSVQ, train and test",
        url="https://github.com/baidut/PatchVQ",
        license="on request",
        encodes=35242,
        scale=("mos", 0, 100),
        layouts=(
            _list(
                LabelFile("train_labels.txt", {"part": "train"}),
                LabelFile("labels_test.txt", {"part": "test"}),
                texts={"split": "{part}"},
            ),
            Layout(
                label_files("labels_train_test.csv"),
                video="{name}.mp4",
                derive=derive.lsvq_split,
                texts={"split": "{part}"},
                numbers={"score": "mos", "width": "width", "height": "height"},
            ),
        ),
        about="the lists have 28056 and 7186 videos; 7400 test videos were published",
    ),
    "lsvq_1080p": Description(
        "LSVQ, the second test set at 1080p",
        url="https://github.com/baidut/PatchVQ",
        license="on request",
        encodes=3573,
        scale=("mos", 0, 100),
        layouts=(
            _list(LabelFile("labels_1080p.txt"), texts={"split": "test"}),
            Layout(
                label_files("labels_test_1080p.csv"),
                video="{name}.mp4",
                texts={"split": "test"},
                numbers={"score": "mos", "width": "width", "height": "height"},
            ),
        ),
    ),
    "konvid_1k": Description(
        "KoNViD-1k",
        url="https://database.mmsp-kn.de/konvid-1k-database.html",
        license="not stated",
        encodes=1200,
        scale=("mos", 1, 5),
        layouts=(
            Layout(
                label_files("KoNViD_1k_mos.csv"),
                video="KoNViD_1k_videos/{flickr_id}.mp4",
                content="{flickr_id}",
                numbers={"score": "mos"},
            ),
            Layout(
                label_files("KoNViD_1k_attributes.csv"),
                video="KoNViD_1k_videos/{flickr_id}.mp4",
                content="{flickr_id}",
                numbers={"score": "MOS"},
            ),
            _list(LabelFile("labels.txt"), parse=r"(?:.*/)?(?P<id>\d+)\.mp4$", content="{id}"),
        ),
    ),
    "live_vqc": Description(
        "LIVE-VQC",
        url="https://live.ece.utexas.edu/research/LIVEVQC/",
        license="research, password on request",
        encodes=585,
        scale=("mos", 0, 100),
        layouts=(
            Layout(
                label_files("data.mat"),
                video="Video/{video_list}",
                content="{id}",
                numbers={"score": "mos"},
                parse=("video_list", r"(?P<id>[A-Z]\d+)\.mp4$"),
            ),
            _list(LabelFile("labels.txt"), parse=r"Video/(?P<id>[A-Z]\d+)\.mp4$", content="{id}"),
        ),
    ),
    "youtube_ugc": Description(
        "YouTube-UGC",
        url="https://media.withyoutube.com/",
        license="CC BY 4.0",
        encodes=1147,
        scale=("mos", 1, 5),
        layouts=(
            # CoverSong 2207 and 6d6a occur at two resolutions each, probably of one upload, so each is one group.
            _list(
                LabelFile("labels.txt"),
                content="{id}",
                group="{category}_{hash}",
                parse=r"(?P<id>(?P<category>\w+?)_\d+P-(?P<hash>\w{4}))_crf_10_ss_\d\d_t_20\.0\.mp4$",
            ),
            Layout(
                label_files("YOUTUBE_UGC_H264_metadata.csv"),
                video="{vid}.mp4",
                content="{id}",
                numbers=PROBED_NUMBERS,
                parse=("vid", r"(?P<id>(?P<category>\w+?)_\d+P-(?P<hash>\w{4}))_crf_10_ss_\d\d_t_20\.0$"),
                group="{category}_{hash}",
            ),
            Layout(
                label_files("original_videos_MOS_for_YouTube_UGC_dataset.csv"),
                video="{vid}.mp4",
                content="{vid}",
                parse=("vid", r"(?P<category>\w+?)_\d+P-(?P<hash>\w{4})$"),
                group="{category}_{hash}",
                numbers={"score": "MOS full"},
            ),
        ),
        about="the official workbook is read as CSV: save its sheet MOS",
    ),
    "cvd2014": Description(
        "CVD2014",
        url="https://zenodo.org/records/2646315",
        license="not stated",
        encodes=234,
        scale=("mos", -10, 100),
        layouts=(
            # Every camera filmed the same five scenes in six tests, so the scene is the content.
            _list(
                LabelFile("labels.txt"),
                content="{scene}",
                texts={"test": "{test}"},
                parse=r"Test(?P<test>\d)/(?P<scene>City|Newspaper|Talking_head|Television|Traffic)/.+\.avi$",
            ),
            Layout(
                label_files("Realignment_MOS.csv"),
                separator=";",
                decimal=",",
                derive=derive.cvd2014_folder,
                parse=("File_name", r"Test0(?P<test>\d)_.+_D\d+$"),
                video="Test{test}/{scene}/{File_name}.avi",
                content="{scene}",
                texts={"test": "{test}"},
                numbers={"score": "Realignment MOS", "original_mos": "Original MOS"},
            ),
        ),
        about="MOS after realignment over the six tests; it can be below 0",
    ),
    "live_qualcomm": Description(
        "LIVE-Qualcomm",
        url="https://live.ece.utexas.edu/research/incaptureDatabase/",
        license="on request",
        encodes=208,
        scale=("mos", 0, 100),
        layouts=(
            Layout(
                label_files("qualcommSubjectiveData.mat"),
                video="{kind}/{vidNames}",
                derive=derive.qualcomm_kind,
                content="{scene}",
                texts={"distortion": "{kind}"},
                parse=("vidNames", r"(?P<scene>\d{4}_?[A-Za-z0-9]+)_.+\.\w+$"),
                numbers={"score": "unBiasedMOS"},
            ),
            replace(
                _list(
                    LabelFile("labels.txt"),
                    content="{scene}",
                    texts={"distortion": "{kind}"},
                    parse=r"(?P<kind>Artifacts|Color|Exposure|Focus|Sharpness|Stabilization)/"
                    r"(?P<scene>\d{4}_?[A-Za-z0-9]+)_.+\.\w+$",
                ),
                derive=derive.lower_scene,
            ),
        ),
        about="raw 1080p YUV: first convert to .y4m or .mkv of the same names; `CheerLeader1` is `Cheerleader1`",
    ),
    "live_yt_gaming": Description(
        "LIVE-YT-Gaming",
        url="https://live.ece.utexas.edu/research/LIVE-YT-Gaming/",
        license="on request",
        encodes=600,
        scale=("mos", 0, 100),
        layouts=(
            # Recordings of one game look alike, so a game stays in one split.
            Layout(
                label_files("LIVE_YT_GAMING_metadata.csv"),
                video="{vid}.mp4",
                numbers=PROBED_NUMBERS,
                parse=("vid", r"(?P<game>.+)-\d+$"),
                group="{game}",
            ),
            Layout(
                label_files("LIVEYTGaming.mat"),
                video="{video_list}.mp4",
                numbers={"score": "MOS"},
                parse=("video_list", r"(?P<game>.+)-\d+$"),
                group="{game}",
            ),
        ),
    ),
    "maxwell": Description(
        "MaxWell",
        url="https://github.com/VQAssessment/ExplainableVQA",
        license="S-Lab 1.0, non-commercial",
        encodes=4543,
        scale=("mos", 1, 5),
        layouts=(
            Layout(
                (LabelFile("MaxWell_train.csv", {"part": "train"}), LabelFile("MaxWell_val.csv", {"part": "val"})),
                derive=derive.maxwell_names,
                video="{video}",
                clip="{name}",
                texts={"split": "{part}"},
                numbers={"score": "O", "aesthetic_mos": "A-all", "technical_mos": "T-all"},
            ),
        ),
        about="video names come from train_labels.txt and test_labels.txt, which match the tables row by row",
    ),
    "kvq": Description(
        "KVQ",
        url="https://lixinustc.github.io/projects/KVQ/",
        license="not stated",
        encodes=4200,
        scale=("mos", 1, 5),
        layouts=(
            # Every seven files are a source and six encodes of it; train, val and test are numbered separately.
            Layout(
                label_files("KVQ_metadata.csv"),
                video="{vid}.mp4",
                numbers=PROBED_NUMBERS,
                derive=derive.kvq_source,
                parse=("vid", r"(?P<part>train|val|test)_video/(?P<number>\d{4})$"),
                content="{source}",
                texts={"split": "{part}"},
            ),
            Layout(
                label_files("train_data.csv", "test_data.csv"),
                video="{filename}",
                numbers={"score": "score"},
                parse=("filename", r"(?P<part>train|val|test)/(?P<number>\d{4})\.mp4$"),
                content="{source}",
                derive=derive.kvq_source,
                texts={"split": "{part}"},
            ),
        ),
    ),
    "finevd": Description(
        "FineVD",
        url="https://github.com/IntMeGroup/FineVQ",
        license="not stated",
        encodes=5074,
        scale=("mos", 0, 100),
        layouts=(
            Layout(
                label_files("FINEVD_metadata.csv"),
                video="{vid}.mp4",
                numbers=PROBED_NUMBERS,
                parse=("vid", r"(?P<platform>\d)_(?P<category>\d\d)_(?P<batch>\d\d)_\d+(?:-yase|_\d)?$"),
            ),
        ),
    ),
}
