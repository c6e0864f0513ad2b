"""Drawing tools of the procedural scenes: textures, colors, sprites, camera views and motion paths.

Arrays are float32, colors and opacities are in 0..1, and lengths are in pixels unless stated otherwise. `h` and `w` are
the height and width of an image.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

F32 = NDArray[np.float32]
Real = NDArray[np.floating]
Rng = np.random.Generator
Color = tuple[float, float, float]
At = Callable[..., list[float]]  # lengths in units of a sprite -> drawing coordinates
BICUBIC = Image.Resampling.BICUBIC
TAU = 2 * math.pi
SKIES: tuple[tuple[Color, ...], ...] = (  # zenith to horizon
    ((0.20, 0.40, 0.72), (0.45, 0.64, 0.86), (0.80, 0.87, 0.92)),
    ((0.24, 0.27, 0.46), (0.66, 0.46, 0.50), (0.97, 0.72, 0.45)),
    ((0.50, 0.55, 0.62), (0.66, 0.70, 0.74), (0.80, 0.81, 0.82)),
    ((0.12, 0.30, 0.60), (0.38, 0.62, 0.84), (0.90, 0.90, 0.84)),
)


def fractal(rng: Rng, h: int, w: int, beta: float = 2.0) -> F32:
    """Periodic (h, w) noise with a power spectrum of 1/f**beta, zero mean and unit standard deviation."""
    fy, fx = np.fft.fftfreq(h)[:, None] * h, np.fft.rfftfreq(w)[None, :] * h
    f = np.maximum(np.hypot(fy, fx), 0.5)
    spectrum = np.fft.rfft2(rng.standard_normal((h, w), dtype=np.float32)) * f ** (-beta / 2)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(h, w))
    return np.asarray(noise / (noise.std() + 1e-9), dtype=np.float32)


def relief(rng: Rng, h: int, w: int) -> F32:
    """(h, w) side-lit rough surface: the slope of a fractal height field, with unit standard deviation."""
    height = fractal(rng, h, w, 3.4)
    slope = height - np.roll(height, (1, 1), (0, 1))
    return np.asarray(slope / np.float32(slope.std() + 1e-9), dtype=np.float32)


def ridge(rng: Rng, n: int, beta: float = 2.6) -> F32:
    """A 1-D fractal profile of n samples, scaled to -1..1."""
    f = np.maximum(np.arange(n + 1), 2.0)
    phases = np.exp(1j * rng.uniform(0, TAU, n + 1))
    line = np.fft.irfft(phases * f ** (-beta / 2) * (np.arange(n + 1) > 1))[:n]
    line -= (line.max() + line.min()) / 2
    return np.asarray(line / np.abs(line).max(), dtype=np.float32)


def clouds(rng: Rng, h: int, w: int, cover: float, hardness: float) -> F32:
    """(h, w) cloud opacity in 0..1, flattened toward the bottom, like clouds near the horizon."""
    y = np.linspace(0, 1, h)
    rows = (h * (0.7 * y + 1.3 * y * y)).astype(np.intp) % h
    return smooth_step((fractal(rng, h, w, 3.0)[rows] + np.float32(cover)) * np.float32(hardness))


def random_window(rng: Rng, texture: F32, h: int, w: int) -> F32:
    """A random (h, w) window of a periodic texture."""
    rows = (rng.integers(texture.shape[0]) + np.arange(h)) % texture.shape[0]
    columns = (rng.integers(texture.shape[1]) + np.arange(w)) % texture.shape[1]
    return np.asarray(texture[rows[:, None], columns[None, :]])


def pixel_grid(h: int, w: int) -> tuple[F32, F32]:
    """Coordinates of pixel centers in units of h: y (h, 1) and x (1, w)."""
    y = (np.arange(h, dtype=np.float32) + np.float32(0.5)) / np.float32(h)
    x = (np.arange(w, dtype=np.float32) + np.float32(0.5)) / np.float32(h)
    return y[:, None], x[None, :]


def smooth_step(x: Real) -> F32:
    """Smooth step from 0 to 1 for x in 0..1."""
    x = np.clip(x, 0, 1).astype(np.float32)
    return np.asarray(x * x * (3 - 2 * x), dtype=np.float32)


def to_image(rgb: Real, alpha: Real | None = None) -> Image.Image:
    """RGB (or RGBA) image from colors (h, w, 3) and opacity (h, w), both in 0..1."""
    if alpha is not None:
        rgb = np.dstack([rgb, np.broadcast_to(alpha, rgb.shape[:2])])
    return Image.fromarray(np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8))


def hsv(h: float, s: float, v: float) -> F32:
    """RGB color (3,) of a hue (periodic in 1), saturation and value."""
    return np.array(colorsys.hsv_to_rgb(h % 1, min(max(s, 0), 1), min(max(v, 0), 1)), dtype=np.float32)


def ramp(at: F32, stops: Sequence[Color]) -> F32:
    """Colors (..., 3) interpolated between evenly spaced stops at positions `at` in 0..1."""
    grid = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(at, grid, c) for c in zip(*stops, strict=True)], axis=-1).astype(np.float32)


def shaded_color(color: F32, shade: F32) -> F32:
    """Color (3,) times shade (h, w), with slightly warm highlights and cool shadows."""
    tint = np.array([0.03, 0.01, -0.03], np.float32)
    return np.asarray(color * shade[..., None] + (shade[..., None] - 1) * tint, dtype=np.float32)


def rgb8(color: F32 | Color) -> tuple[int, int, int]:
    """Color as 8-bit levels."""
    r, g, b = (round(255 * min(max(float(c), 0), 1)) for c in color)
    return r, g, b


def gaussian_blur(image: Image.Image, sigma: float) -> Image.Image:
    """Blurred image; unchanged below a visible sigma."""
    return image.filter(ImageFilter.GaussianBlur(sigma)) if sigma > 0.05 else image


def camera_view(image: Image.Image, size: tuple[int, int], x: float, y: float, zoom: float = 1.0) -> Image.Image:
    """A view of `size` centered at canvas position (x, y), with sub-pixel precision and clamped to the canvas."""
    zoom = max(zoom, size[0] / image.width, size[1] / image.height)
    w, h = size[0] / zoom, size[1] / zoom
    left, top = min(max(x - w / 2, 0), image.width - w), min(max(y - h / 2, 0), image.height - h)
    return image.resize(size, BICUBIC, box=(left, top, min(left + w, image.width), min(top + h, image.height)))


def paste(frame: Image.Image, sprite: Image.Image, x: float, y: float, angle: float = 0.0) -> None:
    """Paste an RGBA sprite centered at (x, y), with sub-pixel precision, rotated by `angle` radians."""
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


def warp(image: Image.Image, shift: Callable[[float, float], tuple[float, float]], cells: int) -> Image.Image:
    """The image warped by a mesh of `cells` x `cells`; `shift(x, y)` is the displacement of a mesh corner."""
    xs = [round(image.width * i / cells) for i in range(cells + 1)]
    ys = [round(image.height * i / cells) for i in range(cells + 1)]
    at = [[tuple(np.add((x, y), shift(x, y)).tolist()) for x in xs] for y in ys]
    mesh = [
        ((xs[i], ys[j], xs[i + 1], ys[j + 1]), (*at[j][i], *at[j + 1][i], *at[j + 1][i + 1], *at[j][i + 1]))
        for j in range(cells)
        for i in range(cells)
    ]
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def draw_sprite(w: float, h: float, unit: float, paint: Callable[[ImageDraw.ImageDraw, At], None]) -> Image.Image:
    """RGBA sprite; `paint(pen, at)` draws at 4x size for anti-aliasing, and `at` scales lengths by `unit`."""
    big = Image.new("RGBA", (4 * math.ceil(w) + 8, 4 * math.ceil(h) + 8))
    paint(ImageDraw.Draw(big), lambda *v: [4 + 4 * unit * a for a in v])
    return big.reduce(4)


def add_texture(sprite: Image.Image, rng: Rng, texture: F32, strength: float) -> Image.Image:
    """The sprite with its brightness modulated by a random window of the texture."""
    rgba = np.asarray(sprite, dtype=np.float32) / 255
    tone = 1 + strength * random_window(rng, texture, sprite.height, sprite.width)
    return to_image(rgba[..., :3] * tone[..., None], rgba[..., 3])


def shape_sprite(
    rng: Rng, radius: float, kind: str, color: F32, texture: F32, strength: float, edge: float = 1.0
) -> Image.Image:
    """Textured and shaded RGBA "blob", "box" or "leaf"; `edge` is the width of its soft outline in pixels."""
    n = math.ceil(2.5 * radius) + 4
    v, u = (np.mgrid[:n, :n].astype(np.float32) - np.float32((n - 1) / 2)) / np.float32(radius)
    if kind == "leaf":
        inside = 0.42 * (1 - u * u) * (1.15 + 0.5 * u) - np.abs(v + 0.12 * u * u)
        veins = np.exp(-((v + 0.12 * u * u) ** 2) * 900) - 0.25 * np.cos(26 * (u - np.abs(v)))
        shade = 1 + 0.18 * veins + 0.16 * np.sign(v + 0.12 * u * u)
    elif kind == "box":
        a = rng.uniform(0, TAU)
        p, q = np.abs(u * math.cos(a) + v * math.sin(a)), np.abs(v * math.cos(a) - u * math.sin(a))
        inside = 0.08 - np.hypot(np.maximum(p - 0.75, 0), np.maximum(q - rng.uniform(0.25, 0.75), 0))
        shade = 1 + 0.25 * u
    else:
        angle = np.arctan2(v, u)
        outline = 0.85 + sum(rng.normal(0, 0.13 / k) * np.cos(k * angle + rng.uniform(0, TAU)) for k in range(2, 6))
        inside = outline - np.hypot(u, v)
        shade = 1.08 - 0.3 * (u + v) * rng.uniform(0.2, 1) - 0.25 * np.exp(-6 * np.maximum(inside, 0))
    alpha = np.clip(inside * radius / edge + 0.5, 0, 1)
    tone = shade * (1 + strength * random_window(rng, texture, n, n))
    return to_image(shaded_color(color, tone.astype(np.float32)), alpha)


def _crown(rng: Rng, h: int, w: int, color: F32, edge: float, texture: F32) -> Image.Image:
    """RGBA tree crown: an ellipse with a ragged outline, lit from above."""
    y, x = (np.linspace(-1.15, 1.15, h, dtype=np.float32)[:, None], np.linspace(-1.15, 1.15, w)[None, :])
    rough = random_window(rng, texture, h, w)
    inside = 1 - (x * x + y * y) + 0.3 * rough * np.clip(2.2 * (1.32 - x * x - y * y), 0, 1)
    alpha = np.clip((inside - 0.25) / edge + 0.5, 0, 1) * smooth_step((1.3 - (x * x + y * y)) * 6)
    shade = 0.85 - 0.25 * y - 0.12 * x + 0.28 * random_window(rng, texture, h, w)
    return to_image(shaded_color(color, np.maximum(shade, 0.1).astype(np.float32)), alpha)


def tree_sprite(rng: Rng, height: float, hue: float, texture: F32) -> Image.Image:
    """RGBA tree: a trunk and a few overlapping crowns."""
    w, h = math.ceil(0.8 * height) + 2, math.ceil(height) + 2
    tree = Image.new("RGBA", (w, h))
    trunk = rgb8(hsv(0.08, 0.4, 0.22))
    outline = [(0.48 * w, 0.4 * h), (0.52 * w, 0.4 * h), (0.55 * w, h), (0.45 * w, h)]
    ImageDraw.Draw(tree).polygon(outline, fill=(*trunk, 255))
    for i in range(6):
        color = hsv(hue + rng.normal(0, 0.015), rng.uniform(0.35, 0.6), rng.uniform(0.25, 0.4) + 0.03 * i)
        cw, ch = int(w * rng.uniform(0.4, 0.66)) + 3, int(h * rng.uniform(0.28, 0.42)) + 3
        crown = _crown(rng, ch, cw, color, 0.25, texture)
        low = (0.4 - 0.07 * i) * h * rng.uniform(0.7, 1)  # from the lower branches to the lit top
        tree.alpha_composite(crown, (int(rng.uniform(0.1, 0.9) * max(w - cw, 0)), int(max(low, 0))))
    return tree


def smooth_path(rng: Rng, hz: float) -> Callable[[float], float]:
    """A smooth random function of time in about -1..1, around frequency `hz`."""
    parts = [(hz * rng.uniform(0.6, 1.6), rng.uniform(0, TAU), a) for a in (0.55, 0.3, 0.15)]
    return lambda t: sum(a * math.sin(TAU * f * t + p) for f, p, a in parts)


def back_and_forth(t: float, speed: float, span: float) -> float:
    """Position in 0..span of an object that moves back and forth, with smooth turns at both ends."""
    return span / 2 * (1 - math.cos(2 * speed * t / max(span, 1e-6) + 0.6))


def wrap_around(t: float, start: float, speed: float, low: float, high: float) -> float:
    """Position in low..high of an object with constant speed that re-enters at the other end."""
    return low + (start + speed * t - low) % (high - low)
