"""Encodes by codecs and encoders that the packaged model's ladder does not have.

benchmarks/accuracy.py scores them on the test contents. MPEG-2, WMV, Theora and Motion JPEG are codecs unknown to
the model whose quantizer step sizes can be read; libaom, Kvazaar and OpenH264 are other encoders of codecs it knows.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from rungwise.artifact import write_json
from rungwise.ladder.label import label
from rungwise.media.ffmpeg import FfmpegError, run_ffmpeg
from rungwise.media.video import probe
from rungwise.progress import note, run_jobs

# Encoder, file, arguments.
KINDS = {
    "mpeg2": ("mpeg2video", ".mkv", ("-q:v 3", "-q:v 8", "-q:v 16", "-q:v 31")),
    "theora": ("libtheora", ".mkv", ("-q:v 8", "-q:v 5", "-q:v 3", "-q:v 0")),
    "mjpeg": ("mjpeg", ".mkv", ("-q:v 3", "-q:v 8", "-q:v 16", "-q:v 31")),
    "wmv2": ("wmv2", ".mkv", ("-q:v 3", "-q:v 8", "-q:v 16", "-q:v 31")),
    "openh264": ("libopenh264", ".mp4", tuple(f"-b:v {kbps}k" for kbps in (100, 250, 600, 1500))),
    "kvazaar": ("libkvazaar", ".mp4", tuple(f"-kvazaar-params qp={qp},preset=fast" for qp in (22, 29, 36, 43))),
    "libaom": ("libaom-av1", ".mp4", tuple(f"-crf {crf} -b:v 0 -cpu-used 8 -row-mt 0" for crf in (28, 40, 52, 63))),
}


def unseen_encodes(masters: dict[str, Path], folder: Path, workers: int, label_model: str) -> pd.DataFrame:
    """One row an encode, as `rungwise.metrics.evaluate` reads it, with `kind` and `path`; files in `folder` are reused.

    MPEG-2 takes no odd frame rates; an encode that fails is noted and left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = {}
    for content, master in masters.items():
        for kind, (_, suffix, rates) in KINDS.items():
            for number in range(len(rates)):
                path = folder / f"{content}-{kind}-{number}{suffix}"
                if not path.with_suffix(".json").is_file():
                    jobs[path.stem] = partial(_make, content, master, kind, number, path, label_model)
    with ThreadPoolExecutor(workers) as pool:
        for name, error in run_jobs(pool, jobs, "unseen codecs"):
            if isinstance(error, FfmpegError):
                note(f"{name}: {error}")
            elif error is not None:
                raise error
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return pd.DataFrame([row for row in rows if row["content"] in masters])


def _make(content: str, master: Path, kind: str, number: int, path: Path, label_model: str) -> None:
    encoder, _, rates = KINDS[kind]
    command = ["-y", "-threads", "1", "-i", str(master), "-map", "0:v:0", "-fps_mode", "passthrough"]
    # Motion JPEG in the master's own range is "unofficial"; in JPEG's, samples would be scaled and labels fall.
    command += ["-pix_fmt", "yuv420p", "-strict", "unofficial", "-c:v", encoder, *rates[number].split()]
    run_ffmpeg([*command, "-g", "48", "-threads", "1", str(path)], writes=path)
    labels, video = label(master, path, models=(label_model,)), probe(path)
    row = {
        "clip": path.stem, "content": content, "group": content, "kind": kind, "path": str(path),
        "codec": video.codec, "width": video.width, "height": video.height, "display_height": labels.display_height,
        "bitrate_kbps": video.bitrate_kbps, "score": labels.metrics[label_model].mean, "score_kind": label_model,
        "score_polarity": "higher_is_better", "score_min": 0.0, "score_max": 100.0,
        "psnr_mean": labels.metrics["psnr"].mean, "ssim_mean": labels.metrics["ssim"].mean,
    }  # fmt: skip
    write_json(path.with_suffix(".json"), row)
