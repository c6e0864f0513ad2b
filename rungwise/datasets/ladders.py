"""Data sets of encodes: several rated encodes of every source, most with bitrates."""

from __future__ import annotations

from dataclasses import replace

from rungwise.datasets import derive
from rungwise.datasets.description import Description, Join, LabelFile, Layout, Number, label_files

AVT_UHD1_SCENES = (
    r"(?P<scene>american_football_harmonic|bigbuck_bunny_8bit|cutting_orange_tuil|surfing_sony_8bit|vegetables_tuil"
    r"|water_netflix|LeagueOfLegends-1|Dancers|Moment_of_Intensity|air_acrobatics_harmonic_0_cropped"
    r"|Daydreamer_SDR_8s_3840x2160_8|fr-041_debris_3840x2160_60p_422_ffvhuff_4|Giftmord-SDR_8s_11_3840x2160"
    r"|monkeys_harmonic_0_cropped|(?P<film>Sparks)_cut_1[35]|venice_harmonic_2_cropped)(?:_8s)?$"
)
AVT_SOURCES = r"(?P<scene>bigbuckbunny|daydreamer|giftmord|sparks15|vegetables|water)$"
NVC_METRICS = "psnr ssim ms_ssim vmaf vmaf_neg lpips avqbitsh0f dover fastvqa musiq qalign cvqa-nr cvqa-fr"
VSR_METRICS = (
    "psnr ssim ms-ssim vmaf vmaf-neg ssimulacra2 butteraugli cvvdp pieapp lpips-alex lpips-vgg dists cvqa-fr brisque "
    "niqe musiq clipiqa+ mdtvsfa uvq uvq1p5 cvqa-nr fastvqa fastervqa dover maxvqa qalign cover"
)


def _metrics(names: str) -> dict[str, Number]:
    """Table column -> label file column of metrics; table columns use "_" for "-" and no "+"."""
    return {name.replace("-", "_").rstrip("+"): name for name in names.split()}


_AVT_UHD1_JOINS = (
    Join(("metadata.csv",), "video_name"),
    Join(("objective_scores.csv",), "video_name"),
    Join(("crowd_test/mos_ci.csv", "crowd_mos_ci.csv"), "video_name", prefix="crowd_"),
)
_ETRI = Layout(
    (LabelFile("ETRI-LIVE_MOS.csv", joins=(Join(("ETRI-LIVE_videoInfo.csv",), "videoName"),)),),
    video="{videoName}.yuv",
    parse=(
        "videoName",
        r"(?P<scene>Beauty|Dancers|Dinner|Discuss|Football|HoneyBee|Jockey|Monkeys|Narrator|Ready|Ritual|SeaRock"
        r"|Toddler|Tunnel|Yacht)_(?P<height>\d+)p_(?P<hertz>\d+)hz_q_(?P<qp>\d+)$",
    ),
    content="{scene}",
    texts={"rate_control": "qp {qp}"},
    # Encoded resolution and frame rate; the files are upsampled to 3840x2160 and the frame rate of the source.
    numbers={
        "score": "MOS",
        "score_std": "std",
        "height": "height",
        "width": ("height", 16 / 9),
        "fps": "hertz",
        "bitrate_kbps": ("bitrate", 1e3),  # from Mbit/s
        "bitrate_level": "bitrateLevel",  # 1 is the highest
    },
)

