"""Scene families of built environments: street, film and city at night.

A family function paints its canvases and sprites once and returns `draw(seconds) -> picture`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageOps

from rungwise.scenes.nature import foliage, landscape
from rungwise.scenes.paint import (
    BICUBIC,
    F32,
    SKIES,
    TAU,
    At,
    Rng,
    add_texture,
    back_and_forth,
    camera_view,
    draw_sprite,
    fractal,
    gaussian_blur,
    hsv,
    paste,
    pixel_grid,
    ramp,
    random_window,
    relief,
    rgb8,
    shaded_color,
    smooth_path,
    smooth_step,
    to_image,
    tree_sprite,
    wrap_around,
)
from rungwise.scenes.scene import Draw, Scene


def _facade(rng: Rng, w: int, h: int, texture: F32, detail: float, lit: float = 0.0) -> Image.Image:
    """RGB building facade with a window grid; `lit` is the fraction of lit windows (0: daylight)."""
    wall = hsv(rng.uniform(0.0, 0.15), rng.uniform(0.05, 0.45), rng.uniform(0.35, 0.8) * (0.16 if lit else 1))
    tone = 1 + (0.04 + 0.08 * detail) * random_window(rng, texture, 2 * h, 2 * w)
    front = to_image(shaded_color(wall, tone))
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
                drop = rng.uniform(0, 0.7)  # a window blind, with a brighter reflection below it
                pen.rectangle((x0, y0, x1, y0 + drop * (y1 - y0)), fill=rgb8(glass * 0.5 + wall * 0.5))
            pen.line(((x0 + x1) / 2, y0, (x0 + x1) / 2, y1), fill=trim, width=max(1, round(0.05 * dx)))
    return front.resize((w, h), Image.Resampling.LANCZOS)


def _car(rng: Rng, size: float, texture: F32) -> Image.Image:
    """RGBA side view of a car, van or bus that faces right; `size` is its height in pixels."""
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

    return add_texture(draw_sprite(size * long, size, size, paint), rng, texture, 0.05)


def _person(rng: Rng, size: float, texture: F32) -> tuple[Image.Image, Image.Image]:
    """RGBA upper body and RGBA leg (which rotates about its center) of a person with a height of `size` pixels."""
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

    upper = add_texture(draw_sprite(0.3 * size, 0.6 * size, size, torso), rng, texture, 0.12)
    return upper, draw_sprite(0.3 * size, 0.96 * size, size, leg)


def street(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Facades and a road under a slow pan, with mostly cars (variants 0 and 2) or pedestrians (1 and 3)."""
    canvas_width = int(1.3 * w)
    texture = fractal(rng, 512, 512, 1.6)
    back = _street_background(s, rng, canvas_width, h, texture)
    many_pedestrians = s.variant % 2 == 1
    cars = _cars(s, rng, w, h, 1 if many_pedestrians else 3, texture)
    if many_pedestrians:
        pedestrians = _pedestrians(s, rng, w, h, 1.05, 8 + int(34 * s.detail), texture)
    else:
        pedestrians = _pedestrians(s, rng, w, h, 0.76, 8 + int(6 * s.detail), texture)

    def draw(t: float) -> Image.Image:
        pan = back_and_forth(t, 0.08 * h * s.speed, canvas_width - w)
        frame = camera_view(back, (w, h), w / 2 + pan, h / 2)
        last_lane = 0.0
        for lane, car, start, speed in cars:
            _paste_pedestrians(frame, [p for p in pedestrians if last_lane <= p.foot < lane], t, pan)
            last_lane = lane
            x = wrap_around(t, start, speed, -car.width - 0.2 * w, w + car.width + 0.8 * h) - 0.5 * pan
            paste(frame, car, x, lane * h - car.height / 2)
        _paste_pedestrians(frame, [p for p in pedestrians if p.foot >= last_lane], t, pan)
        return frame

    return draw


def _street_background(s: Scene, rng: Rng, w: int, h: int, texture: F32) -> Image.Image:
    """Sky, facades, sidewalk, road and trees."""
    y = pixel_grid(h, w)[0]
    back = to_image(np.broadcast_to(ramp(y * 1.6, SKIES[s.variant]), (h, w, 3)))
    x = 0.0
    while x < w:
        width, height = rng.uniform(0.25, 0.65) * h, rng.uniform(0.5, 0.66) * h
        back.paste(_facade(rng, int(width) + 1, int(height), texture, s.detail), (int(x), int(0.68 * h - height)))
        x += width
    pavement = 1 + (0.05 + 0.08 * s.detail) * fractal(rng, h, w, 1.1) + 0.05 * fractal(rng, h, w, 2.5)
    curb = np.clip((y - 0.76) * h + 0.5, 0, 1)[..., None]
    sidewalk, road = shaded_color(hsv(0.1, 0.08, 0.62), pavement), shaded_color(hsv(0.6, 0.06, 0.33), pavement)
    ground = sidewalk * (1 - curb) + road * curb
    back.paste(to_image(ground[int(0.67 * h) :]), (0, int(0.67 * h)))
    pen = ImageDraw.Draw(back)
    pen.rectangle((0, 0.755 * h, w, 0.768 * h), fill=(176, 172, 164))
    for i in range(int(w / (0.3 * h)) + 1):
        pen.rectangle((0.3 * i * h, 0.872 * h, (0.3 * i + 0.16) * h, 0.884 * h), fill=(205, 203, 196))
    leaves = fractal(rng, 256, 256, 1.9)
    for i in range(int(1 + 5 * s.detail)):
        tree = tree_sprite(rng, h * rng.uniform(0.35, 0.5), 0.25, leaves)
        back.paste(tree, (int((i + rng.uniform(0.2, 0.8)) * w / 6), int(0.72 * h) - tree.height), tree)
    return back


