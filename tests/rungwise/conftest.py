"""Fixtures: a tiny ONNX model, and unusual video files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from rungwise.ladder.faults import check_ladder
from rungwise.ladder.rungs import LadderCheck, Rung, make_metric
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.score.contract import METADATA_KEY, Calibration, Contract, Golden, Scale, golden_input, sha256_array
from rungwise.score.scorer import Scorer
from rungwise.score.views import ViewRecipe

RECIPE = ViewRecipe(num_frames=4, frame_choice="uniform", grid=2, patch_px=32)
SOURCE = ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=12:d=1"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"]


def make_model(path: Path, recipe: ViewRecipe = RECIPE, polarity: str = "higher_is_better") -> Path:
    """A model whose score depends on every pixel: a weighted mean with seeded weights."""
    size, frames = recipe.size_px, recipe.num_frames
    weights = np.random.default_rng(0).random((size, size, 3), np.float32)
    weights *= np.float32(100 / 255) / weights.mean()
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "weights"], ["weighted"]),
        helper.make_node("ReduceMean", ["weighted", "axes"], ["frame_scores"], keepdims=0),
        helper.make_node("ReduceMean", ["frame_scores", "time"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", frames, size, size, 3])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("frame_scores", TensorProto.FLOAT, ["batch", frames]),
        ],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([2, 3, 4]), "axes"),
            numpy_helper.from_array(np.array([1]), "time"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = golden_input(recipe)
    scores = session.run(["score"], {"frames": pixels})[0]
    contract = Contract(
        model="tiny",
        view=recipe,
        scale=Scale(kind="vmaf_v1", polarity=polarity, minimum=0, maximum=100),
        calibration=Calibration(coverage=0.9, half_width=5.0, num_clips=30),
        golden=Golden(
            input_sha256=sha256_array(pixels), scores=tuple(float(score) for score in scores), tolerance=1e-3
        ),
        training_id="0",
        dataset_sha256="0",
    )
    helper.set_model_props(model, {METADATA_KEY: contract.model_dump_json()})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of higher-is-better VMAF."""
    return make_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


BT2020 = "color_primaries=bt2020:colorspace=bt2020nc"

ODD: dict[str, tuple[list[str], list[str]]] = {  # name -> ffmpeg input and output options
    "plain.mp4": (SOURCE, [*X264, "-pix_fmt", "yuv420p"]),
    "anamorphic.mp4": (SOURCE, [*X264, "-pix_fmt", "yuv420p", "-vf", "setsar=4/3"]),
    "odd_size.mkv": (SOURCE, ["-vf", "format=rgb24,scale=161:97", "-c:v", "ffv1", "-pix_fmt", "yuv420p"]),
    "tiny.mkv": (["-f", "lavfi", "-i", "testsrc2=s=16x16:r=12:d=1"], [*X264, "-pix_fmt", "yuv420p"]),
    "one_frame.mp4": (SOURCE, [*X264, "-pix_fmt", "yuv420p", "-frames:v", "1"]),
    "vfr.mp4": (SOURCE, [*X264, "-pix_fmt", "yuv420p", "-vf", "setpts=N*N/(36*TB)/4", "-fps_mode", "passthrough"]),
    "interlaced.mp4": (
        SOURCE,
        [*X264, "-pix_fmt", "yuv420p", "-vf", "setfield=tff", "-flags", "+ilme+ildct", "-x264-params", "tff=1"],
    ),
    "ten_bit.mkv": (SOURCE, [*X264, "-pix_fmt", "yuv420p10le"]),
    "twelve_bit_422.mkv": (SOURCE, ["-c:v", "ffv1", "-pix_fmt", "yuv422p12le"]),
    "full_444.mkv": (SOURCE, ["-vf", "scale=out_range=full,format=yuv444p", *X264, "-color_range", "pc"]),
    "bt601.mp4": (SOURCE, [*X264, "-pix_fmt", "yuv420p", "-colorspace", "smpte170m"]),
    "bt2020_sdr.mkv": (SOURCE, [*X264, "-pix_fmt", "yuv420p10le", "-colorspace", "bt2020nc"]),
    "alpha.mov": (
        ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=12:d=1,format=yuva444p10le"],
        ["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"],
    ),
    "alpha_rgba.mov": (["-f", "lavfi", "-i", "testsrc2=s=160x96:r=12:d=1,format=rgba"], ["-c:v", "png"]),
    "gray.mkv": (SOURCE, ["-c:v", "ffv1", "-pix_fmt", "gray"]),
    "rgb.mkv": (SOURCE, ["-c:v", "ffv1", "-pix_fmt", "bgr0"]),
    "pq.mkv": (
        SOURCE,
        [*X264, "-pix_fmt", "yuv420p10le", "-vf", f"setparams=color_trc=smpte2084:{BT2020}"],
    ),
    "hlg.mkv": (
        SOURCE,
        [*X264, "-pix_fmt", "yuv420p10le", "-vf", f"setparams=color_trc=arib-std-b67:{BT2020}"],
    ),
    "8k.mkv": (
        ["-f", "lavfi", "-i", "color=c=teal:s=7680x4320:r=4:d=0.5,drawbox=w=iw/2:c=white:t=fill"],
        ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "20"],
    ),
    "late.ts": (SOURCE, [*X264, "-pix_fmt", "yuv420p", "-g", "6", "-bf", "2"]),
    "sound.m4a": (["-f", "lavfi", "-i", "sine=d=0.2"], ["-c:a", "aac"]),
}


