"""The scene family of computer screens."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rungwise.scenes.paint import (
    F32,
    SKIES,
    At,
    Rng,
    back_and_forth,
    draw_sprite,
    fractal,
    gaussian_blur,
    hsv,
    paste,
    ramp,
    random_window,
    rgb8,
    shaded_color,
    smooth_path,
    to_image,
)
from rungwise.scenes.scene import Draw, Scene

_TEXT = (
    "The river was low that summer and the stones along its bank were warm until late in the evening. "
    "We measured the water every morning, wrote it in a small green book, and walked home past the mill. "
    "A picture holds more than it shows: edges, grain, light falling off toward the corner of a room. "
    "Each frame follows the last by a fortieth of a second and the eye forgives all but a stutter. "
    "Choose the settings that keep what people notice; 37 of 128 samples differ by less than 0.5 units. "
    "Nobody reads the manual until something breaks, and then everybody wants an index with page numbers. "
)
_PROSE = _TEXT.split()


def _page(rng: Rng, w: int, h: int, size: float, ink: F32, paper: F32, code: bool) -> Image.Image:
    """Page of headings, paragraphs and pictures, or of colored lines like source code."""
    page = Image.new("RGB", (w, h), rgb8(paper))
    pen = ImageDraw.Draw(page)
    y, word = size, int(rng.integers(len(_PROSE)))
    texture = fractal(rng, 256, 256, 2.2)
    while y < h:
        kind = rng.choice(["text", "text", "text", "picture"])
        if kind == "picture" and not code:
            pw, ph = int(0.75 * w), int(7 * size)
            shot = ramp(np.clip(0.5 + 0.22 * random_window(rng, texture, ph, pw), 0, 1), SKIES[int(rng.integers(4))])
            page.paste(to_image(shot), (int(1.2 * size), int(y)))
            y += ph + size
            continue
        bold = ImageFont.load_default(size=size * 1.5)
        font = ImageFont.load_default(size=size)
        if not code:
            heading = [_PROSE[(word + i) % len(_PROSE)] for i in range(4)]
            pen.text((1.2 * size, y), " ".join(heading).capitalize(), font=bold, fill=rgb8(ink))
            y += 2.3 * size
        for _ in range(int(rng.integers(4, 9))):
            x = 1.2 * size + (2 * size * int(rng.integers(0, 4)) if code else 0)
            end = w * (rng.uniform(0.35, 0.95) if code else 0.92)
            while x < end:
                text = _PROSE[word % len(_PROSE)] + " "
                if x + font.getlength(text) > 0.97 * w:
                    break
                word += 1
                fill = hsv(rng.choice([0.1, 0.55, 0.33, 0.8]), 0.55, 0.85) if code else ink
                pen.text((x, y), text, font=font, fill=rgb8(fill))
                x += font.getlength(text)
            y += 1.45 * size
        y += 0.8 * size
    return page


def screen(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Desktop with a scrolling document, a sidebar, a dragged window and a mouse pointer."""
    dark = s.variant in (1, 3)
    size = h * (0.044 - 0.018 * s.detail)
    ink, paper = (hsv(0.6, 0.05, 0.85), hsv(0.62, 0.2, 0.13)) if dark else (hsv(0.6, 0.3, 0.12), hsv(0.1, 0.01, 0.99))
    accent = hsv(rng.uniform(), 0.6, 0.75)
    shade = 1 + 0.25 * fractal(rng, h, w, 3.2)
    desk = to_image(shaded_color(hsv(rng.uniform(), 0.5, 0.4), np.maximum(shade, 0.2)))
    pen = ImageDraw.Draw(desk)
    small = ImageFont.load_default(size=0.034 * h)
    left, top, right, bottom = (int(a) for a in (0.05 * w, 0.06 * h, (0.95 - 0.2 * (s.variant == 2)) * w, 0.94 * h))
    bar, side = int(0.07 * h), int(0.2 * w)
    pen.rounded_rectangle((left, top, right, bottom), 0.015 * h, fill=rgb8(accent * 0.55))
    pen.text((left + 0.1 * h, top + 0.012 * h), "Field notes - draft 7", font=small, fill=(240, 240, 240))
    for i, color in enumerate(((235, 95, 85), (240, 190, 70), (95, 200, 95))):
        x = left + (0.02 + 0.026 * i) * h
        pen.ellipse((x, top + 0.025 * h, x + 0.02 * h, top + 0.045 * h), fill=color)
    pen.rectangle((left, top + bar, left + side, bottom - 4), fill=rgb8(paper * 0.8 + accent * 0.15))
    for i in range(int((bottom - top - bar) / (0.055 * h)) - 1):
        row = top + bar + (0.02 + 0.055 * i) * h
        pen.rectangle((left + 0.02 * h, row, left + 0.05 * h, row + 0.03 * h), fill=rgb8(hsv(0.13 * i, 0.5, 0.7)))
        pen.text((left + 0.065 * h, row - 0.004 * h), _PROSE[3 * i + 1].capitalize(), font=small, fill=rgb8(ink))
    hole = (left + side, top + bar, right - 4, bottom - 4)
    hole_w, hole_h = hole[2] - hole[0], hole[3] - hole[1]
    page = _page(rng, hole_w, 3 * h, size, ink, paper, code=dark)
    note = _page(rng, int(0.42 * h), int(0.4 * h), 0.03 * h, hsv(0.1, 0.5, 0.2), hsv(0.14, 0.3, 0.98), code=False)
    ImageDraw.Draw(note).rectangle((0, 0, note.width, 0.03 * h), fill=rgb8(accent))
    pad = int(0.03 * h)
    shadow = Image.new("L", (note.width + 2 * pad, note.height + 2 * pad))
    ImageDraw.Draw(shadow).rectangle((pad, pad, pad + note.width, pad + note.height), fill=130)
    shadow = gaussian_blur(shadow, 0.4 * pad)

    def point(pen: ImageDraw.ImageDraw, at: At) -> None:
        arrow = at(0, 0, 0, 0.85, 0.2, 0.68, 0.33, 1, 0.46, 0.94, 0.33, 0.63, 0.6, 0.6, 0, 0)
        pen.polygon(arrow, fill="black")
        pen.line(arrow, fill="white", width=max(2, round(0.012 * h)))

    pointer = draw_sprite(0.04 * h, 0.055 * h, 0.05 * h, point)
    path_x, path_y = smooth_path(rng, 0.3 * s.speed), smooth_path(rng, 0.25 * s.speed)

    def draw(t: float) -> Image.Image:
        frame = desk.copy()
        scroll = round(back_and_forth(t, 0.12 * h * s.speed, page.height - hole_h))  # screens scroll by whole pixels
        frame.paste(page.crop((0, scroll, hole_w, scroll + hole_h)), hole[:2])
        x, y = (0.55 + 0.3 * path_x(t)) * w, (0.5 + 0.3 * path_y(t)) * h
        if s.variant in (0, 2):
            at = round(x - 0.3 * note.width), round(y - 0.01 * h)
            frame.paste((0, 0, 0), (at[0] - pad, at[1] - pad // 2), shadow)
            frame.paste(note, at)
        elif int(2 * t) % 2 == 0:
            ImageDraw.Draw(frame).rectangle(
                (hole[0] + 6 * size, hole[1] + 9 * size, hole[0] + 6.2 * size, hole[1] + 10.2 * size), fill=rgb8(ink)
            )
        paste(frame, pointer, x, y)
        return frame

    return draw