def _cars(
    s: Scene, rng: Rng, w: int, h: int, per_lane: int, texture: F32
) -> list[tuple[float, Image.Image, float, float]]:
    """(lane, sprite, start, speed) of the cars in two lanes, from back to front."""
    cars = []
    for lane, direction in ((0.80, -1), (0.955, 1)):
        start = rng.uniform(0, w)
        speed = rng.uniform(0.3, 0.55) * h * s.speed * direction
        for _ in range(per_lane):
            car = _car(rng, h * (lane - 0.62) * rng.uniform(0.55, 0.75), texture)
            cars.append((lane, car if direction > 0 else ImageOps.mirror(car), start, speed))
            start += rng.uniform(0.75, 1.1) * h
    return cars


class _Pedestrian(NamedTuple):
    """Sprites and motion of a pedestrian; `foot` is the ground position in picture heights."""

    upper: Image.Image
    leg: Image.Image
    foot: float
    start: float
    speed: float
    phase: float


def _pedestrians(s: Scene, rng: Rng, w: int, h: int, lowest: float, count: int, texture: F32) -> list[_Pedestrian]:
    """Pedestrians from back to front, with feet between 0.72 and `lowest`."""
    pedestrians = []
    for foot in np.sort(rng.uniform(0.72, lowest, count)):
        upper, leg = _person(rng, h * (0.2 + (foot - 0.72) * 1.1), texture)
        speed = rng.choice([-1, 1]) * rng.uniform(0.06, 0.16) * h * s.speed
        if speed < 0:
            upper, leg = ImageOps.mirror(upper), ImageOps.mirror(leg)
        start, phase = rng.uniform(-0.3, 1.3) * w, rng.uniform(0, TAU)
        pedestrians.append(_Pedestrian(upper, leg, foot, start, speed, phase))
    return pedestrians


def _paste_pedestrians(frame: Image.Image, pedestrians: list[_Pedestrian], t: float, pan: float) -> None:
    """Draw walking pedestrians at time `t`; `pan` is the horizontal position of the camera."""
    w, h = frame.size
    for upper, leg, foot, start, speed, phase in pedestrians:
        size = leg.height / 0.96
        x = wrap_around(t, start, speed, -0.3 * w, 1.3 * w + 0.3 * h) - pan
        stride = math.sin(phase + 14 * speed / size * t)
        hip = foot * h - 0.46 * size - 0.012 * size * abs(stride)
        for angle in (0.45 * stride, -0.45 * stride):
            paste(frame, leg, x, hip, -angle)
        paste(frame, upper, x, hip - 0.2 * size)