@pytest.fixture(scope="session")
def odd_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of unusual files, one second each."""
    folder = tmp_path_factory.mktemp("odd")
    for name, (source, output) in ODD.items():
        run_ffmpeg([*source, *output, str(folder / name)])
    plain = folder / "plain.mp4"
    cover = ["-f", "lavfi", "-i", "sine=d=0.2", *SOURCE, "-map", "0", "-map", "1", "-frames:v", "1", "-c:v", "mjpeg"]
    run_ffmpeg([*cover, "-pix_fmt", "yuvj420p", "-disposition:v", "attached_pic", str(folder / "cover.m4a")])
    run_ffmpeg(["-display_rotation", "90", "-i", str(plain), "-c", "copy", str(folder / "rotated.mp4")])
    # Two frame sizes in one stream, as in joined broadcast transport streams.
    parts = []
    for number, size in enumerate(("160x96", "96x64")):
        part = folder / f"part{number}.ts.bin"
        source = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r=12:d=0.5"]
        offset = ["-output_ts_offset", str(number * 0.5), "-f", "mpegts"]
        run_ffmpeg([*source, *X264, "-pix_fmt", "yuv420p", *offset, str(part)])
        parts.append(part)
    (folder / "two_sizes.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()
    whole = (folder / "late.ts").read_bytes()
    (folder / "late.ts").write_bytes(whole[len(whole) // 3 // 188 * 188 :])  # starts between key frames
    cut = (folder / "ten_bit.mkv").read_bytes()
    (folder / "truncated.mkv").write_bytes(cut[: len(cut) * 2 // 3])
    (folder / "truncated.mp4").write_bytes(plain.read_bytes()[:3000])
    (folder / "text.mp4").write_text("not a video")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nplain.mp4\n#EXT-X-ENDLIST\n")
    return folder


@pytest.fixture(scope="session")
def model_maker() -> Callable[..., Path]:
    """`make_model`, for models with other views and polarities."""
    return make_model


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven seconds of H.264 with B frames and a key frame every two seconds: two windows of 4 s and a tail."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=24:d=11"]
    run_ffmpeg([*source, "-c:v", "libx264", "-threads", "1", "-bf", "3", "-g", "48", "-pix_fmt", "yuv420p", str(path)])
    return path


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    """A user's folder with two masters."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(master, folder / "one.mkv")
    shutil.copy(master, folder / "two.mkv")
    return folder


Rows = list[tuple[str, int, float, float]]  # codec, height, kbps, quality


