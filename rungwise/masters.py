"""Procedural, never-compressed master videos: seeded synthetic scenes with natural-image statistics.

A scene is drawn in two steps. Its family's function paints large canvases and sprites once, from a
generator seeded by the scene alone, and returns ``draw(seconds) -> picture``; :func:`render` then samples
``draw`` on the frame grid and adds what a camera would: defocus, contrast, sensor noise or film grain.
Motion is a function of time in seconds, and sizes are fractions of the picture height, so a scene keeps its
look (not its exact texture) at any size, rate and duration.
"""

from __future__ import annotations

import colorsys
import importlib
import math
import os
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

F32 = NDArray[np.float32]
Real = NDArray[np.floating]
Rng = np.random.Generator
Colour = tuple[float, float, float]
Box = tuple[float, float, float, float]
At = Callable[..., list[float]]  # lengths in a sprite's own unit -> drawing coordinates
Draw = Callable[[float], "Image.Image | F32"]  # seconds -> RGB picture; arrays are (H, W, 3) in 0..255

MASTERS_VERSION = 1  # bump when any pixel changes

_BICUBIC = Image.Resampling.BICUBIC
_TAU = 2 * math.pi


@dataclass(frozen=True)
class Scene:
    """One content: its family, its seed and the knobs that spread bitrate needs inside the family."""

    name: str
    family: str
    seed: int
    variant: int  # 0..3; a family may compose its scenes differently
    detail: float  # 0..1, amount of fine structure
    contrast: float  # gain around mid grey
    blur: float  # defocus, Gaussian sigma in thousandths of the picture height
    noise: float  # noise sigma in 8-bit levels
    speed: float  # motion multiplier


# ---------------------------------------------------------------------------------------------- ingredients


def _fractal(rng: Rng, h: int, w: int, beta: float = 2.0) -> F32:
    """Periodic (h, w) noise of power 1/f**beta, zero mean, unit deviation."""
    fy, fx = np.fft.fftfreq(h)[:, None] * h, np.fft.rfftfreq(w)[None, :] * h
    f = np.maximum(np.hypot(fy, fx), 0.5)
    spectrum = np.fft.rfft2(rng.standard_normal((h, w), dtype=np.float32)) * f ** (-beta / 2)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(h, w))
    return np.asarray(noise / (noise.std() + 1e-9), dtype=np.float32)


def _relief(rng: Rng, h: int, w: int) -> F32:
    """(h, w) side-lit rough surface, unit deviation: the slope of a fractal height field."""
    height = _fractal(rng, h, w, 3.4)
    slope = height - np.roll(height, (1, 1), (0, 1))
    return np.asarray(slope / np.float32(slope.std() + 1e-9), dtype=np.float32)


def _ridge(rng: Rng, n: int, beta: float = 2.6) -> F32:
    """n samples of a 1-D fractal profile scaled to -1..1."""
    f = np.maximum(np.arange(n + 1), 2.0)
    phases = np.exp(1j * rng.uniform(0, _TAU, n + 1))
    line = np.fft.irfft(phases * f ** (-beta / 2) * (np.arange(n + 1) > 1))[:n]
    line -= (line.max() + line.min()) / 2
    return np.asarray(line / np.abs(line).max(), dtype=np.float32)


def _grid(h: int, w: int) -> tuple[F32, F32]:
    """(h, 1) rows and (1, w) columns of pixel centres, in units of h."""
    y = (np.arange(h, dtype=np.float32) + np.float32(0.5)) / np.float32(h)
    x = (np.arange(w, dtype=np.float32) + np.float32(0.5)) / np.float32(h)
    return y[:, None], x[None, :]


def _step(x: Real) -> F32:
    """Smooth 0..1 step of x over 0..1."""
    x = np.clip(x, 0, 1).astype(np.float32)
    return np.asarray(x * x * (3 - 2 * x), dtype=np.float32)


def _image(rgb: Real, alpha: Real | None = None) -> Image.Image:
    """RGB (or RGBA) image of (h, w, 3) colours and (h, w) opacity, both 0..1."""
    if alpha is not None:
        rgb = np.dstack([rgb, np.broadcast_to(alpha, rgb.shape[:2])])
    return Image.fromarray(np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8))


def _hsv(h: float, s: float, v: float) -> F32:
    return np.array(colorsys.hsv_to_rgb(h % 1, min(max(s, 0), 1), min(max(v, 0), 1)), dtype=np.float32)


def _ramp(at: F32, stops: Sequence[Colour]) -> F32:
    """Colours (..., 3) along evenly spaced stops; ``at`` is 0..1."""
    grid = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(at, grid, c) for c in zip(*stops, strict=True)], axis=-1).astype(np.float32)


def _lit(colour: F32, shade: F32) -> F32:
    """Colour (3,) times (h, w) shade, with slightly warm lights and cool shadows."""
    tint = np.array([0.03, 0.01, -0.03], np.float32)
    return np.asarray(colour * shade[..., None] + (shade[..., None] - 1) * tint, dtype=np.float32)


def _soft(image: Image.Image, sigma: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(sigma)) if sigma > 0.05 else image


def _view(image: Image.Image, size: tuple[int, int], x: float, y: float, zoom: float = 1.0) -> Image.Image:
    """The ``size`` picture centred at canvas position (x, y) pixels; sub-pixel, kept inside the canvas."""
    zoom = max(zoom, size[0] / image.width, size[1] / image.height)
    w, h = size[0] / zoom, size[1] / zoom
    left, top = min(max(x - w / 2, 0), image.width - w), min(max(y - h / 2, 0), image.height - h)
    return image.resize(size, _BICUBIC, box=(left, top, min(left + w, image.width), min(top + h, image.height)))


def _put(frame: Image.Image, sprite: Image.Image, x: float, y: float, angle: float = 0.0) -> None:
    """Paste an RGBA sprite with its centre at sub-pixel (x, y), turned by ``angle`` radians."""
    half_w, half_h = sprite.width / 2, sprite.height / 2
    c, s = math.cos(angle), math.sin(angle)
    reach_x, reach_y = abs(c) * half_w + abs(s) * half_h + 1, abs(s) * half_w + abs(c) * half_h + 1
    left, top = math.floor(x - reach_x), math.floor(y - reach_y)
    size = math.ceil(2 * reach_x) + 1, math.ceil(2 * reach_y) + 1
    if left >= frame.width or top >= frame.height or left + size[0] <= 0 or top + size[1] <= 0:
        return
    dx, dy = left - x, top - y
    matrix = (c, s, c * dx + s * dy + half_w, -s, c, c * dy - s * dx + half_h)
    tile = sprite.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    frame.paste(tile, (left, top), tile)


def _sway(image: Image.Image, shift: Callable[[float, float], tuple[float, float]], cells: int) -> Image.Image:
    """The image warped by a smooth field: ``shift(x, y)`` is a mesh corner's displacement, pixels."""
    xs = [round(image.width * i / cells) for i in range(cells + 1)]
    ys = [round(image.height * i / cells) for i in range(cells + 1)]
    at = [[tuple(np.add((x, y), shift(x, y)).tolist()) for x in xs] for y in ys]
    mesh = [
        ((xs[i], ys[j], xs[i + 1], ys[j + 1]), (*at[j][i], *at[j + 1][i], *at[j + 1][i + 1], *at[j][i + 1]))
        for j in range(cells)
        for i in range(cells)
    ]
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def _crop(rng: Rng, texture: F32, h: int, w: int) -> F32:
    """A random (h, w) window of a periodic texture."""
    rows = (rng.integers(texture.shape[0]) + np.arange(h)) % texture.shape[0]
    columns = (rng.integers(texture.shape[1]) + np.arange(w)) % texture.shape[1]
    return np.asarray(texture[rows[:, None], columns[None, :]])


