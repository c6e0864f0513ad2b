"""Where a student looks: rung by rung, the picture, its true error, the score's gradient, and the gain of each block.

    python benchmarks/saliency.py --model runs/distill/ID/student.safetensors --out benchmarks/results/saliency.png

For each rung of one built-in scene: a crop of a frame, the encode's absolute error against the master, the magnitude of
the score's gradient with respect to the pixels (smoothed), and for each block the change of the score when the master's
pixels replace the encode's. If the student looks at artifacts, the last two are bright where the error is. The rank
correlation of error and gain over blocks is written above.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from distill.checkpoint import load_checkpoint
from rungwise.artifact import write_json
from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.metrics.statistics import srcc
from rungwise.progress import track
from rungwise.scenes import write_master
from rungwise.score.views import ViewRecipe, make_views, read_views

RUNGS = (EncodeSpec("h264", 360, crf=26), EncodeSpec("h264", 360, crf=36), EncodeSpec("h264", 360, crf=44),
         EncodeSpec("av1", 360, crf=60), EncodeSpec("vp9", 180, crf=50))  # fmt: skip
CROP_PX, BLOCK_PX = 320, 32
COLUMNS = ("as shown", "error against the master", "gradient of the score", "gain by mending a block")


def maps(student: Any, encoded_TSSC: NDArray[np.uint8], master_TSSC: NDArray[np.uint8]) -> dict[str, Any]:
    """Score, and per block: mean absolute error, gradient magnitude, gain in score by the master's pixels."""
    frames = torch.from_numpy(encoded_TSSC[None]).float().requires_grad_()
    student(frames).score.sum().backward()
    assert frames.grad is not None
    gradient_SS = frames.grad[0].abs().mean((0, 3)).numpy()
    error_SS = np.abs(encoded_TSSC.astype(float) - master_TSSC).mean((0, 3))
    side = CROP_PX // BLOCK_PX
    mended = np.repeat(encoded_TSSC[None], side * side, axis=0)
    for block in range(side * side):
        row, column = (BLOCK_PX * index for index in divmod(block, side))
        place = (slice(None), slice(row, row + BLOCK_PX), slice(column, column + BLOCK_PX))
        mended[(block, *place)] = master_TSSC[place]
    with torch.inference_mode():
        score = float(student(torch.from_numpy(encoded_TSSC[None])).score)
        scores = torch.cat([student(part).score for part in torch.from_numpy(mended).split(10)]).numpy()
    return {"score": score, "error": error_SS, "gradient": gradient_SS, "gain": (scores - score).reshape(side, side)}


def blocks(map_SS: NDArray[Any]) -> NDArray[Any]:
    """Means over blocks."""
    side = CROP_PX // BLOCK_PX
    return cast(NDArray[Any], map_SS.reshape(side, BLOCK_PX, side, BLOCK_PX).mean((1, 3)))


def heat(map_: NDArray[Any], limit: float) -> Image.Image:
    """A gray picture of a map, white at `limit`, black at 0 and below."""
    gray = np.clip(map_ / max(limit, 1e-9), 0, 1) ** 0.7 * 255
    return Image.fromarray(gray.astype(np.uint8)).resize((CROP_PX, CROP_PX), Image.Resampling.BICUBIC)


def main() -> None:
    """Draw one scene's ladder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, required=True, help="a student's checkpoint")
    parser.add_argument("--scene", default="street_b", help="a built-in scene")
    parser.add_argument("--out", type=Path, required=True, help=".png; figures go beside it as .json")
    arguments = parser.parse_args()
    student, contract, _ = load_checkpoint(arguments.model)
    recipe = ViewRecipe(num_frames=contract.view.num_frames, frame_choice="uniform", grid=1, patch_px=CROP_PX)
    panels = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        master = folder / "master.mkv"
        write_master(arguments.scene, master, width=640, height=360, num_frames=24, fps=12.0)
        [view] = make_views(master, recipe)
        reference = read_views(master, [view])[0]
        for number, spec in enumerate(track(RUNGS, "rungs", total=len(RUNGS))):
            path = folder / f"{number}{'.webm' if spec.codec == 'vp9' else '.mp4'}"
            encode(master, path, spec)
            # The master's view replayed, so that both are cut at the same place.
            pixels = read_views(path, [view])[0]
            panels.append((spec, pixels, maps(student, pixels, reference)))
    label, size = 20, CROP_PX
    sheet = Image.new("RGB", (4 * size, label + len(panels) * (size + label)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for column, title in enumerate(COLUMNS):
        pen.text((column * size + 4, 2), title, font=font, fill="black")
    limits = {name: max(float(np.quantile(blocks(m[name]) if m[name].shape[0] == size else m[name], 0.98))
                        for _, _, m in panels) for name in ("error", "gradient", "gain")}  # fmt: skip
    rows = []
    for row, (spec, pixels, m) in enumerate(panels):
        top = label + row * (size + label)
        agreement = {name: srcc(blocks(m["error"]).ravel(), values.ravel())
                     for name, values in (("gradient", blocks(m["gradient"])), ("gain", m["gain"]))}  # fmt: skip
        rows.append({"codec": spec.codec, "height": spec.height, "crf": spec.crf, "score": m["score"]}
                    | {f"srcc_error_{name}": value for name, value in agreement.items()})  # fmt: skip
        text = (
            f"{spec.codec} {spec.height}p crf {spec.crf}: score {m['score']:.1f}; rank correlation with the error over "
        )
        pen.text(
            (4, top + 2),
            text + ", ".join(f"{name} {value:.2f}" for name, value in agreement.items()),
            font=font,
            fill="black",
        )
        pictures = [Image.fromarray(pixels[0]), heat(blocks(m["error"]), limits["error"]),
                    heat(blocks(m["gradient"]), limits["gradient"]), heat(m["gain"], limits["gain"])]  # fmt: skip
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * size, top + label))
    sheet.save(arguments.out)
    write_json(arguments.out.with_suffix(".json"), {"scene": arguments.scene, "model": contract.model, "rungs": rows})
    for figures in rows:
        print(figures)


if __name__ == "__main__":
    main()
