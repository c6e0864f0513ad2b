"""Plot the error of every encode: one row a content, one dot an encode.

python benchmarks/residuals.py benchmarks/results/default.csv --out benchmarks/results/default_residuals.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from rungwise.report.svg import COLORS

ROW, LEFT, WIDTH, TOP, SPAN = 15, 190, 640, 56, 50.0  # pixels; score units to either side


def draw(table: pd.DataFrame) -> Image.Image:
    """Contents by their mean residual (prediction less label), test contents in bold type; colors are codecs."""
    table = table.assign(residual=table["student 0"] - table["score"])
    order = table.groupby("content")["residual"].mean().sort_values(ascending=False).index
    codecs = sorted(table["codec"].unique())
    image = Image.new("RGB", (LEFT + WIDTH + 20, TOP + ROW * len(order) + 24), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)

    def x_of(residual: float) -> float:
        return LEFT + WIDTH / 2 * (1 + max(-1.0, min(1.0, residual / SPAN)))

    pen.text((8, 6), "prediction less VMAF v1, an encode a dot (* test content; | mean)", fill="black", font=font)
    for place, codec in enumerate(codecs):
        left = LEFT + 70 * place
        pen.ellipse((left, 26, left + 7, 33), fill=COLORS[place % len(COLORS)])
        pen.text((left + 11, 23), codec, fill="black", font=font)
    for tick in range(-50, 51, 10):
        pen.line((x_of(tick), TOP - 6, x_of(tick), TOP + ROW * len(order)), fill="#999" if tick == 0 else "#e4e4e4")
        pen.text((x_of(tick), TOP + ROW * len(order) + 4), f"{tick:+d}", fill="black", font=font, anchor="ma")
    for row, content in enumerate(order):
        part, y = table[table["content"] == content], TOP + ROW * row + ROW // 2
        name = f"* {content}" if (part["part"] == "test").any() else content
        pen.text((LEFT - 8, y), name, fill="black", font=font, anchor="rm")
        for residual, codec in zip(part["residual"], part["codec"], strict=True):
            x = x_of(residual)
            pen.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), fill=COLORS[codecs.index(codec) % len(COLORS)])
        mean = x_of(float(part["residual"].mean()))
        pen.line((mean, y - 6, mean, y + 6), fill="black", width=2)
    return image


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("table", type=Path, help="the .csv that benchmarks/default_model.py writes")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.table)
    draw(table[table["part"].isin(["folds", "test"])]).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