LADDERS: dict[str, Description] = {
    "cvqad": Description(
        "CVQAD (MSU)",
        url="https://github.com/msu-video-group/MSU_VQM_Compression_Benchmark",
        license="not stated",
        encodes=1022,
        scale=("subjective_score", 0, 8),
        layouts=(
            Layout(
                label_files("Subjective_scores.csv"),
                derive=derive.cvqad_names,
                video="{video}",
                clip="{sequence}/{codec}_{preset}_{crf}",
                parse=("sequence", r"(?P<scene>.+)-(?:20\d\d|ugc)$"),
                # crowd-run-2019, -2020 and -2021 share one source, as do blue-hair-2020 and -ugc, and tractor-2019 and
                # -2021. Scores of different tests are on different scales, so they are different contents.
                content="{sequence}",
                group="{scene}",
                texts={
                    "codec": "{standard}",
                    "encoder": "{codec}",
                    "preset": "{preset}",
                    "rate_control": "{crf}",
                    "bitrate_range": "{bitrate}",
                },
                numbers={"score": "subjective_score", "bitrate_kbps": "real_bitrate"},
            ),
        ),
        display_height=1080,
        about="pairwise comparison scores with a separate zero in each test: compare within (sequence, preset) only",
    ),
    "avt_vqdb_uhd_1": Description(
        "AVT-VQDB-UHD-1, four tests",
        url="https://github.com/Telecommunication-Telemedia-Assessment/AVT-VQDB-UHD-1",
        license="TU Ilmenau content CC BY-NC 4.0, other content under its own license",
        encodes=756,
        scale=("mos", 1, 5),
        layouts=(
            # Tests 2 and 3 share scenes and 96 encodes with separate ratings, so a clip is (test, encode).
            Layout(
                tuple(LabelFile(f"test_{n}/mos_ci.csv", {"test": f"test_{n}"}, _AVT_UHD1_JOINS) for n in (1, 2, 3, 4)),
                video="{test}/segments/{video_name}",
                clip="{test}/{video_name}",
                parse=("src", AVT_UHD1_SCENES),
                derive=derive.film_or_scene,
                content="{scene}",
                group="{source}",
                texts={"test": "{test}", "codec": "{video_codec}", "rate_control": "{video_target_bitrate} kbps"},
                numbers={
                    "score": "MOS",
                    "score_ci95": "CI",
                    "crowd_mos": "crowd_MOS",
                    "crowd_ci95": "crowd_CI",
                    "width": "video_width",
                    "height": "video_height",
                    "fps": "video_frame_rate",
                    "duration_seconds": "video_duration",
                    "bitrate_kbps": "video_bitrate",
                    "vmaf": "vmaf_score",
                    "psnr": "psnr_score",
                    "ssim": "ssim_score",
                    "ms_ssim": "msssim_score",
                    "adm2": "adm2_score",
                    "niqe": "niqe_value",
                },
            ),
        ),
        display_height=2160,  # upsampled to 3840x2160 at 60 fps for display
    ),
    "avt_vqdb_uhd_1_nvc": Description(
        "AVT-VQDB-UHD-1-NVC",
        url="https://github.com/Telecommunication-Telemedia-Assessment/AVT-VQDB-UHD-1-NVC",
        license="not stated",
        encodes=216,
        scale=("mos", 1, 5),
        layouts=(
            Layout(
                label_files("results.json"),
                video="decoded/{name}.mkv",
                clip="{name}",
                parse=("source", AVT_SOURCES),
                content="{scene}",
                texts={"codec": "{codec}", "rate_control": "q {quality}"},
                numbers={
                    "score": "mos",
                    "score_std": "std",
                    "score_ci95": "ci",
                    "width": "width",
                    "height": "height",
                    "fps": "fps",
                    "num_frames": "frames",
                    "bitrate_kbps": ("bitrate", 1e-3),
                    **_metrics(NVC_METRICS),
                },
            ),
            Layout(
                label_files("subjective.csv"),
                video="decoded/{name}.mkv",
                clip="{name}",
                content="{scene}",
                parse=(
                    "name",
                    AVT_SOURCES[:-1] + r"_(?P<codec>av1|dcvcfm|dcvcrt|vvc)_(?P<w>\d+)x(?P<h>\d+)_q(?P<q>\d+)$",
                ),
                texts={"codec": "{codec}", "rate_control": "q {q}"},
                numbers={"score": "mos", "score_std": "std", "score_ci95": "ci", "width": "w", "height": "h"},
            ),
        ),
        display_height=2160,  # upscaled for display; the files are lossless decodes at the encoded resolution
    ),
    "avt_vqdb_uhd_1_vsr": Description(
        "AVT-VQDB-UHD-1-VSR",
        url="https://github.com/Telecommunication-Telemedia-Assessment/AVT-VQDB-UHD-1-VSR",
        license="not stated",
        encodes=222,
        scale=("mos", 1, 5),
        layouts=(
            # Width and height are of the encode; raters watched versions upscaled to 3840x2160.
            Layout(
                label_files("dataset.json"),
                video="{name}.mkv",
                clip="{name}",
                parse=("source", AVT_SOURCES),
                derive=derive.vsr_bitrate,
                content="{scene}",
                texts={"codec": "{codec}", "rate_control": "{qp}", "method": "{method}"},
                numbers={
                    "score": "mos",
                    "score_std": "std",
                    "score_ci95": "ci",
                    "score_raters": "count",
                    "width": "width",
                    "height": "height",
                    "fps": "fps",
                    "duration_seconds": "duration",
                    "bitrate_kbps": ("codec_bitrate", 1e-3),
                    **_metrics(VSR_METRICS),
                },
            ),
            Layout(
                label_files("subjective.json"),
                video="{name}.mkv",
                clip="{name}",
                parse=("source", AVT_SOURCES),
                content="{scene}",
                texts={"codec": "{codec}", "rate_control": "{qp}", "method": "{method}"},
                numbers={
                    "score": "mos",
                    "score_std": "std",
                    "score_ci95": "ci",
                    "score_raters": "count",
                    "width": "width",
                    "height": "height",
                },
            ),
        ),
        display_height=2160,
    ),
    "waterloo_ivc_4k": Description(
        "Waterloo IVC 4K",
        url="https://ivc.uwaterloo.ca/database/4KVQA.html",
        license="any use, with attribution",
        encodes=1200,
        scale=("mos", 0, 100),
        layouts=(
            Layout(
                label_files("scores.txt"),
                header=("encoder", "number", "resolution", "level", "mos"),
                video="{encoder}/{scene}/{width}x{height}_{level}.mp4",
                derive=derive.waterloo_names,
                parse=("number", r"(?P<scene>[1-9]|1\d|20)$"),
                content="{scene}",
                texts={"split": "{part}", "codec": "{encoder}", "rate_control": "level {level}"},
                numbers={"score": "mos", "width": "width", "height": "height", "level": "level"},  # level 4 is the best
            ),
            Layout(
                label_files("waterloo_data.csv"),
                video="{Encoder}/{file}.mp4",
                derive=derive.waterloo_split,
                parse=(
                    "path",
                    r"(?:.*/)?(?P<file>(?P<scene>0[1-9]|1\d|20)/(?P<w>\d+)x(?P<h>\d+)_(?P<level>[1-4]))\.mp4$",
                ),
                content="{scene}",
                texts={"split": "{part}", "codec": "{Encoder}", "rate_control": "level {level}"},
                numbers={"score": "MOS", "width": "w", "height": "h", "level": "level"},  # level 4 is the best
            ),
        ),
        display_height=2160,
        about="test contents are 1 to 4, the split of InternVQA",
    ),
    "bvi_hd": Description(
        "BVI-HD",
        url="https://fan-aaron-zhang.github.io/BVI-HD/",
        license="on request",
        encodes=384,
        scale=("dmos", -100, 100),
        layouts=(
            Layout(
                label_files("bvi_hd.csv"),
                video="{file}",
                derive=derive.bvi_hd_split,
                content="{scene}",
                parse=(
                    "file",
                    r"(?:.*/)?(?P<scene>\w+?)_(?P<w>\d+)x(?P<h>\d+)_(?P<rate>\d+)fps_(?P<codec>\w+?)"
                    r"_QP(?P<qp>\d+)\.\w+$",
                ),
                texts={"split": "{part}", "codec": "{codec}", "rate_control": "qp {qp}"},
                numbers={"score": "DMOS", "width": "w", "height": "h", "fps": "rate", "qp": "qp"},
            ),
        ),
        polarity="lower_is_better",
        display_height=1080,
        about="the release's label file is not supported: write bvi_hd.csv with columns file and DMOS (0: equal to the "
        "source, at most 100), with files named Boxing_1920x1080_30fps_HEVC_QP27; split of InternVQA",
    ),
    "etri_live": Description(
        "ETRI-LIVE STSVQ, MOS",
        url="https://github.com/daelee711/ETRI-LIVE_STSVQ",
        license="see its README",
        encodes=437,
        scale=("mos", 0, 100),
        layouts=(_ETRI,),
        display_height=2160,
        about="10-bit raw YUV: first convert the files to .y4m or .mkv of the same names",
    ),
    "etri_live_dmos": Description(
        "ETRI-LIVE STSVQ, DMOS",
        url="https://github.com/daelee711/ETRI-LIVE_STSVQ",
        license="see its README",
        encodes=437,
        scale=("dmos", 0, 100),
        layouts=(
            replace(
                _ETRI,
                files=(replace(_ETRI.files[0], path="ETRI-LIVE_DMOS.csv"),),
                numbers={**_ETRI.numbers, "score": "DMOS"},
            ),
        ),
        polarity="lower_is_better",
        display_height=2160,
    ),
    "nflx_public": Description(
        "NFLX public",
        url="https://github.com/Netflix/vmaf",
        license="Netflix's own terms",
        encodes=70,
        scale=("dmos", 0, 120),
        layouts=(
            Layout(
                label_files("NFLX_public_parsed.csv"),
                video="{file}",
                group="{film}",
                content="{scene}",
                derive=derive.nflx_references,
                parse=(
                    "content",
                    r"(?P<scene>BigBuckBunny|BirdsInCage|CrowdRun|(?P<film>ElFuente)[12]|FoxBird"
                    r"|OldTownCross|Seeking|Tennis)$",
                ),
                texts={"rate_control": "{kbps} kbps"},
                numbers={"score": "dmos", "height": "height", "bitrate_kbps": "kbps"},
            ),
        ),
        display_height=1080,
        about="named DMOS, but higher is better: references are 100 by definition, encodes reach 109",
    ),
}