@pytest.fixture(scope="session")
def sound() -> Rows:
    """A sound ladder: two codecs, three heights, concave in bitrate, steps large enough."""
    base = [
        (240, 200, 40.0),
        (240, 400, 50.0),
        (360, 800, 60.0),
        (360, 1500, 69.0),
        (720, 2600, 77.0),
        (720, 4500, 85.0),
    ]
    return [("h264", *row) for row in base] + [("hevc", height, kbps * 0.7, q) for height, kbps, q in base]


@pytest.fixture(scope="session")
def check_rows() -> Callable[..., tuple[list[Rung], LadderCheck]]:
    """Rows -> rungs and their ladder check, on a VMAF scale."""

    def check(rows: Rows, **options: Any) -> tuple[list[Rung], LadderCheck]:
        rungs = [
            Rung(name=f"{codec}-{height}p-{kbps:g}k", codec=codec, height=height, bitrate_kbps=kbps)
            for codec, height, kbps, _ in rows
        ]
        return rungs, check_ladder(rungs, [row[3] for row in rows], make_metric("vmaf", "vmaf", "column", **options))

    return check


def write_model(path: Path, polarity: str = "higher_is_better") -> Path:
    """An export that predicts quality from mean horizontal contrast: blur and coarse encodes score lower."""
    int64 = TensorProto.INT64
    constants = {"zero": [0], "one": [1], "last": [-1], "end": [10**6], "axis": [3], "axes": [1, 2, 3, 4]}
    initial = [helper.make_tensor(name, int64, [len(value)], value) for name, value in constants.items()]
    initial.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [3.0]))
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["x", "one", "end", "axis"], ["right"]),
        helper.make_node("Slice", ["x", "zero", "last", "axis"], ["left"]),
        helper.make_node("Sub", ["right", "left"], ["step"]),
        helper.make_node("Abs", ["step"], ["contrast"]),
        helper.make_node("ReduceMean", ["contrast", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["score"]),
    ]
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 2, 32, 32, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])
    model = helper.make_model(
        helper.make_graph(nodes, "contrast", [frames], [score], initial),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    contract = Contract(
        model="contrast",
        view=ViewRecipe(num_frames=2, frame_choice="uniform", grid=1, patch_px=32),
        scale=Scale(kind="vmaf_v1.0.16_3d0h", polarity=polarity, minimum=0, maximum=100),
        calibration=None,
        golden=None,
        training_id="0",
        dataset_sha256="0",
    )

    def save(contract: Contract) -> None:
        del model.metadata_props[:]
        helper.set_model_props(model, {METADATA_KEY: contract.model_dump_json()})
        onnx.save(model, str(path))

    save(contract)
    pixels = golden_input(contract.view)
    scores = tuple(float(s) for s in np.asarray(Scorer(path, check=False).predict(pixels)))
    golden = Golden(input_sha256=sha256_array(pixels), scores=scores, tolerance=1e-3)
    save(contract.model_copy(update={"golden": golden}))
    return path


@pytest.fixture(scope="session")
def contrast_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`write_model`, higher is better."""
    return write_model(tmp_path_factory.mktemp("model") / "contrast.onnx")


@pytest.fixture(scope="session")
def contrast_model_negated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a scale where lower is better."""
    return write_model(tmp_path_factory.mktemp("model") / "blur.onnx", "lower_is_better")


def add_box(path: Path, out: Path, box: bytes, coding: bytes | None = None) -> Path:
    """A copy of an MP4 with one more box in its sample entry; sizes of the enclosing boxes are updated."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd")) - 4
    end = entry + int.from_bytes(data[entry : entry + 4], "big")
    data[end:end] = box
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(name, data.index(b"moov")) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(box)).to_bytes(4, "big")
    if coding:
        data[entry + 4 : entry + 8] = coding
    out.write_bytes(bytes(data))
    return out


@pytest.fixture(scope="session")
def with_box() -> Callable[..., Path]:
    """`add_box`."""
    return add_box