def film(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Street (variants 0 and 3), landscape (1) or foliage (2) with gate weave and flicker; 0 and 1 are monochrome."""
    weave = max(2, round(0.01 * h))
    inner = (street, landscape, foliage, street)[s.variant](s, rng, w + 2 * weave, h + 2 * weave)
    shift_x, shift_y, flicker = smooth_path(rng, 5.0), smooth_path(rng, 7.0), smooth_path(rng, 6.0)
    tint = np.array((1.0, 1.0, 1.0) if s.variant < 2 else (1.05, 0.99, 0.86), np.float32)

    def draw(t: float) -> F32:
        picture = inner(t)
        assert isinstance(picture, Image.Image)
        x, y = picture.width / 2 + 0.0016 * h * shift_x(t), picture.height / 2 + 0.0016 * h * shift_y(t)
        picture = camera_view(picture, (w, h), x, y)
        frame = np.asarray(picture.convert("L").convert("RGB") if s.variant < 2 else picture, dtype=np.float32)
        return frame * (tint * np.float32(1 + 0.012 * flicker(t)))

    return draw


def _disc(radius: float, color: F32, glow: bool) -> Image.Image:
    """RGBA bokeh disk with a bright rim, or a Gaussian glow with a bright core."""
    n = math.ceil(2 * radius) + 4
    v, u = (np.mgrid[:n, :n].astype(np.float32) - np.float32((n - 1) / 2)) / np.float32(radius)
    r = np.hypot(u, v)
    if glow:
        alpha = np.clip(np.exp(-12 * r * r) * 1.2 + 0.35 * np.exp(-3 * r) * (1 - smooth_step(r)), 0, 1)
        return to_image(color + np.exp(-30 * r * r)[..., None], alpha * (r < 1))
    alpha = np.clip((1 - r) * radius + 0.5, 0, 1) * (0.42 + 0.25 * r**4)
    return to_image(np.broadcast_to(color, (n, n, 3)), alpha)


def night_city(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Lit windows above a wet road with car lights; variant 1 is mostly bokeh, variant 3 a distant skyline."""
    canvas_width = int(1.3 * w)
    back = _night_background(s, rng, canvas_width, h)
    lights = []
    for _ in range(4 + int(6 * s.detail)):
        direction, lane = rng.choice([-1, 1]), rng.uniform(0.76, 0.93)
        color = hsv(0.12, 0.25, 1.0) if direction > 0 else hsv(0.0, 0.85, 1.0)
        sprite, start = _disc((0.25 * (lane - 0.55)) * h, color, True), rng.uniform(0, w)
        lights.append((sprite, start, lane * h, direction * rng.uniform(0.3, 0.7) * h * s.speed * (lane - 0.5)))
    bokeh = [
        (
            _disc(h * rng.uniform(0.03, 0.085), hsv(rng.choice([0.1, 0.08, 0.0, 0.55, 0.35]), 0.65, 1.0), False),
            rng.uniform(0, w),
            rng.uniform(0.2, 0.95) * h,
            smooth_path(rng, 0.3 * s.speed),
        )
        for _ in range((0, 45, 0, 0)[s.variant])
    ]

    def draw(t: float) -> Image.Image:
        pan = back_and_forth(t, 0.09 * h * s.speed, canvas_width - w)
        frame = camera_view(back, (w, h), w / 2 + pan, h / 2)
        for sprite, x, y, speed in lights:
            for gap in (0, 0.55):  # two lights per car
                paste(frame, sprite, wrap_around(t, x, speed, -0.3 * h, w + 0.3 * h) + gap * sprite.width, y)
        for sprite, x, y, bob in bokeh:
            paste(frame, sprite, wrap_around(t, x - 1.6 * pan, 0, -0.2 * h, w + 0.2 * h), y + 0.03 * h * bob(t))
        return frame

    return draw


def _night_background(s: Scene, rng: Rng, w: int, h: int) -> Image.Image:
    """Sky, two rows of buildings, street lamps, shop signs and their reflections on the wet road."""
    texture = fractal(rng, 512, 512, 1.6)
    y, _ = pixel_grid(h, w)
    dusk = ramp(y * 1.4, ((0.01, 0.015, 0.05), (0.05, 0.05, 0.12), (0.22, 0.14, 0.13)))
    back = to_image(dusk * (1 + 0.25 * fractal(rng, h, w, 2.8))[..., None])
    road = 0.72
    for depth in (0, 1):
        x = -0.1 * h
        while x < w:
            scale = (0.55, 1.0)[depth] * (0.55 if s.variant == 3 else 1.0)
            width, height = rng.uniform(0.2, 0.5) * h * scale, rng.uniform(0.3, 0.68) * h * scale
            facade = _facade(rng, int(width) + 2, int(height) + 2, texture, s.detail, rng.uniform(0.15, 0.6))
            back.paste(facade, (int(x), int(road * h - height)))
            x += width * rng.uniform(0.95, 1.3)
    pen = ImageDraw.Draw(back)
    pen.rectangle((0, road * h, w, h), fill=(10, 10, 14))
    lamp_top = (0.36 + 0.1 * (s.variant == 3)) * h
    for x in np.arange(0.15 * h, w, 0.55 * h):
        pen.line((x, lamp_top, x, road * h), fill=(26, 24, 24), width=max(1, round(0.008 * h)))
        paste(back, _disc(0.12 * h, hsv(0.1, 0.6, 1.0), True), x, lamp_top)
    for _ in range(int(6 + 10 * s.detail)):  # shop signs
        x, size = rng.uniform(0, w), h * rng.uniform(0.02, 0.05)
        sign = (x, road * h - 2.6 * size, x + 3 * size, road * h - 1.4 * size)
        pen.rectangle(sign, fill=rgb8(hsv(rng.uniform(), 0.75, 1.0)))
    back = ImageChops.add(back, gaussian_blur(back, 0.03 * h).point(lambda v: v * 0.55))
    mirrored = ImageOps.flip(back.crop((0, int((2 * road - 1) * h), w, int(road * h))))
    small = mirrored.resize((w, max(4, mirrored.height // 14)), Image.Resampling.BOX)
    wet = np.asarray(small.resize((w, h - int(road * h)), BICUBIC), dtype=np.float32) / 255
    wet *= (0.5 + 0.16 * relief(rng, wet.shape[0], w))[..., None]
    back.paste(to_image(wet + np.float32(0.02)), (0, int(road * h)))
    return gaussian_blur(back, (0, 0.022, 0.002, 0)[s.variant] * h)
