"""Scene families of what people make: streets, old film, the city at night and a computer screen.

A family paints its canvases and sprites once and returns ``draw(seconds) -> picture``.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

from rungwise.scenes.nature import foliage, landscape
from rungwise.scenes.paint import (
    BICUBIC,
    F32,
    SKIES,
    TAU,
    At,
    Rng,
    crossing,
    cut,
    fractal,
    hsv,
    lit_color,
    look_at,
    painted,
    pixel_grid,
    put,
    ramp,
    relief,
    rgb8,
    roughen,
    smooth_step,
    soften,
    sweep,
    to_image,
    tree_sprite,
    wander,
)
from rungwise.scenes.scene import Draw, Scene


def _facade(rng: Rng, w: int, h: int, texture: F32, detail: float, lit: float = 0.0) -> Image.Image:
    """RGB building front with a window grid; ``lit`` is the share of lit windows (0 is daylight)."""
    wall = hsv(rng.uniform(0.0, 0.15), rng.uniform(0.05, 0.45), rng.uniform(0.35, 0.8) * (0.16 if lit else 1))
    tone = 1 + (0.04 + 0.08 * detail) * cut(rng, texture, 2 * h, 2 * w)
    front = to_image(lit_color(wall, tone))
    pen = ImageDraw.Draw(front)
    columns = max(2, round(w / h * rng.uniform(6, 9) * (0.7 + 0.6 * detail)))
    rows = max(3, round(columns * h / w * rng.uniform(0.6, 0.9)))
    dx, dy = 2 * w / columns, 2 * h / rows
    fill_x, fill_y, trim = rng.uniform(0.45, 0.7), rng.uniform(0.5, 0.7), rgb8(wall * rng.uniform(0.6, 1.4))
    for j in range(rows):
        pen.rectangle((0, (j + 0.94) * dy, 2 * w, (j + 0.98) * dy), fill=rgb8(wall * 0.8))
        for i in range(columns):
            x0, y0 = (i + (1 - fill_x) / 2) * dx, (j + 0.15) * dy
            x1, y1 = x0 + fill_x * dx, y0 + fill_y * dy
            if lit:
                on = rng.uniform() < lit
                glass = hsv(rng.choice([0.11, 0.13, 0.09, 0.55]), 0.45, rng.uniform(0.5, 1)) if on else wall * 0.6
            else:
                glass = hsv(0.57, rng.uniform(0.1, 0.3), rng.uniform(0.15, 0.55))
            pen.rectangle((x0 - 0.04 * dx, y0 - 0.03 * dy, x1 + 0.04 * dx, y1 + 0.05 * dy), fill=trim)
            pen.rectangle((x0, y0, x1, y1), fill=rgb8(glass))
            if not lit:
                drop = rng.uniform(0, 0.7)  # blind, and a brighter reflection below it
                pen.rectangle((x0, y0, x1, y0 + drop * (y1 - y0)), fill=rgb8(glass * 0.5 + wall * 0.5))
            pen.line(((x0 + x1) / 2, y0, (x0 + x1) / 2, y1), fill=trim, width=max(1, round(0.05 * dx)))
    return front.resize((w, h), Image.Resampling.LANCZOS)


def _car(rng: Rng, size: float, texture: F32) -> Image.Image:
    """RGBA side view of a car, van or bus heading right; ``size`` is its height in pixels."""
    long = rng.choice([2.3, 2.5, 1.9, 3.2])
    body = hsv(rng.choice([0.0, 0.02, 0.1, 0.35, 0.58, 0.62]), rng.beta(2, 3), rng.uniform(0.2, 0.9))
    box = long in (1.9, 3.2)

    def paint(pen: ImageDraw.ImageDraw, at: At) -> None:
        if box:
            pen.rounded_rectangle(at(0.02, 0.02, long - 0.02, 0.82), at(0.12)[0], fill=rgb8(body))
            panes = int(long * 2)
            for i in range(panes):
                a = 0.12 + i * (long - 0.2) / panes
                pen.rectangle(at(a, 0.14, a + (long - 0.2) / panes - 0.06, 0.42), fill=rgb8(hsv(0.57, 0.25, 0.25)))
        else:
            roof = at(0.42, 0.42, 0.7, 0.06, 1.5, 0.06, 1.86, 0.42)
            pen.polygon(roof, fill=rgb8(body * 0.9))
            pen.polygon(at(0.53, 0.42, 0.75, 0.12, 1.04, 0.12, 1.04, 0.42), fill=rgb8(hsv(0.57, 0.3, 0.3)))
            pen.polygon(at(1.1, 0.42, 1.1, 0.12, 1.45, 0.12, 1.73, 0.42), fill=rgb8(hsv(0.57, 0.3, 0.38)))
            pen.rounded_rectangle(at(0.02, 0.4, long - 0.02, 0.84), at(0.14)[0], fill=rgb8(body))
        pen.rectangle(at(0.04, 0.68, long - 0.04, 0.84), fill=rgb8(body * 0.6))
        pen.rectangle(at(0.1, 0.46, long - 0.1, 0.49), fill=rgb8(body * 1.3 + 0.1))
        pen.ellipse(at(long - 0.14, 0.5, long - 0.03, 0.62), fill=(255, 245, 210))
        pen.ellipse(at(0.03, 0.5, 0.1, 0.62), fill=(190, 30, 25))
        for hub in (0.45, long - 0.5):
            pen.ellipse(at(hub - 0.19, 0.62, hub + 0.19, 1.0), fill=(22, 22, 24))
            pen.ellipse(at(hub - 0.09, 0.72, hub + 0.09, 0.9), fill=(150, 150, 155))

    return roughen(painted(size * long, size, size, paint), rng, texture, 0.05)


def _person(rng: Rng, size: float, texture: F32) -> tuple[Image.Image, Image.Image]:
    """RGBA upper body and one RGBA leg (hung from its center) of a walker ``size`` pixels tall."""
    coat, skin = hsv(rng.uniform(), rng.beta(2, 5), rng.uniform(0.12, 0.75)), rng.uniform(0.35, 0.9)
    hair, trousers = hsv(0.08, 0.5, rng.uniform(0.05, 0.5)), hsv(0.6, 0.3, rng.uniform(0.1, 0.4))

    def torso(pen: ImageDraw.ImageDraw, at: At) -> None:
        pen.rounded_rectangle(at(0.03, 0.17, 0.27, 0.56), at(0.08)[0], fill=rgb8(coat))
        pen.rounded_rectangle(at(0.11, 0.2, 0.19, 0.52), at(0.04)[0], fill=rgb8(coat * 0.75))
        pen.ellipse(at(0.08, 0.0, 0.22, 0.18), fill=rgb8(hair))
        pen.ellipse(at(0.105, 0.035, 0.225, 0.185), fill=rgb8(hsv(0.06, 0.45, skin)))

    def leg(pen: ImageDraw.ImageDraw, at: At) -> None:
        pen.rounded_rectangle(at(0.11, 0.48, 0.19, 0.9), at(0.03)[0], fill=rgb8(trousers))
        pen.rounded_rectangle(at(0.1, 0.87, 0.25, 0.94), at(0.02)[0], fill=(30, 26, 24))

    upper = roughen(painted(0.3 * size, 0.6 * size, size, torso), rng, texture, 0.12)
    return upper, painted(0.3 * size, 0.96 * size, size, leg)


def street(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """House fronts and a road seen by a slowly panning camera; mostly cars (0, 2) or walkers (1, 3)."""
    cw = int(1.3 * w)
    texture = fractal(rng, 512, 512, 1.6)
    back = to_image(np.broadcast_to(ramp(pixel_grid(h, cw)[0] * 1.6, SKIES[s.variant]), (h, cw, 3)))
    x = 0.0
    while x < cw:
        wide, tall = rng.uniform(0.25, 0.65) * h, rng.uniform(0.5, 0.66) * h
        back.paste(_facade(rng, int(wide) + 1, int(tall), texture, s.detail), (int(x), int(0.68 * h - tall)))
        x += wide
    y = pixel_grid(h, cw)[0]
    pave = 1 + (0.05 + 0.08 * s.detail) * fractal(rng, h, cw, 1.1) + 0.05 * fractal(rng, h, cw, 2.5)
    kerb = np.clip((y - 0.76) * h + 0.5, 0, 1)[..., None]
    floor = lit_color(hsv(0.1, 0.08, 0.62), pave) * (1 - kerb) + lit_color(hsv(0.6, 0.06, 0.33), pave) * kerb
    back.paste(to_image(floor[int(0.67 * h) :]), (0, int(0.67 * h)))
    pen = ImageDraw.Draw(back)
    pen.rectangle((0, 0.755 * h, cw, 0.768 * h), fill=(176, 172, 164))
    for i in range(int(cw / (0.3 * h)) + 1):
        pen.rectangle((0.3 * i * h, 0.872 * h, (0.3 * i + 0.16) * h, 0.884 * h), fill=(205, 203, 196))
    leafy = fractal(rng, 256, 256, 1.9)
    for i in range(int(1 + 5 * s.detail)):
        tree = tree_sprite(rng, h * rng.uniform(0.35, 0.5), 0.25, leafy)
        back.paste(tree, (int((i + rng.uniform(0.2, 0.8)) * cw / 6), int(0.72 * h) - tree.height), tree)

    walkers = s.variant % 2 == 1
    cars = []
    for lane, way in ((0.80, -1), (0.955, 1)):
        start = rng.uniform(0, w)
        pace = rng.uniform(0.3, 0.55) * h * s.speed * way
        for _ in range(1 if walkers else 3):
            size = h * (lane - 0.62) * rng.uniform(0.55, 0.75)
            car = _car(rng, size, texture)
            cars.append((lane, car if way > 0 else ImageOps.mirror(car), start, pace))
            start += rng.uniform(0.75, 1.1) * h
    crowd = []
    for foot in np.sort(rng.uniform(0.72, 1.05 if walkers else 0.76, 8 + int((34 if walkers else 6) * s.detail))):
        parts = _person(rng, h * (0.2 + (foot - 0.72) * 1.1), texture)
        pace = rng.choice([-1, 1]) * rng.uniform(0.06, 0.16) * h * s.speed
        if pace < 0:
            parts = ImageOps.mirror(parts[0]), ImageOps.mirror(parts[1])
        crowd.append((*parts, foot, rng.uniform(-0.3, 1.3) * w, pace, rng.uniform(0, TAU)))

    def draw(t: float) -> Image.Image:
        pan = sweep(t, 0.08 * h * s.speed, cw - w)
        frame = look_at(back, (w, h), w / 2 + pan, h / 2)

        def walk(low: float, high: float) -> None:
            for upper, leg, foot, at, pace, phase in crowd:
                if low <= foot < high:
                    size = leg.height / 0.96
                    x = crossing(t, at, pace, -0.3 * w, 1.3 * w + 0.3 * h) - pan
                    stride = math.sin(phase + 14 * pace / size * t)
                    hip = foot * h - 0.46 * size - 0.012 * size * abs(stride)
                    for turn in (0.45 * stride, -0.45 * stride):
                        put(frame, leg, x, hip, -turn)
                    put(frame, upper, x, hip - 0.2 * size)

        last = 0.0
        for lane, car, start, pace in cars:
            walk(last, lane)
            last = lane
            margin = car.width
            put(
                frame,
                car,
                crossing(t, start, pace, -margin - 0.2 * w, w + margin + 0.8 * h) - 0.5 * pan,
                lane * h - car.height / 2,
            )
        walk(last, 9.0)
        return frame

    return draw


def film(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """A street (0, 3), landscape (1) or foliage (2) on film: gate weave, flicker; 0 and 1 are monochrome."""
    weave = max(2, round(0.01 * h))
    inner = (street, landscape, foliage, street)[s.variant](s, rng, w + 2 * weave, h + 2 * weave)
    shift_x, shift_y, flicker = wander(rng, 5.0), wander(rng, 7.0), wander(rng, 6.0)
    tint = np.array((1.0, 1.0, 1.0) if s.variant < 2 else (1.05, 0.99, 0.86), np.float32)

    def draw(t: float) -> F32:
        picture = inner(t)
        assert isinstance(picture, Image.Image)
        x, y = picture.width / 2 + 0.0016 * h * shift_x(t), picture.height / 2 + 0.0016 * h * shift_y(t)
        picture = look_at(picture, (w, h), x, y)
        frame = np.asarray(picture.convert("L").convert("RGB") if s.variant < 2 else picture, dtype=np.float32)
        return frame * (tint * np.float32(1 + 0.012 * flicker(t)))

    return draw


def _disc(radius: float, color: F32, glow: bool) -> Image.Image:
    """RGBA bokeh disc with a bright rim, or a Gaussian glow with a hot core."""
    n = math.ceil(2 * radius) + 4
    v, u = (np.mgrid[:n, :n].astype(np.float32) - np.float32((n - 1) / 2)) / np.float32(radius)
    r = np.hypot(u, v)
    if glow:
        alpha = np.clip(np.exp(-12 * r * r) * 1.2 + 0.35 * np.exp(-3 * r) * (1 - smooth_step(r)), 0, 1)
        return to_image(color + np.exp(-30 * r * r)[..., None], alpha * (r < 1))
    alpha = np.clip((1 - r) * radius + 0.5, 0, 1) * (0.42 + 0.25 * r**4)
    return to_image(np.broadcast_to(color, (n, n, 3)), alpha)


def night_city(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Lit windows over a wet road with car lights; variant 1 is mostly bokeh, 3 a distant skyline."""
    cw = int(1.3 * w)
    texture = fractal(rng, 512, 512, 1.6)
    y, _ = pixel_grid(h, cw)
    dusk = ramp(y * 1.4, ((0.01, 0.015, 0.05), (0.05, 0.05, 0.12), (0.22, 0.14, 0.13)))
    back = to_image(dusk * (1 + 0.25 * fractal(rng, h, cw, 2.8))[..., None])
    road = 0.72
    for depth in (0, 1):
        x = -0.1 * h
        while x < cw:
            scale = (0.55, 1.0)[depth] * (0.55 if s.variant == 3 else 1.0)
            wide, tall = rng.uniform(0.2, 0.5) * h * scale, rng.uniform(0.3, 0.68) * h * scale
            front = _facade(rng, int(wide) + 2, int(tall) + 2, texture, s.detail, rng.uniform(0.15, 0.6))
            back.paste(front, (int(x), int(road * h - tall)))
            x += wide * rng.uniform(0.95, 1.3)
    pen = ImageDraw.Draw(back)
    pen.rectangle((0, road * h, cw, h), fill=(10, 10, 14))
    lamps = [(x, (0.36 + 0.1 * (s.variant == 3)) * h) for x in np.arange(0.15 * h, cw, 0.55 * h)]
    for x, top in lamps:
        pen.line((x, top, x, road * h), fill=(26, 24, 24), width=max(1, round(0.008 * h)))
        put(back, _disc(0.12 * h, hsv(0.1, 0.6, 1.0), True), x, top)
    for _ in range(int(6 + 10 * s.detail)):  # shop signs
        x, size = rng.uniform(0, cw), h * rng.uniform(0.02, 0.05)
        pen.rectangle(
            (x, road * h - 2.6 * size, x + 3 * size, road * h - 1.4 * size), fill=rgb8(hsv(rng.uniform(), 0.75, 1.0))
        )
    back = ImageChops.add(back, soften(back, 0.03 * h).point(lambda v: v * 0.55))
    mirrored = ImageOps.flip(back.crop((0, int((2 * road - 1) * h), cw, int(road * h))))
    small = mirrored.resize((cw, max(4, mirrored.height // 14)), Image.Resampling.BOX)
    wet = np.asarray(small.resize((cw, h - int(road * h)), BICUBIC), dtype=np.float32) / 255
    wet *= (0.5 + 0.16 * relief(rng, wet.shape[0], cw))[..., None]
    back.paste(to_image(wet + np.float32(0.02)), (0, int(road * h)))
    back = soften(back, (0, 0.022, 0.002, 0)[s.variant] * h)

    lights = []
    for _ in range(4 + int(6 * s.detail)):
        way, lane = rng.choice([-1, 1]), rng.uniform(0.76, 0.93)
        color = hsv(0.12, 0.25, 1.0) if way > 0 else hsv(0.0, 0.85, 1.0)
        sprite = _disc((0.25 * (lane - 0.55)) * h, color, True)
        lights.append((sprite, rng.uniform(0, w), lane * h, way * rng.uniform(0.3, 0.7) * h * s.speed * (lane - 0.5)))
    bokeh = [
        (
            _disc(h * rng.uniform(0.03, 0.085), hsv(rng.choice([0.1, 0.08, 0.0, 0.55, 0.35]), 0.65, 1.0), False),
            rng.uniform(0, w),
            rng.uniform(0.2, 0.95) * h,
            wander(rng, 0.3 * s.speed),
        )
        for _ in range((0, 45, 0, 0)[s.variant])
    ]

    def draw(t: float) -> Image.Image:
        pan = sweep(t, 0.09 * h * s.speed, cw - w)
        frame = look_at(back, (w, h), w / 2 + pan, h / 2)
        for sprite, x, y, pace in lights:
            for gap in (0, 0.55):  # two lamps a car
                put(frame, sprite, crossing(t, x, pace, -0.3 * h, w + 0.3 * h) + gap * sprite.width, y)
        for sprite, x, y, bob in bokeh:
            put(frame, sprite, crossing(t, x - 1.6 * pan, 0, -0.2 * h, w + 0.2 * h), y + 0.03 * h * bob(t))
        return frame

    return draw


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
    """(w, h) column of headings, paragraphs and pictures, or of colored program-like lines."""
    page = Image.new("RGB", (w, h), rgb8(paper))
    pen = ImageDraw.Draw(page)
    y, word = size, int(rng.integers(len(_PROSE)))
    texture = fractal(rng, 256, 256, 2.2)
    while y < h:
        kind = rng.choice(["text", "text", "text", "picture"])
        if kind == "picture" and not code:
            pw, ph = int(0.75 * w), int(7 * size)
            shot = ramp(np.clip(0.5 + 0.22 * cut(rng, texture, ph, pw), 0, 1), SKIES[int(rng.integers(4))])
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
    """A desktop: a scrolling document, a side bar, a window being dragged and a mouse pointer."""
    dark = s.variant in (1, 3)
    size = h * (0.044 - 0.018 * s.detail)
    ink, paper = (hsv(0.6, 0.05, 0.85), hsv(0.62, 0.2, 0.13)) if dark else (hsv(0.6, 0.3, 0.12), hsv(0.1, 0.01, 0.99))
    accent = hsv(rng.uniform(), 0.6, 0.75)
    shade = 1 + 0.25 * fractal(rng, h, w, 3.2)
    desk = to_image(lit_color(hsv(rng.uniform(), 0.5, 0.4), np.maximum(shade, 0.2)))
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
    shadow = soften(shadow, 0.4 * pad)

    def point(pen: ImageDraw.ImageDraw, at: At) -> None:
        arrow = at(0, 0, 0, 0.85, 0.2, 0.68, 0.33, 1, 0.46, 0.94, 0.33, 0.63, 0.6, 0.6, 0, 0)
        pen.polygon(arrow, fill="black")
        pen.line(arrow, fill="white", width=max(2, round(0.012 * h)))

    pointer = painted(0.04 * h, 0.055 * h, 0.05 * h, point)
    path_x, path_y = wander(rng, 0.3 * s.speed), wander(rng, 0.25 * s.speed)

    def draw(t: float) -> Image.Image:
        frame = desk.copy()
        scroll = round(sweep(t, 0.12 * h * s.speed, page.height - hole_h))  # screens scroll by whole pixels
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
        put(frame, pointer, x, y)
        return frame

    return draw