def _shape(
    rng: Rng, radius: float, kind: str, colour: F32, texture: F32, strength: float, edge: float = 1.0
) -> Image.Image:
    """RGBA textured, shaded "blob", "box" or "leaf"; ``edge`` is the outline's width in pixels."""
    n = math.ceil(2.5 * radius) + 4
    v, u = (np.mgrid[:n, :n].astype(np.float32) - np.float32((n - 1) / 2)) / np.float32(radius)
    if kind == "leaf":
        inside = 0.42 * (1 - u * u) * (1.15 + 0.5 * u) - np.abs(v + 0.12 * u * u)
        veins = np.exp(-((v + 0.12 * u * u) ** 2) * 900) - 0.25 * np.cos(26 * (u - np.abs(v)))
        shade = 1 + 0.18 * veins + 0.16 * np.sign(v + 0.12 * u * u)
    elif kind == "box":
        a = rng.uniform(0, _TAU)
        p, q = np.abs(u * math.cos(a) + v * math.sin(a)), np.abs(v * math.cos(a) - u * math.sin(a))
        inside = 0.08 - np.hypot(np.maximum(p - 0.75, 0), np.maximum(q - rng.uniform(0.25, 0.75), 0))
        shade = 1 + 0.25 * u
    else:
        angle = np.arctan2(v, u)
        outline = 0.85 + sum(rng.normal(0, 0.13 / k) * np.cos(k * angle + rng.uniform(0, _TAU)) for k in range(2, 6))
        inside = outline - np.hypot(u, v)
        shade = 1.08 - 0.3 * (u + v) * rng.uniform(0.2, 1) - 0.25 * np.exp(-6 * np.maximum(inside, 0))
    alpha = np.clip(inside * radius / edge + 0.5, 0, 1)
    tone = shade * (1 + strength * _crop(rng, texture, n, n))
    return _image(_lit(colour, tone.astype(np.float32)), alpha)


def _crown(rng: Rng, h: int, w: int, colour: F32, edge: float, texture: F32) -> Image.Image:
    """RGBA tree crown, bush or cloud: an ellipse with a ragged outline, lit from above."""
    y, x = (np.linspace(-1.15, 1.15, h, dtype=np.float32)[:, None], np.linspace(-1.15, 1.15, w)[None, :])
    rough = _crop(rng, texture, h, w)
    inside = 1 - (x * x + y * y) + 0.3 * rough * np.clip(2.2 * (1.32 - x * x - y * y), 0, 1)
    alpha = np.clip((inside - 0.25) / edge + 0.5, 0, 1) * _step((1.3 - (x * x + y * y)) * 6)
    shade = 0.85 - 0.25 * y - 0.12 * x + 0.28 * _crop(rng, texture, h, w)
    return _image(_lit(colour, np.maximum(shade, 0.1).astype(np.float32)), alpha)


def _painted(w: float, h: float, unit: float, paint: Callable[[ImageDraw.ImageDraw, At], None]) -> Image.Image:
    """RGBA sprite; ``paint(pen, at)`` draws at 4x, for anti-aliasing; ``at`` scales lengths by unit."""
    big = Image.new("RGBA", (4 * math.ceil(w) + 8, 4 * math.ceil(h) + 8))
    paint(ImageDraw.Draw(big), lambda *v: [4 + 4 * unit * a for a in v])
    return big.reduce(4)


def _roughen(sprite: Image.Image, rng: Rng, texture: F32, strength: float) -> Image.Image:
    rgba = np.asarray(sprite, dtype=np.float32) / 255
    tone = 1 + strength * _crop(rng, texture, sprite.height, sprite.width)
    return _image(rgba[..., :3] * tone[..., None], rgba[..., 3])


def _rgb(colour: F32 | Colour) -> tuple[int, int, int]:
    r, g, b = (round(255 * min(max(float(c), 0), 1)) for c in colour)
    return r, g, b


def _wander(rng: Rng, hz: float) -> Callable[[float], float]:
    """A smooth random path of t, about -1..1, starting anywhere."""
    parts = [(hz * rng.uniform(0.6, 1.6), rng.uniform(0, _TAU), a) for a in (0.55, 0.3, 0.15)]
    return lambda t: sum(a * math.sin(_TAU * f * t + p) for f, p, a in parts)


def _sweep(t: float, speed: float, span: float) -> float:
    """Position in 0..span of something moving at ``speed``, turning round smoothly at both ends."""
    return span / 2 * (1 - math.cos(2 * speed * t / max(span, 1e-6) + 0.6))


def _gap(t: float, start: float, speed: float, low: float, high: float) -> float:
    """Position of something crossing low..high steadily and coming back, unseen, at the other end."""
    return low + (start + speed * t - low) % (high - low)


def _clouds(rng: Rng, h: int, w: int, cover: float, hardness: float) -> F32:
    """(h, w) cloud opacity 0..1, flattened towards the bottom as clouds are near the horizon."""
    y = np.linspace(0, 1, h)
    rows = (h * (0.7 * y + 1.3 * y * y)).astype(np.intp) % h
    return _step((_fractal(rng, h, w, 3.0)[rows] + np.float32(cover)) * np.float32(hardness))


# ------------------------------------------------------------------------------------------------- families


def _dead_leaves(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Occluding textured shapes with power-law sizes, a slow camera and larger shapes crossing in front."""
    cw, ch = int(1.35 * w), int(1.3 * h)
    texture = _fractal(rng, ch, cw, 2.1)
    base = _image(_lit(_hsv(rng.uniform(), 0.1, 0.5), 1 + 0.2 * texture))
    hue = (0.08, 0.58, 0.25, 0.02)[s.variant]

    def colour() -> F32:
        far = rng.uniform() < 0.15
        return _hsv(hue + rng.normal(0, 0.25 if far else 0.05), rng.beta(2, 5 - 2 * far), rng.uniform(0.12, 0.9))

    smallest = h * (0.06 - 0.05 * s.detail)
    for i in range(int(150 + 900 * s.detail)):
        radius = min(smallest / math.sqrt(max(rng.uniform(), 1e-3)), 0.3 * h)
        if i < 30:
            radius = 0.25 * h
        sprite = _shape(
            rng,
            radius,
            str(rng.choice(["blob", "blob", "box"])),
            colour(),
            texture,
            rng.uniform(0.02, 0.26) * (0.4 + 0.6 * s.detail),
        )
        _put(base, sprite, rng.uniform(0, cw), rng.uniform(0, ch))
    base = _soft(base, h * 0.002 * (1 - s.detail))
    movers = [
        (
            _shape(rng, h * rng.uniform(0.07, 0.2), str(rng.choice(["blob", "box"])), colour(), texture, 0.2),
            rng.uniform(0, w),
            rng.uniform(0.1, 0.9) * h,
            rng.normal(0, 0.25) * h * s.speed,
            rng.uniform(0, _TAU),
            rng.normal(0, 0.5) * s.speed,
            _wander(rng, 0.25 * s.speed),
        )
        for _ in range(3 + 2 * s.variant)
    ]

    def draw(t: float) -> Image.Image:
        frame = _view(base, (w, h), w / 2 + _sweep(t, 0.1 * s.speed * h, cw - w), ch / 2 + 0.1 * h * path(t))
        for sprite, x, y, vx, angle, spin, bob in movers:
            margin = sprite.width
            _put(frame, sprite, _gap(t, x, vx, -margin, w + margin), y + 0.12 * h * bob(t), angle + spin * t)
        return frame

    path = _wander(rng, 0.12 * s.speed)
    return draw


_SKIES: tuple[tuple[Colour, ...], ...] = (  # zenith to horizon
    ((0.20, 0.40, 0.72), (0.45, 0.64, 0.86), (0.80, 0.87, 0.92)),
    ((0.24, 0.27, 0.46), (0.66, 0.46, 0.50), (0.97, 0.72, 0.45)),
    ((0.50, 0.55, 0.62), (0.66, 0.70, 0.74), (0.80, 0.81, 0.82)),
    ((0.12, 0.30, 0.60), (0.38, 0.62, 0.84), (0.90, 0.90, 0.84)),
)


def _tree(rng: Rng, height: float, hue: float, texture: F32) -> Image.Image:
    """RGBA tree of the given height in pixels: trunk, then a few overlapping crowns."""
    n, tall = math.ceil(0.8 * height) + 2, math.ceil(height) + 2
    tree = Image.new("RGBA", (n, tall))
    trunk = _rgb(_hsv(0.08, 0.4, 0.22))
    ImageDraw.Draw(tree).polygon(
        [(0.48 * n, 0.4 * tall), (0.52 * n, 0.4 * tall), (0.55 * n, tall), (0.45 * n, tall)],
        fill=(*trunk, 255),
    )
    for i in range(6):
        colour = _hsv(hue + rng.normal(0, 0.015), rng.uniform(0.35, 0.6), rng.uniform(0.25, 0.4) + 0.03 * i)
        cw, ch = int(n * rng.uniform(0.4, 0.66)) + 3, int(tall * rng.uniform(0.28, 0.42)) + 3
        crown = _crown(rng, ch, cw, colour, 0.25, texture)
        low = (0.4 - 0.07 * i) * tall * rng.uniform(0.7, 1)  # lower boughs first, the lit top last
        tree.alpha_composite(crown, (int(rng.uniform(0.1, 0.9) * max(n - cw, 0)), int(max(low, 0))))
    return tree


def _panorama(s: Scene, rng: Rng, w: int, h: int) -> tuple[Image.Image, Image.Image]:
    """A (w, h) landscape as a far RGB image (sky, mountains) and a near RGBA one (field, trees, grass)."""
    sky = _SKIES[s.variant]
    haze = np.array(sky[-1], np.float32)
    y, x = _grid(h, w)
    horizon = rng.uniform(0.5, 0.6)
    far = np.broadcast_to(_ramp(y / np.float32(horizon + 0.1), sky), (h, w, 3)).copy()
    cloud = _clouds(rng, h, w, rng.uniform(-0.6, 0.3), rng.uniform(0.25, 0.6))[..., None]
    lit = 0.93 + 0.06 * _fractal(rng, h, w, 2.4)[..., None]
    far += cloud * 0.85 * (lit * (0.6 * haze + 0.4) - far)
    for i, depth in enumerate((0.75, 0.5, 0.22)):
        top = horizon - (0.27 - 0.1 * i) * (0.55 + 0.45 * _ridge(rng, w, 2.4 + 0.2 * i))
        alpha = np.clip((y - top[None, :]) * h + 0.5, 0, 1)[..., None]
        rock = _relief(rng, h, w) * (0.15 + 0.2 * s.detail)
        colour = _lit(_hsv(rng.uniform(0.08, 0.4), rng.uniform(0.2, 0.45), rng.uniform(0.3, 0.5)), 0.9 + rock)
        far += alpha * (depth * haze + (1 - depth) * colour - far)

    # A ground plane: texture coordinates grow with distance, and its contrast fades into the haze.
    ground = horizon + 0.015 * _ridge(rng, w, 3.0)[None, :]
    below = np.maximum(y - ground, 1e-3)
    distance = 0.25 / (below + 0.03)
    fine, coarse = _fractal(rng, 1024, 1024, 1.2 + (1 - s.detail)), _fractal(rng, 1024, 1024, 2.6)
    rows = (distance * 300).astype(np.intp) % 1024
    columns = ((x - x.mean()) * distance * 260).astype(np.intp) % 1024
    patches = _step(coarse[rows, columns] * np.float32(0.8) + 0.5)[..., None]
    hues = rng.uniform(0.1, 0.32, 2)
    field = patches * _hsv(hues[0], 0.5, 0.55) + (1 - patches) * _hsv(hues[1], 0.45, 0.38)
    field *= 1 + 0.25 * s.detail * (fine[rows, columns] * np.minimum(2.2 / distance, 1))[..., None]
    field += np.clip(distance / 9 - 0.1, 0, 0.7)[..., None] * (haze - field)
    near = _image(field, np.clip((y - ground) * h + 0.5, 0, 1))

    leafy = _fractal(rng, 512, 512, 1.9)
    for depth in np.sort(rng.uniform(0, 1, int(8 + 26 * s.detail))):
        tall = h * (0.05 + 0.36 * depth**2.5)
        tree = _tree(rng, tall, rng.uniform(0.16, 0.33), leafy)
        foot = h * (horizon + 0.02 + 0.3 * depth**2)
        near.alpha_composite(tree, (int(rng.uniform(0, w - tree.width)), max(int(foot - tree.height), 0)))
    pen = ImageDraw.Draw(near)
    for foot in np.sort(rng.uniform(horizon + 0.12, 1.08, int(5000 * s.detail**2 * w / h / 2))) * h:
        size, left = (foot / h - horizon) * 0.09 * h, rng.uniform(0, w)
        blade = _rgb(_hsv(hues[0] + rng.normal(0, 0.02), 0.5, rng.uniform(0.25, 0.65)))
        pen.line((left, foot, left + rng.normal(0, 0.35) * size, foot - size), fill=(*blade, 170))
    return _image(far), near


def _landscape(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Mountains, fields and trees under a pan with parallax, a zoom, a hand-held camera or a tilt."""
    cw, ch = int((2.0, 1.4, 1.3, 1.2)[s.variant] * w), int((1.1, 1.4, 1.25, 1.5)[s.variant] * h)
    far, near = _panorama(s, rng, cw, ch)
    flat = Image.new("RGB", far.size)
    flat.paste(far)
    flat.paste(near, (0, 0), near)
    shake_x, shake_y = _wander(rng, 1.3 * s.speed), _wander(rng, 1.7 * s.speed)

    def draw(t: float) -> Image.Image:
        if s.variant == 0:  # the far layer moves less than the near one
            at = _sweep(t, 0.22 * h * s.speed, cw - w)
            frame = _view(far, (w, h), w / 2 + 0.45 * at, ch / 2)
            layer = _view(near, (w, h), w / 2 + at, ch / 2)
            frame.paste(layer, (0, 0), layer)
            return frame
        if s.variant == 1:
            return _view(flat, (w, h), cw / 2, 0.55 * ch, 0.75 + _sweep(t, 0.12 * s.speed, 0.8))
        if s.variant == 2:
            return _view(flat, (w, h), cw / 2 + 0.04 * h * shake_x(t), ch / 2 + 0.035 * h * shake_y(t), 1.05)
        return _view(flat, (w, h), cw / 2 + 0.02 * h * shake_x(t / 4), h / 2 + _sweep(t, 0.12 * h * s.speed, ch - h))

    return draw


def _facade(rng: Rng, w: int, h: int, texture: F32, detail: float, lit: float = 0.0) -> Image.Image:
    """RGB building front with a window grid; ``lit`` is the share of lit windows (0 is daylight)."""
    wall = _hsv(rng.uniform(0.0, 0.15), rng.uniform(0.05, 0.45), rng.uniform(0.35, 0.8) * (0.16 if lit else 1))
    tone = 1 + (0.04 + 0.08 * detail) * _crop(rng, texture, 2 * h, 2 * w)
    front = _image(_lit(wall, tone))
    pen = ImageDraw.Draw(front)
    columns = max(2, round(w / h * rng.uniform(6, 9) * (0.7 + 0.6 * detail)))
    rows = max(3, round(columns * h / w * rng.uniform(0.6, 0.9)))
    dx, dy = 2 * w / columns, 2 * h / rows
    fill_x, fill_y, trim = rng.uniform(0.45, 0.7), rng.uniform(0.5, 0.7), _rgb(wall * rng.uniform(0.6, 1.4))
    for j in range(rows):
        pen.rectangle((0, (j + 0.94) * dy, 2 * w, (j + 0.98) * dy), fill=_rgb(wall * 0.8))
        for i in range(columns):
            x0, y0 = (i + (1 - fill_x) / 2) * dx, (j + 0.15) * dy
            x1, y1 = x0 + fill_x * dx, y0 + fill_y * dy
            if lit:
                on = rng.uniform() < lit
                glass = _hsv(rng.choice([0.11, 0.13, 0.09, 0.55]), 0.45, rng.uniform(0.5, 1)) if on else wall * 0.6
            else:
                glass = _hsv(0.57, rng.uniform(0.1, 0.3), rng.uniform(0.15, 0.55))
            pen.rectangle((x0 - 0.04 * dx, y0 - 0.03 * dy, x1 + 0.04 * dx, y1 + 0.05 * dy), fill=trim)
            pen.rectangle((x0, y0, x1, y1), fill=_rgb(glass))
            if not lit:
                drop = rng.uniform(0, 0.7)  # blind, and a brighter reflection below it
                pen.rectangle((x0, y0, x1, y0 + drop * (y1 - y0)), fill=_rgb(glass * 0.5 + wall * 0.5))
            pen.line(((x0 + x1) / 2, y0, (x0 + x1) / 2, y1), fill=trim, width=max(1, round(0.05 * dx)))
    return front.resize((w, h), Image.Resampling.LANCZOS)


def _car(rng: Rng, size: float, texture: F32) -> Image.Image:
    """RGBA side view of a car, van or bus heading right; ``size`` is its height in pixels."""
    long = rng.choice([2.3, 2.5, 1.9, 3.2])
    body = _hsv(rng.choice([0.0, 0.02, 0.1, 0.35, 0.58, 0.62]), rng.beta(2, 3), rng.uniform(0.2, 0.9))
    box = long in (1.9, 3.2)

    def paint(pen: ImageDraw.ImageDraw, at: At) -> None:
        if box:
            pen.rounded_rectangle(at(0.02, 0.02, long - 0.02, 0.82), at(0.12)[0], fill=_rgb(body))
            panes = int(long * 2)
            for i in range(panes):
                a = 0.12 + i * (long - 0.2) / panes
                pen.rectangle(at(a, 0.14, a + (long - 0.2) / panes - 0.06, 0.42), fill=_rgb(_hsv(0.57, 0.25, 0.25)))
        else:
            roof = at(0.42, 0.42, 0.7, 0.06, 1.5, 0.06, 1.86, 0.42)
            pen.polygon(roof, fill=_rgb(body * 0.9))
            pen.polygon(at(0.53, 0.42, 0.75, 0.12, 1.04, 0.12, 1.04, 0.42), fill=_rgb(_hsv(0.57, 0.3, 0.3)))
            pen.polygon(at(1.1, 0.42, 1.1, 0.12, 1.45, 0.12, 1.73, 0.42), fill=_rgb(_hsv(0.57, 0.3, 0.38)))
            pen.rounded_rectangle(at(0.02, 0.4, long - 0.02, 0.84), at(0.14)[0], fill=_rgb(body))
        pen.rectangle(at(0.04, 0.68, long - 0.04, 0.84), fill=_rgb(body * 0.6))
        pen.rectangle(at(0.1, 0.46, long - 0.1, 0.49), fill=_rgb(body * 1.3 + 0.1))
        pen.ellipse(at(long - 0.14, 0.5, long - 0.03, 0.62), fill=(255, 245, 210))
        pen.ellipse(at(0.03, 0.5, 0.1, 0.62), fill=(190, 30, 25))
        for hub in (0.45, long - 0.5):
            pen.ellipse(at(hub - 0.19, 0.62, hub + 0.19, 1.0), fill=(22, 22, 24))
            pen.ellipse(at(hub - 0.09, 0.72, hub + 0.09, 0.9), fill=(150, 150, 155))

    return _roughen(_painted(size * long, size, size, paint), rng, texture, 0.05)


def _person(rng: Rng, size: float, texture: F32) -> tuple[Image.Image, Image.Image]:
    """RGBA upper body and one RGBA leg (hung from its centre) of a walker ``size`` pixels tall."""
    coat, skin = _hsv(rng.uniform(), rng.beta(2, 5), rng.uniform(0.12, 0.75)), rng.uniform(0.35, 0.9)
    hair, trousers = _hsv(0.08, 0.5, rng.uniform(0.05, 0.5)), _hsv(0.6, 0.3, rng.uniform(0.1, 0.4))

    def torso(pen: ImageDraw.ImageDraw, at: At) -> None:
        pen.rounded_rectangle(at(0.03, 0.17, 0.27, 0.56), at(0.08)[0], fill=_rgb(coat))
        pen.rounded_rectangle(at(0.11, 0.2, 0.19, 0.52), at(0.04)[0], fill=_rgb(coat * 0.75))
        pen.ellipse(at(0.08, 0.0, 0.22, 0.18), fill=_rgb(hair))
        pen.ellipse(at(0.105, 0.035, 0.225, 0.185), fill=_rgb(_hsv(0.06, 0.45, skin)))

    def leg(pen: ImageDraw.ImageDraw, at: At) -> None:
        pen.rounded_rectangle(at(0.11, 0.48, 0.19, 0.9), at(0.03)[0], fill=_rgb(trousers))
        pen.rounded_rectangle(at(0.1, 0.87, 0.25, 0.94), at(0.02)[0], fill=(30, 26, 24))

    upper = _roughen(_painted(0.3 * size, 0.6 * size, size, torso), rng, texture, 0.12)
    return upper, _painted(0.3 * size, 0.96 * size, size, leg)


def _street(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """House fronts and a road seen by a slowly panning camera; mostly cars (0, 2) or walkers (1, 3)."""
    cw = int(1.3 * w)
    texture = _fractal(rng, 512, 512, 1.6)
    back = _image(np.broadcast_to(_ramp(_grid(h, cw)[0] * 1.6, _SKIES[s.variant]), (h, cw, 3)))
    x = 0.0
    while x < cw:
        wide, tall = rng.uniform(0.25, 0.65) * h, rng.uniform(0.5, 0.66) * h
        back.paste(_facade(rng, int(wide) + 1, int(tall), texture, s.detail), (int(x), int(0.68 * h - tall)))
        x += wide
    y = _grid(h, cw)[0]
    pave = 1 + (0.05 + 0.08 * s.detail) * _fractal(rng, h, cw, 1.1) + 0.05 * _fractal(rng, h, cw, 2.5)
    kerb = np.clip((y - 0.76) * h + 0.5, 0, 1)[..., None]
    floor = _lit(_hsv(0.1, 0.08, 0.62), pave) * (1 - kerb) + _lit(_hsv(0.6, 0.06, 0.33), pave) * kerb
    back.paste(_image(floor[int(0.67 * h) :]), (0, int(0.67 * h)))
    pen = ImageDraw.Draw(back)
    pen.rectangle((0, 0.755 * h, cw, 0.768 * h), fill=(176, 172, 164))
    for i in range(int(cw / (0.3 * h)) + 1):
        pen.rectangle((0.3 * i * h, 0.872 * h, (0.3 * i + 0.16) * h, 0.884 * h), fill=(205, 203, 196))
    leafy = _fractal(rng, 256, 256, 1.9)
    for i in range(int(1 + 5 * s.detail)):
        tree = _tree(rng, h * rng.uniform(0.35, 0.5), 0.25, leafy)
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
        crowd.append((*parts, foot, rng.uniform(-0.3, 1.3) * w, pace, rng.uniform(0, _TAU)))

    def draw(t: float) -> Image.Image:
        pan = _sweep(t, 0.08 * h * s.speed, cw - w)
        frame = _view(back, (w, h), w / 2 + pan, h / 2)

        def walk(low: float, high: float) -> None:
            for upper, leg, foot, at, pace, phase in crowd:
                if low <= foot < high:
                    size = leg.height / 0.96
                    x = _gap(t, at, pace, -0.3 * w, 1.3 * w + 0.3 * h) - pan
                    stride = math.sin(phase + 14 * pace / size * t)
                    hip = foot * h - 0.46 * size - 0.012 * size * abs(stride)
                    for turn in (0.45 * stride, -0.45 * stride):
                        _put(frame, leg, x, hip, -turn)
                    _put(frame, upper, x, hip - 0.2 * size)

        last = 0.0
        for lane, car, start, pace in cars:
            walk(last, lane)
            last = lane
            margin = car.width
            _put(
                frame,
                car,
                _gap(t, start, pace, -margin - 0.2 * w, w + margin + 0.8 * h) - 0.5 * pan,
                lane * h - car.height / 2,
            )
        walk(last, 9.0)
        return frame

    return draw


def _film(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """A street (0, 3), landscape (1) or foliage (2) on film: gate weave, flicker; 0 and 1 are monochrome."""
    weave = max(2, round(0.01 * h))
    inner = (_street, _landscape, _foliage, _street)[s.variant](s, rng, w + 2 * weave, h + 2 * weave)
    shift_x, shift_y, flicker = _wander(rng, 5.0), _wander(rng, 7.0), _wander(rng, 6.0)
    tint = np.array((1.0, 1.0, 1.0) if s.variant < 2 else (1.05, 0.99, 0.86), np.float32)

    def draw(t: float) -> F32:
        picture = inner(t)
        assert isinstance(picture, Image.Image)
        x, y = picture.width / 2 + 0.0016 * h * shift_x(t), picture.height / 2 + 0.0016 * h * shift_y(t)
        picture = _view(picture, (w, h), x, y)
        frame = np.asarray(picture.convert("L").convert("RGB") if s.variant < 2 else picture, dtype=np.float32)
        return frame * (tint * np.float32(1 + 0.012 * flicker(t)))

    return draw


def _fog(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Ridges of trees fading into drifting fog, with parallax; very little contrast."""
    cw = int(1.7 * w)
    tone = _hsv(rng.choice([0.58, 0.1, 0.6, 0.3]), 0.06, rng.uniform(0.72, 0.85))
    y, _ = _grid(h, cw)
    sky = _lit(tone, 1.06 - 0.12 * y + 0.015 * _fractal(rng, h, cw, 3.0))
    leafy = _fractal(rng, 256, 256, 1.9)
    layers = []
    for i, depth in enumerate((0.86, 0.68, 0.45)):
        top = (0.42 + 0.17 * i - 0.08 * _ridge(rng, cw, 2.8))[None, :]
        dark = _hsv(rng.uniform(0.2, 0.6), 0.25, 0.28)
        rough = 0.9 + 0.22 * s.detail * _fractal(rng, h, cw, 1.5)
        layer = _image(_lit(dark, rough), np.clip((y - top) * h + 0.5, 0, 1))
        for _ in range(int(10 + 40 * s.detail) // (i + 1)):
            tree = _tree(rng, h * rng.uniform(0.1, 0.16) * (1 + 1.2 * i), 0.3, leafy)
            left = int(rng.uniform(0, cw - tree.width))
            foot = top[0, left + tree.width // 2] * h + 0.03 * h
            layer.alpha_composite(tree, (left, max(int(foot - tree.height), 0)))
        rgba = np.asarray(layer, dtype=np.float32) / 255
        veil = np.clip(depth + 0.25 * (y - top), 0, 0.95)[..., None]  # fog thickens towards each valley floor
        rgba[..., :3] = rgba[..., :3] * (1 - veil) + tone * veil
        layers.append(_soft(_image(rgba[..., :3], rgba[..., 3]), h * 0.0015 * (2 - i) * (1.3 - s.detail)))
    back = _image(sky)
    back.paste(layers[0], (0, 0), layers[0])
    drift = _soft(_image(np.broadcast_to(tone, (h, cw, 3)), 0.55 * _step(0.5 + 0.4 * _fractal(rng, h, cw, 3.0))), 1)

    def draw(t: float) -> Image.Image:
        at = _sweep(t, 0.12 * h * s.speed, cw - w)
        frame = _view(back, (w, h), w / 2 + 0.3 * at, h / 2)
        for layer, rate in ((layers[1], 0.55), (drift, None), (layers[2], 1.0)):
            x = w / 2 + (rate * at if rate else _sweep(t, 0.25 * h * s.speed, cw - w))
            tile = _view(layer, (w, h), x, h / 2)
            frame.paste(tile, (0, 0), tile)
        return frame

    return draw


def _disc(radius: float, colour: F32, glow: bool) -> Image.Image:
    """RGBA bokeh disc with a bright rim, or a Gaussian glow with a hot core."""
    n = math.ceil(2 * radius) + 4
    v, u = (np.mgrid[:n, :n].astype(np.float32) - np.float32((n - 1) / 2)) / np.float32(radius)
    r = np.hypot(u, v)
    if glow:
        alpha = np.clip(np.exp(-12 * r * r) * 1.2 + 0.35 * np.exp(-3 * r) * (1 - _step(r)), 0, 1)
        return _image(colour + np.exp(-30 * r * r)[..., None], alpha * (r < 1))
    alpha = np.clip((1 - r) * radius + 0.5, 0, 1) * (0.42 + 0.25 * r**4)
    return _image(np.broadcast_to(colour, (n, n, 3)), alpha)


def _night_city(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Lit windows over a wet road with car lights; variant 1 is mostly bokeh, 3 a distant skyline."""
    cw = int(1.3 * w)
    texture = _fractal(rng, 512, 512, 1.6)
    y, _ = _grid(h, cw)
    dusk = _ramp(y * 1.4, ((0.01, 0.015, 0.05), (0.05, 0.05, 0.12), (0.22, 0.14, 0.13)))
    back = _image(dusk * (1 + 0.25 * _fractal(rng, h, cw, 2.8))[..., None])
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
        _put(back, _disc(0.12 * h, _hsv(0.1, 0.6, 1.0), True), x, top)
    for _ in range(int(6 + 10 * s.detail)):  # shop signs
        x, size = rng.uniform(0, cw), h * rng.uniform(0.02, 0.05)
        pen.rectangle(
            (x, road * h - 2.6 * size, x + 3 * size, road * h - 1.4 * size),
            fill=_rgb(_hsv(rng.uniform(), 0.75, 1.0)),
        )
    back = ImageChops.add(back, _soft(back, 0.03 * h).point(lambda v: v * 0.55))
    mirrored = ImageOps.flip(back.crop((0, int((2 * road - 1) * h), cw, int(road * h))))
    small = mirrored.resize((cw, max(4, mirrored.height // 14)), Image.Resampling.BOX)
    wet = np.asarray(small.resize((cw, h - int(road * h)), _BICUBIC), dtype=np.float32) / 255
    wet *= (0.5 + 0.16 * _relief(rng, wet.shape[0], cw))[..., None]
    back.paste(_image(wet + np.float32(0.02)), (0, int(road * h)))
    back = _soft(back, (0, 0.022, 0.002, 0)[s.variant] * h)

    lights = []
    for _ in range(4 + int(6 * s.detail)):
        way, lane = rng.choice([-1, 1]), rng.uniform(0.76, 0.93)
        colour = _hsv(0.12, 0.25, 1.0) if way > 0 else _hsv(0.0, 0.85, 1.0)
        sprite = _disc((0.25 * (lane - 0.55)) * h, colour, True)
        lights.append((sprite, rng.uniform(0, w), lane * h, way * rng.uniform(0.3, 0.7) * h * s.speed * (lane - 0.5)))
    bokeh = [
        (
            _disc(h * rng.uniform(0.03, 0.085), _hsv(rng.choice([0.1, 0.08, 0.0, 0.55, 0.35]), 0.65, 1.0), False),
            rng.uniform(0, w),
            rng.uniform(0.2, 0.95) * h,
            _wander(rng, 0.3 * s.speed),
        )
        for _ in range((0, 45, 0, 0)[s.variant])
    ]

    def draw(t: float) -> Image.Image:
        pan = _sweep(t, 0.09 * h * s.speed, cw - w)
        frame = _view(back, (w, h), w / 2 + pan, h / 2)
        for sprite, x, y, pace in lights:
            for gap in (0, 0.55):  # two lamps a car
                _put(frame, sprite, _gap(t, x, pace, -0.3 * h, w + 0.3 * h) + gap * sprite.width, y)
        for sprite, x, y, bob in bokeh:
            _put(frame, sprite, _gap(t, x - 1.6 * pan, 0, -0.2 * h, w + 0.2 * h), y + 0.03 * h * bob(t))
        return frame

    return draw


_PROSE = [
    "The",
    "river",
    "was",
    "low",
    "that",
    "summer",
    "and",
    "the",
    "stones",
    "along",
    "its",
    "bank",
    "were",
    "warm",
    "until",
    "late",
    "in",
    "the",
    "evening.",
    "We",
    "measured",
    "the",
    "water",
    "every",
    "morning,",
    "wrote",
    "it",
    "in",
    "a",
    "small",
    "green",
    "book,",
    "and",
    "walked",
    "home",
    "past",
    "the",
    "mill.",
    "A",
    "picture",
    "holds",
    "more",
    "than",
    "it",
    "shows:",
    "edges,",
    "grain,",
    "light",
    "falling",
    "off",
    "towards",
    "the",
    "corner",
    "of",
    "a",
    "room.",
    "Each",
    "frame",
    "follows",
    "the",
    "last",
    "by",
    "a",
    "fortieth",
    "of",
    "a",
    "second",
    "and",
    "the",
    "eye",
    "forgives",
    "all",
    "but",
    "a",
    "stutter.",
    "Choose",
    "the",
    "settings",
    "that",
    "keep",
    "what",
    "people",
    "notice;",
    "37",
    "of",
    "128",
    "samples",
    "differ",
    "by",
    "less",
    "than",
    "0.5",
    "units.",
    "Nobody",
    "reads",
    "the",
    "manual",
    "until",
    "something",
    "breaks,",
    "and",
    "then",
    "everybody",
    "wants",
    "an",
    "index",
    "with",
    "page",
    "numbers.",
]


def _page(rng: Rng, w: int, h: int, size: float, ink: F32, paper: F32, code: bool) -> Image.Image:
    """(w, h) column of headings, paragraphs and pictures, or of coloured program-like lines."""
    page = Image.new("RGB", (w, h), _rgb(paper))
    pen = ImageDraw.Draw(page)
    y, word = size, int(rng.integers(len(_PROSE)))
    texture = _fractal(rng, 256, 256, 2.2)
    while y < h:
        kind = rng.choice(["text", "text", "text", "picture"])
        if kind == "picture" and not code:
            pw, ph = int(0.75 * w), int(7 * size)
            shot = _ramp(np.clip(0.5 + 0.22 * _crop(rng, texture, ph, pw), 0, 1), _SKIES[int(rng.integers(4))])
            page.paste(_image(shot), (int(1.2 * size), int(y)))
            y += ph + size
            continue
        bold = ImageFont.load_default(size=size * 1.5)
        font = ImageFont.load_default(size=size)
        if not code:
            pen.text((1.2 * size, y), " ".join(_PROSE[word : word + 4]).capitalize(), font=bold, fill=_rgb(ink))
            y += 2.3 * size
        for _ in range(int(rng.integers(4, 9))):
            x = 1.2 * size + (2 * size * int(rng.integers(0, 4)) if code else 0)
            end = w * (rng.uniform(0.35, 0.95) if code else 0.92)
            while x < end:
                text = _PROSE[word % len(_PROSE)] + " "
                if x + font.getlength(text) > 0.97 * w:
                    break
                word += 1
                fill = _hsv(rng.choice([0.1, 0.55, 0.33, 0.8]), 0.55, 0.85) if code else ink
                pen.text((x, y), text, font=font, fill=_rgb(fill))
                x += font.getlength(text)
            y += 1.45 * size
        y += 0.8 * size
    return page


def _screen(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """A desktop: a scrolling document, a side bar, a window being dragged and a mouse pointer."""
    dark = s.variant in (1, 3)
    size = h * (0.044 - 0.018 * s.detail)
    ink, paper = (
        (_hsv(0.6, 0.05, 0.85), _hsv(0.62, 0.2, 0.13)) if dark else (_hsv(0.6, 0.3, 0.12), _hsv(0.1, 0.01, 0.99))
    )
    accent = _hsv(rng.uniform(), 0.6, 0.75)
    shade = 1 + 0.25 * _fractal(rng, h, w, 3.2)
    desk = _image(_lit(_hsv(rng.uniform(), 0.5, 0.4), np.maximum(shade, 0.2)))
    pen = ImageDraw.Draw(desk)
    small = ImageFont.load_default(size=0.034 * h)
    left, top, right, bottom = (int(a) for a in (0.05 * w, 0.06 * h, (0.95 - 0.2 * (s.variant == 2)) * w, 0.94 * h))
    bar, side = int(0.07 * h), int(0.2 * w)
    pen.rounded_rectangle((left, top, right, bottom), 0.015 * h, fill=_rgb(accent * 0.55))
    pen.text((left + 0.1 * h, top + 0.012 * h), "Field notes - draft 7", font=small, fill=(240, 240, 240))
    for i, colour in enumerate(((235, 95, 85), (240, 190, 70), (95, 200, 95))):
        x = left + (0.02 + 0.026 * i) * h
        pen.ellipse((x, top + 0.025 * h, x + 0.02 * h, top + 0.045 * h), fill=colour)
    pen.rectangle((left, top + bar, left + side, bottom - 4), fill=_rgb(paper * 0.8 + accent * 0.15))
    for i in range(int((bottom - top - bar) / (0.055 * h)) - 1):
        row = top + bar + (0.02 + 0.055 * i) * h
        pen.rectangle((left + 0.02 * h, row, left + 0.05 * h, row + 0.03 * h), fill=_rgb(_hsv(0.13 * i, 0.5, 0.7)))
        pen.text((left + 0.065 * h, row - 0.004 * h), _PROSE[3 * i + 1].capitalize(), font=small, fill=_rgb(ink))
    hole = (left + side, top + bar, right - 4, bottom - 4)
    hole_w, hole_h = hole[2] - hole[0], hole[3] - hole[1]
    page = _page(rng, hole_w, 3 * h, size, ink, paper, code=dark)
    note = _page(rng, int(0.42 * h), int(0.4 * h), 0.03 * h, _hsv(0.1, 0.5, 0.2), _hsv(0.14, 0.3, 0.98), code=False)
    ImageDraw.Draw(note).rectangle((0, 0, note.width, 0.03 * h), fill=_rgb(accent))
    pad = int(0.03 * h)
    shadow = Image.new("L", (note.width + 2 * pad, note.height + 2 * pad))
    ImageDraw.Draw(shadow).rectangle((pad, pad, pad + note.width, pad + note.height), fill=130)
    shadow = _soft(shadow, 0.4 * pad)

    def point(pen: ImageDraw.ImageDraw, at: At) -> None:
        arrow = at(0, 0, 0, 0.85, 0.2, 0.68, 0.33, 1, 0.46, 0.94, 0.33, 0.63, 0.6, 0.6, 0, 0)
        pen.polygon(arrow, fill="black")
        pen.line(arrow, fill="white", width=max(2, round(0.012 * h)))

    pointer = _painted(0.04 * h, 0.055 * h, 0.05 * h, point)
    path_x, path_y = _wander(rng, 0.3 * s.speed), _wander(rng, 0.25 * s.speed)

    def draw(t: float) -> Image.Image:
        frame = desk.copy()
        scroll = round(_sweep(t, 0.12 * h * s.speed, page.height - hole_h))  # screens scroll by whole pixels
        frame.paste(page.crop((0, scroll, hole_w, scroll + hole_h)), hole[:2])
        x, y = (0.55 + 0.3 * path_x(t)) * w, (0.5 + 0.3 * path_y(t)) * h
        if s.variant in (0, 2):
            at = round(x - 0.3 * note.width), round(y - 0.01 * h)
            frame.paste((0, 0, 0), (at[0] - pad, at[1] - pad // 2), shadow)
            frame.paste(note, at)
        elif int(2 * t) % 2 == 0:
            ImageDraw.Draw(frame).rectangle(
                (hole[0] + 6 * size, hole[1] + 9 * size, hole[0] + 6.2 * size, hole[1] + 10.2 * size),
                fill=_rgb(ink),
            )
        _put(frame, pointer, x, y)
        return frame

    return draw


def _gradient(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Almost nothing but smooth tone: sunsets (0, 2) and studio backdrops with one moving ball (1, 3)."""
    y, x = _grid(h, w)
    path_x, path_y = _wander(rng, 0.2 * s.speed), _wander(rng, 0.3 * s.speed)
    aspect = w / h
    if s.variant % 2 == 0:
        sky: tuple[Colour, ...] = (
            ((0.10, 0.12, 0.30), (0.45, 0.28, 0.45), (0.92, 0.52, 0.35), (0.99, 0.80, 0.50)),
            ((0.04, 0.07, 0.17), (0.08, 0.16, 0.30), (0.20, 0.33, 0.44), (0.50, 0.52, 0.47)),
        )[s.variant // 2]
        wisps = _image(
            np.broadcast_to(np.array(sky[-1], np.float32), (h, 2 * w, 3)),
            0.5 * s.detail * _clouds(rng, h, 2 * w, -0.5, 0.4) * (1.2 - y),
        )
        base = np.broadcast_to(_ramp(y * 1.15, sky) * 255, (h, w, 3)).astype(np.float32)
        top = 0.86 - 0.05 * _ridge(rng, w, 2.8)[None, :]
        land = np.clip((y - top) * h + 0.5, 0, 1)[..., None]
        glow_colour = np.array([1.0, 0.75, 0.45], np.float32) * (90 if s.variant == 0 else 45)

        def draw(t: float) -> F32:
            sun_x = aspect * (0.5 + 0.2 * path_x(t))
            sun_y = 0.7 - 0.1 * math.cos(0.3 * t * s.speed)
            d = np.hypot(x - np.float32(sun_x), y - np.float32(sun_y))
            glow = np.exp(-d * 4) + 1.2 * np.clip((0.05 - d) * h + 0.5, 0, 1)
            layer = np.asarray(_view(wisps, (w, h), w / 2 + _sweep(t, 0.05 * h * s.speed, w), h / 2), np.float32)
            frame = base + glow[..., None] * glow_colour
            frame += layer[..., 3:] * np.float32(1 / 255) * (layer[..., :3] - frame)
            frame += land * (frame * np.float32(0.08) + 6 - frame)
            return np.asarray(frame, dtype=np.float32)

        return draw

    wall, ball = _hsv(rng.uniform(), 0.35, 0.7) * 255, _hsv(rng.uniform(), 0.55, 0.85) * 255
    grain = _crop(rng, _fractal(rng, 512, 512, 1.2), h, w) * np.float32(s.detail)
    radius = 0.17 if s.variant == 1 else 0.23
    spin = _wander(rng, 0.2)

    def studio(t: float) -> F32:
        bx, by = aspect * (0.5 + 0.33 * path_x(t)), 0.52 + 0.08 * path_y(t)
        lamp = aspect * (0.4 + 0.1 * spin(t))
        tone = 1.1 - 0.75 * np.hypot((x - np.float32(lamp)) / np.float32(aspect), (y - 0.3) * np.float32(0.7))
        tone = tone - 0.12 * _step((y - 0.70) * 6)
        gap = ((x - np.float32(bx)) / (1.1 * radius)) ** 2 + ((y - np.float32(0.86)) / (0.22 * radius)) ** 2
        tone = (tone * (1 - 0.55 * np.exp(-gap))).astype(np.float32)
        u, v = (x - np.float32(bx)) / np.float32(radius), (y - np.float32(by)) / np.float32(radius)
        rr = u * u + v * v
        z = np.sqrt(np.maximum(1 - rr, 0))
        light = np.clip(0.7 * z - 0.45 * u - 0.5 * v, 0, 1)
        shade = (0.16 + 0.8 * light + 0.06 * grain * z)[..., None] * ball
        shade += (220 * np.clip(light, 0, 1) ** 40)[..., None]
        alpha = np.clip((1 - rr) * np.float32(radius * h / 2) + 0.5, 0, 1)[..., None]
        frame = tone[..., None] * wall
        return np.asarray(frame + alpha * (shade - frame), dtype=np.float32)

    return studio


def _water(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Open water: slopes of a sum of travelling waves reflect the sky; the shore stands on the horizon."""
    horizon = (0.36, 0.30, -0.1, 0.42)[s.variant]  # c looks down: no horizon
    sky = _SKIES[(0, 1, 2, 1)[s.variant]]
    y, x = _grid(h, w)
    first = max(int(horizon * h), 0)
    backdrop = np.broadcast_to(_ramp(y / np.float32(max(horizon, 0.1) + 0.02), sky), (h, w, 3)).copy()
    cloud = _clouds(rng, h, w, -0.2, 0.4)[..., None]
    backdrop += 0.6 * cloud * (np.array(sky[-1], np.float32) * 0.7 + 0.3 - backdrop)
    shore = horizon - 0.05 * (0.6 + 0.4 * _ridge(rng, w, 2.2))[None, :]
    land = np.clip((y - shore) * h + 0.5, 0, 1)[..., None]
    rock = 0.5 * np.array(sky[-1], np.float32) + 0.5 * _lit(_hsv(0.25, 0.3, 0.25), 1 + 0.3 * _relief(rng, h, w))
    backdrop += land * (rock - backdrop)

    depth = (np.float32(0.35) / (y[first:] - np.float32(horizon - 0.03))).astype(np.float32)
    across = (x - x.mean()) * depth
    rows = h - first
    basis, weights, rates = [], [], []
    wind = rng.uniform(0, _TAU)
    count = int(14 + 10 * s.detail)
    for k in 3.0 * (14 + 46 * s.detail) ** np.linspace(0, 1, count):
        angle = wind + rng.normal(0, 0.75)
        kx, ky = k * math.cos(angle), k * math.sin(angle)
        phase = np.float32(kx) * across + np.float32(ky) * depth + np.float32(rng.uniform(0, _TAU))
        # A wave shorter than a pixel's footprint on the water only greys it: fade it out instead of aliasing.
        foot = np.float32(k / h) * np.hypot(depth, depth**2 * np.float32(abs(math.sin(angle)) / 0.35))
        seen = np.exp(-0.7 * foot * foot) * np.float32(0.16 / k**0.3)
        for wave in (np.cos(phase), np.sin(phase)):
            basis.append((wave * seen).astype(np.float32))
        weights.append((math.cos(angle), math.sin(angle)))
        rates.append(1.1 * math.sqrt(k) * s.speed * 1.2)
    table = _ramp(np.linspace(1, 0, 512, dtype=np.float32), sky) * 255
    deep = _hsv(rng.uniform(0.48, 0.58), 0.6, 0.22) * 255
    view = np.float32(0.12) + (y[first:] - np.float32(horizon)) * np.float32(0.9)
    fresnel = (0.25 + 0.7 * np.exp(-3.2 * view))[..., None]
    sun = s.variant in (1, 3)

    def draw(t: float) -> F32:
        slope_x, slope_y = np.zeros((rows, w), np.float32), np.zeros((rows, w), np.float32)
        part = np.empty((rows, w), np.float32)
        for i, ((wx, wy), rate) in enumerate(zip(weights, rates, strict=True)):
            for wave, turn in ((basis[2 * i], math.cos(rate * t)), (basis[2 * i + 1], math.sin(rate * t))):
                slope_x += np.multiply(wave, np.float32(wx * turn), out=part)
                slope_y += np.multiply(wave, np.float32(wy * turn), out=part)
        up = np.clip(view + slope_y + np.float32(0.3) * np.abs(slope_x), 0, 1)
        water = table[(up * 511).astype(np.intp)]
        gloss = np.clip(fresnel + np.float32(1.5) * slope_y[..., None], 0.03, 1)
        water = deep + gloss * (water - deep)
        if sun:
            spread = ((x - x.mean()) * np.float32(0.35) + slope_x) ** 2 * 70 + (slope_y - np.float32(0.16)) ** 2 * 70
            water += np.exp(-spread)[..., None] * np.array([255, 210, 150], np.float32)
        return np.concatenate([backdrop[:first] * 255, water]).astype(np.float32)

    return draw


def _foliage(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Leaves in the wind: defocused ground, a mid layer that bends as one, leaves swinging in front."""
    cw, ch = int(1.12 * w), int(1.12 * h)
    texture = _fractal(rng, 512, 512, 1.8)
    hue = (0.28, 0.22, 0.10, 0.31)[s.variant]
    size = h * (0.11 - 0.07 * s.detail)

    def leaf(radius: float, bright: float) -> Image.Image:
        colour = _hsv(hue + rng.normal(0, 0.025), rng.uniform(0.4, 0.75), bright * rng.uniform(0.6, 1.2))
        return _shape(rng, radius, "leaf", colour, texture, 0.10)

    def canopy(image: Image.Image, count: int, radius: float, bright: float) -> Image.Image:
        leaves = [leaf(radius * rng.uniform(0.7, 1.4), bright) for _ in range(24)]
        for i in range(count):
            _put(image, leaves[i % 24], rng.uniform(0, cw), rng.uniform(0, ch), rng.normal(1.2, 0.9))
        return image

    ground = _image(_lit(_hsv(hue, 0.5, 0.2), np.maximum(1 + 0.5 * _fractal(rng, ch, cw, 2.6), 0.1)))
    back = _soft(canopy(ground, 300, size, 0.42), (0.012, 0.02, 0.008, 0.03)[s.variant] * h)
    middle = canopy(Image.new("RGBA", (cw, ch)), int(0.7 * cw * ch / size**2), size, 0.5)
    front = []
    for _ in range(int(16 + 44 * s.detail)):
        sprite = leaf(1.25 * size * rng.uniform(0.8, 1.3), 0.68)
        front.append((sprite, rng.uniform(0, w), rng.uniform(0, h), rng.normal(1.3, 0.7), _wander(rng, 0.7 * s.speed)))
    gust, gust_2 = _wander(rng, 0.35 * s.speed), _wander(rng, 0.5 * s.speed)
    off_x, off_y = (cw - w) / 2, (ch - h) / 2

    def draw(t: float) -> Image.Image:
        frame = _view(back, (w, h), cw / 2 + 0.01 * h * gust_2(t), ch / 2)

        def shift(x: float, y: float) -> tuple[float, float]:
            a = math.sin(3.1 * s.speed * t + 5 * x / h + 3 * y / h)
            b = math.sin(2.3 * s.speed * t - 4 * y / h + 2 * x / h)
            return off_x + 0.025 * h * gust(t) + 0.012 * h * a, off_y + 0.01 * h * b

        tile = _sway(middle, shift, 12)
        frame.paste(tile, (0, 0), tile)
        for sprite, x, y, angle, swing in front:
            turn = angle + 0.3 * swing(t) + 0.12 * gust(t)
            reach = 0.4 * sprite.width  # the stem stays where it is
            _put(
                frame,
                sprite,
                x + reach * math.cos(turn) + 0.02 * h * gust(t),
                y + reach * math.sin(turn),
                turn,
            )
        return frame

    return draw


FAMILIES: dict[str, Callable[[Scene, Rng, int, int], Draw]] = {
    "dead_leaves": _dead_leaves,
    "landscape": _landscape,
    "street": _street,
    "film": _film,
    "fog": _fog,
    "night_city": _night_city,
    "screen": _screen,
    "gradient": _gradient,
    "water": _water,
    "foliage": _foliage,
}

# For each family, contents a..d as (detail, contrast, blur, noise, speed).
_KNOBS: dict[str, tuple[tuple[float, float, float, float, float], ...]] = {
    "dead_leaves": (
        (1.0, 1.0, 0, 0.8, 1.0),
        (0.5, 0.8, 0, 0, 1.6),
        (0.15, 0.7, 5, 1, 0.7),
        (0.8, 1.1, 2, 3, 2.2),
    ),
    "landscape": (
        (0.7, 1.0, 0, 0.6, 1.0),
        (1.0, 1.05, 0, 1, 1.0),
        (0.4, 0.9, 2.5, 2, 1.0),
        (0.15, 0.85, 4, 0, 0.8),
    ),
    "street": (
        (0.6, 1.0, 0, 0.8, 1.2),
        (1.0, 1.05, 0, 1, 1.0),
        (0.25, 0.8, 3, 0.5, 0.8),
        (0.5, 0.75, 0, 4, 1.5),
    ),
    "film": ((0.6, 1.0, 1, 9, 1.0), (0.7, 1.1, 1.5, 6, 0.7), (0.3, 0.85, 2, 4, 1.4), (0.6, 0.9, 0, 12, 1.0)),
    "fog": ((0.6, 0.75, 0, 0.5, 1.0), (0.2, 0.5, 3, 0, 0.6), (1.0, 0.85, 0, 1.5, 1.6), (0.4, 0.4, 0, 3, 1.0)),
    "night_city": (
        (1.0, 1.0, 0, 2, 1.0),
        (0.3, 1.0, 0, 1, 0.8),
        (0.6, 1.0, 0, 5, 1.6),
        (0.8, 1.0, 0, 3, 0.6),
    ),
    "screen": ((0.5, 1.0, 0, 0, 1.0), (0.9, 1.0, 0, 0, 0.6), (0.15, 0.9, 0, 0, 1.6), (0.4, 1.0, 1.5, 1, 1.2)),
    "gradient": (
        (0.8, 1.0, 0, 0.4, 1.5),
        (0.3, 0.9, 0, 0, 1.5),
        (0.3, 0.9, 0, 0, 1.0),
        (1.0, 1.0, 0, 1.5, 2.0),
    ),
    "water": (
        (1.0, 1.0, 0, 0.5, 1.0),
        (0.6, 1.0, 0, 0.5, 0.8),
        (0.3, 0.8, 0, 0, 1.2),
        (0.8, 1.1, 2.5, 2, 1.5),
    ),
    "foliage": (
        (1.0, 1.0, 0, 0.7, 1.0),
        (0.3, 0.9, 2, 0.5, 0.7),
        (0.6, 1.0, 0, 0, 1.6),
        (0.1, 0.8, 4, 2, 1.0),
    ),
}

SCENES: dict[str, Scene] = {
    f"{family}_{'abcd'[i]}": Scene(f"{family}_{'abcd'[i]}", family, zlib.crc32(f"{family}/{i}".encode()), i, *knobs)
    for family, contents in _KNOBS.items()
    for i, knobs in enumerate(contents)
}


# -------------------------------------------------------------------------------------------------- output


def _noise_pool(rng: Rng, w: int, h: int, grain: bool) -> F32:
    """Noise larger than the picture, unit deviation; film grain is monochrome and about two pixels wide."""
    pool = rng.standard_normal((h + h // 2, w + w // 2, 1 if grain else 3), dtype=np.float32)
    if grain:
        pool = (pool + np.roll(pool, 1, 0)) + np.roll(pool + np.roll(pool, 1, 0), 1, 1)
    else:
        pool += pool[..., 1:2]  # sensors' colour channels are denoised together
    return pool / np.float32(pool.std())


def render(
    name: str, *, width: int = 640, height: int = 360, num_frames: int = 48, fps: float = 24.0
) -> Iterator[NDArray[np.uint8]]:
    """Yield ``num_frames`` frames, each (height, width, 3) uint8 RGB, of a scene at ``fps`` per second.

    Pixels depend on the name, the size and the rate only. Raises ValueError, at the call, for an unknown name
    (naming the choices), a side under 64 pixels, or a count or rate that is not positive.
    """
    if name not in SCENES:
        raise ValueError(f"unknown scene {name!r}; choose from {', '.join(SCENES)}")
    if min(width, height) < 64 or num_frames < 1 or not fps > 0:
        raise ValueError(f"cannot render {width}x{height}, {num_frames} frames at {fps} frames per second")
    return _frames(SCENES[name], width, height, num_frames, fps)


def _frames(s: Scene, width: int, height: int, num_frames: int, fps: float) -> Iterator[NDArray[np.uint8]]:
    draw = FAMILIES[s.family](s, np.random.default_rng([s.seed, 0]), width, height)
    rng = np.random.default_rng([s.seed, 1])
    grain = s.family == "film"
    pool = _noise_pool(rng, width, height, grain) * np.float32(s.noise) if s.noise else None
    for i in range(num_frames):
        picture = draw(i / fps)
        if s.blur:
            if not isinstance(picture, Image.Image):
                picture = _image(picture / 255)
            picture = _soft(picture, s.blur * height / 1000)
        frame = (np.asarray(picture, dtype=np.float32) - 127.5) * np.float32(s.contrast) + 127.5
        if pool is not None:
            y, x = rng.integers(pool.shape[0] - height + 1), rng.integers(pool.shape[1] - width + 1)
            noise = pool[y : y + height, x : x + width]
            if grain:  # strongest in the mid tones
                noise = noise * (1.2 - np.abs(frame[..., 1:2] - 127.5) / 160)
            frame += noise
        yield np.clip(frame + np.float32(0.5), 0, 255).astype(np.uint8)


def write_master(name: str, path: Path, *, width: int, height: int, num_frames: int, fps: float) -> None:
    """Render a scene into ``path``: lossless FFV1, yuv420p, BT.709 limited range, Matroska; same bytes.

    The file appears complete or not at all. Raises ValueError as :func:`render` does, and RuntimeError with
    ffmpeg's last lines if encoding fails.
    """
    frames = render(name, width=width, height=height, num_frames=num_frames, fps=fps)
    partial = path.with_name(path.name + ".partial.mkv")
    rate = Fraction(fps).limit_denominator(1001)
    command = [
        str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()),  # the package has no type hints
        *[
            "-hide_banner",
            "-loglevel",
            "error",
            "-y",
            "-filter_threads",
            "1",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
        ],
        *f"-video_size {width}x{height} -framerate {rate} -i pipe:0 -vf".split(),
        "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p,"
        "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709",
        *[
            "-c:v",
            "ffv1",
            "-level",
            "3",
            "-coder",
            "1",
            "-context",
            "0",
            "-g",
            "1",
            "-slices",
            "4",
            "-slicecrc",
            "1",
            "-threads",
            "1",
        ],
        *["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"],
        *["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-f", "matroska"],
        str(partial),
    ]
    try:
        with tempfile.TemporaryFile() as log:  # a file, not a pipe: nobody reads while frames are written
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
            assert process.stdin is not None
            try:
                for frame in frames:
                    process.stdin.write(frame.tobytes())
                process.stdin.close()
            except BrokenPipeError:
                pass  # ffmpeg ended early; its exit status and its log say why
            except BaseException:
                process.kill()
                raise
            finally:
                process.wait()
            if process.returncode:
                log.seek(0)
                tail = log.read().decode(errors="replace").strip().splitlines()[-5:]
                raise RuntimeError(f"ffmpeg failed on {partial} (status {process.returncode}): " + "\n".join(tail))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def contact_sheet(
    names: Sequence[str],
    path: Path,
    *,
    width: int = 384,
    height: int = 216,
    num_frames: int = 48,
    fps: float = 24.0,
) -> None:
    """Write a PNG with one row a scene: its name over its first, middle and last frame."""
    label = 18
    sheet = Image.new("RGB", (3 * width, len(names) * (height + label)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        top = row * (height + label)
        pen.text((4, top), name, font=ImageFont.load_default(size=14), fill="black")
        wanted = (0, num_frames // 2, num_frames - 1)
        for i, frame in enumerate(render(name, width=width, height=height, num_frames=num_frames, fps=fps)):
            for column in (c for c in range(3) if wanted[c] == i):
                sheet.paste(Image.fromarray(frame), (column * width, top + label))
    sheet.save(path)
