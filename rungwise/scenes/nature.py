"""Scene families without buildings: dead leaves, landscape, fog, gradient, water and foliage.

A family function paints its canvases and sprites once and returns `draw(seconds) -> picture`.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from rungwise.scenes.paint import (
    F32,
    SKIES,
    TAU,
    Color,
    Rng,
    back_and_forth,
    camera_view,
    clouds,
    fractal,
    gaussian_blur,
    hsv,
    paste,
    pixel_grid,
    ramp,
    random_window,
    relief,
    rgb8,
    ridge,
    shaded_color,
    shape_sprite,
    smooth_path,
    smooth_step,
    to_image,
    tree_sprite,
    warp,
    wrap_around,
)
from rungwise.scenes.scene import Draw, Scene


def dead_leaves(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Occluding textured shapes with power-law sizes (dead leaves model), a slow camera, and moving shapes in front."""
    cw, ch = int(1.35 * w), int(1.3 * h)
    texture = fractal(rng, ch, cw, 2.1)
    base = to_image(shaded_color(hsv(rng.uniform(), 0.1, 0.5), 1 + 0.2 * texture))
    hue = (0.08, 0.58, 0.25, 0.02)[s.variant]

    def color() -> F32:
        far = rng.uniform() < 0.15
        return hsv(hue + rng.normal(0, 0.25 if far else 0.05), rng.beta(2, 5 - 2 * far), rng.uniform(0.12, 0.9))

    smallest = h * (0.06 - 0.05 * s.detail)
    for i in range(int(150 + 900 * s.detail)):
        radius = min(smallest / math.sqrt(max(rng.uniform(), 1e-3)), 0.3 * h)
        if i < 30:
            radius = 0.25 * h
        sprite = shape_sprite(
            rng,
            radius,
            str(rng.choice(["blob", "blob", "box"])),
            color(),
            texture,
            rng.uniform(0.02, 0.26) * (0.4 + 0.6 * s.detail),
        )
        paste(base, sprite, rng.uniform(0, cw), rng.uniform(0, ch))
    base = gaussian_blur(base, h * 0.002 * (1 - s.detail))
    movers = [
        (
            shape_sprite(rng, h * rng.uniform(0.07, 0.2), str(rng.choice(["blob", "box"])), color(), texture, 0.2),
            rng.uniform(0, w),
            rng.uniform(0.1, 0.9) * h,
            rng.normal(0, 0.25) * h * s.speed,
            rng.uniform(0, TAU),
            rng.normal(0, 0.5) * s.speed,
            smooth_path(rng, 0.25 * s.speed),
        )
        for _ in range(3 + 2 * s.variant)
    ]

    def draw(t: float) -> Image.Image:
        frame = camera_view(
            base, (w, h), w / 2 + back_and_forth(t, 0.1 * s.speed * h, cw - w), ch / 2 + 0.1 * h * path(t)
        )
        for sprite, x, y, vx, angle, spin, bob in movers:
            margin = sprite.width
            paste(frame, sprite, wrap_around(t, x, vx, -margin, w + margin), y + 0.12 * h * bob(t), angle + spin * t)
        return frame

    path = smooth_path(rng, 0.12 * s.speed)
    return draw


def _panorama(s: Scene, rng: Rng, w: int, h: int) -> tuple[Image.Image, Image.Image]:
    """A landscape as a far RGB layer (sky, mountains) and a near RGBA layer (field, trees, grass)."""
    sky = SKIES[s.variant]
    haze = np.array(sky[-1], np.float32)
    y, x = pixel_grid(h, w)
    horizon = rng.uniform(0.5, 0.6)
    far = np.broadcast_to(ramp(y / np.float32(horizon + 0.1), sky), (h, w, 3)).copy()
    cloud = clouds(rng, h, w, rng.uniform(-0.6, 0.3), rng.uniform(0.25, 0.6))[..., None]
    lit = 0.93 + 0.06 * fractal(rng, h, w, 2.4)[..., None]
    far += cloud * 0.85 * (lit * (0.6 * haze + 0.4) - far)
    for i, depth in enumerate((0.75, 0.5, 0.22)):
        top = horizon - (0.27 - 0.1 * i) * (0.55 + 0.45 * ridge(rng, w, 2.4 + 0.2 * i))
        alpha = np.clip((y - top[None, :]) * h + 0.5, 0, 1)[..., None]
        rock = relief(rng, h, w) * (0.15 + 0.2 * s.detail)
        color = shaded_color(hsv(rng.uniform(0.08, 0.4), rng.uniform(0.2, 0.45), rng.uniform(0.3, 0.5)), 0.9 + rock)
        far += alpha * (depth * haze + (1 - depth) * color - far)

    # Ground plane: texture coordinates grow with distance, and contrast fades into the haze.
    ground = horizon + 0.015 * ridge(rng, w, 3.0)[None, :]
    below = np.maximum(y - ground, 1e-3)
    distance = 0.25 / (below + 0.03)
    fine, coarse = fractal(rng, 1024, 1024, 1.2 + (1 - s.detail)), fractal(rng, 1024, 1024, 2.6)
    rows = (distance * 300).astype(np.intp) % 1024
    columns = ((x - x.mean()) * distance * 260).astype(np.intp) % 1024
    patches = smooth_step(coarse[rows, columns] * np.float32(0.8) + 0.5)[..., None]
    hues = rng.uniform(0.1, 0.32, 2)
    field = patches * hsv(hues[0], 0.5, 0.55) + (1 - patches) * hsv(hues[1], 0.45, 0.38)
    field *= 1 + 0.25 * s.detail * (fine[rows, columns] * np.minimum(2.2 / distance, 1))[..., None]
    field += np.clip(distance / 9 - 0.1, 0, 0.7)[..., None] * (haze - field)
    near = to_image(field, np.clip((y - ground) * h + 0.5, 0, 1))

    leaf_texture = fractal(rng, 512, 512, 1.9)
    for depth in np.sort(rng.uniform(0, 1, int(8 + 26 * s.detail))):
        tree_height = h * (0.05 + 0.36 * depth**2.5)
        tree = tree_sprite(rng, tree_height, rng.uniform(0.16, 0.33), leaf_texture)
        foot = h * (horizon + 0.02 + 0.3 * depth**2)
        near.alpha_composite(tree, (int(rng.uniform(0, w - tree.width)), max(int(foot - tree.height), 0)))
    pen = ImageDraw.Draw(near)
    for foot in np.sort(rng.uniform(horizon + 0.12, 1.08, int(5000 * s.detail**2 * w / h / 2))) * h:
        size, left = (foot / h - horizon) * 0.09 * h, rng.uniform(0, w)
        blade = rgb8(hsv(hues[0] + rng.normal(0, 0.02), 0.5, rng.uniform(0.25, 0.65)))
        pen.line((left, foot, left + rng.normal(0, 0.35) * size, foot - size), fill=(*blade, 170))
    return to_image(far), near


def landscape(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Mountains, fields and trees: pan with parallax, zoom, hand-held camera or tilt (variants 0 to 3)."""
    cw, ch = int((2.0, 1.4, 1.3, 1.2)[s.variant] * w), int((1.1, 1.4, 1.25, 1.5)[s.variant] * h)
    far, near = _panorama(s, rng, cw, ch)
    flat = Image.new("RGB", far.size)
    flat.paste(far)
    flat.paste(near, (0, 0), near)
    shake_x, shake_y = smooth_path(rng, 1.3 * s.speed), smooth_path(rng, 1.7 * s.speed)

    def draw(t: float) -> Image.Image:
        if s.variant == 0:  # parallax: the far layer moves less than the near one
            at = back_and_forth(t, 0.22 * h * s.speed, cw - w)
            frame = camera_view(far, (w, h), w / 2 + 0.45 * at, ch / 2)
            layer = camera_view(near, (w, h), w / 2 + at, ch / 2)
            frame.paste(layer, (0, 0), layer)
            return frame
        if s.variant == 1:
            return camera_view(flat, (w, h), cw / 2, 0.55 * ch, 0.75 + back_and_forth(t, 0.12 * s.speed, 0.8))
        if s.variant == 2:
            return camera_view(flat, (w, h), cw / 2 + 0.04 * h * shake_x(t), ch / 2 + 0.035 * h * shake_y(t), 1.05)
        return camera_view(
            flat, (w, h), cw / 2 + 0.02 * h * shake_x(t / 4), h / 2 + back_and_forth(t, 0.12 * h * s.speed, ch - h)
        )

    return draw


def fog(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Low-contrast ridges with trees in drifting fog, with parallax."""
    cw = int(1.7 * w)
    tone = hsv(rng.choice([0.58, 0.1, 0.6, 0.3]), 0.06, rng.uniform(0.72, 0.85))
    y, _ = pixel_grid(h, cw)
    sky = shaded_color(tone, 1.06 - 0.12 * y + 0.015 * fractal(rng, h, cw, 3.0))
    leaf_texture = fractal(rng, 256, 256, 1.9)
    layers = []
    for i, depth in enumerate((0.86, 0.68, 0.45)):
        top = (0.42 + 0.17 * i - 0.08 * ridge(rng, cw, 2.8))[None, :]
        dark = hsv(rng.uniform(0.2, 0.6), 0.25, 0.28)
        rough = 0.9 + 0.22 * s.detail * fractal(rng, h, cw, 1.5)
        layer = to_image(shaded_color(dark, rough), np.clip((y - top) * h + 0.5, 0, 1))
        for _ in range(int(10 + 40 * s.detail) // (i + 1)):
            tree = tree_sprite(rng, h * rng.uniform(0.1, 0.16) * (1 + 1.2 * i), 0.3, leaf_texture)
            left = int(rng.uniform(0, cw - tree.width))
            foot = top[0, left + tree.width // 2] * h + 0.03 * h
            layer.alpha_composite(tree, (left, max(int(foot - tree.height), 0)))
        rgba = np.asarray(layer, dtype=np.float32) / 255
        veil = np.clip(depth + 0.25 * (y - top), 0, 0.95)[..., None]  # fog is denser toward the bottom of each valley
        rgba[..., :3] = rgba[..., :3] * (1 - veil) + tone * veil
        layers.append(gaussian_blur(to_image(rgba[..., :3], rgba[..., 3]), h * 0.0015 * (2 - i) * (1.3 - s.detail)))
    back = to_image(sky)
    back.paste(layers[0], (0, 0), layers[0])
    drift = gaussian_blur(
        to_image(np.broadcast_to(tone, (h, cw, 3)), 0.55 * smooth_step(0.5 + 0.4 * fractal(rng, h, cw, 3.0))), 1
    )

    def draw(t: float) -> Image.Image:
        at = back_and_forth(t, 0.12 * h * s.speed, cw - w)
        frame = camera_view(back, (w, h), w / 2 + 0.3 * at, h / 2)
        for layer, rate in ((layers[1], 0.55), (drift, None), (layers[2], 1.0)):
            x = w / 2 + (rate * at if rate else back_and_forth(t, 0.25 * h * s.speed, cw - w))
            tile = camera_view(layer, (w, h), x, h / 2)
            frame.paste(tile, (0, 0), tile)
        return frame

    return draw


def gradient(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Smooth gradients: sunsets (variants 0 and 2), and studio backdrops with a moving ball (1 and 3)."""
    y, x = pixel_grid(h, w)
    path_x, path_y = smooth_path(rng, 0.2 * s.speed), smooth_path(rng, 0.3 * s.speed)
    aspect = w / h
    if s.variant % 2 == 0:
        sky: tuple[Color, ...] = (
            ((0.10, 0.12, 0.30), (0.45, 0.28, 0.45), (0.92, 0.52, 0.35), (0.99, 0.80, 0.50)),
            ((0.04, 0.07, 0.17), (0.08, 0.16, 0.30), (0.20, 0.33, 0.44), (0.50, 0.52, 0.47)),
        )[s.variant // 2]
        wisps = to_image(
            np.broadcast_to(np.array(sky[-1], np.float32), (h, 2 * w, 3)),
            0.5 * s.detail * clouds(rng, h, 2 * w, -0.5, 0.4) * (1.2 - y),
        )
        base = np.broadcast_to(ramp(y * 1.15, sky) * 255, (h, w, 3)).astype(np.float32)
        top = 0.86 - 0.05 * ridge(rng, w, 2.8)[None, :]
        land = np.clip((y - top) * h + 0.5, 0, 1)[..., None]
        glow_color = np.array([1.0, 0.75, 0.45], np.float32) * (90 if s.variant == 0 else 45)

        def draw(t: float) -> F32:
            sun_x = aspect * (0.5 + 0.2 * path_x(t))
            sun_y = 0.7 - 0.1 * math.cos(0.3 * t * s.speed)
            d = np.hypot(x - np.float32(sun_x), y - np.float32(sun_y))
            glow = np.exp(-d * 4) + 1.2 * np.clip((0.05 - d) * h + 0.5, 0, 1)
            layer = np.asarray(
                camera_view(wisps, (w, h), w / 2 + back_and_forth(t, 0.05 * h * s.speed, w), h / 2), np.float32
            )
            frame = base + glow[..., None] * glow_color
            frame += layer[..., 3:] * np.float32(1 / 255) * (layer[..., :3] - frame)
            frame += land * (frame * np.float32(0.08) + 6 - frame)
            return np.asarray(frame, dtype=np.float32)

        return draw

    wall, ball = hsv(rng.uniform(), 0.35, 0.7) * 255, hsv(rng.uniform(), 0.55, 0.85) * 255
    grain = random_window(rng, fractal(rng, 512, 512, 1.2), h, w) * np.float32(s.detail)
    radius = 0.17 if s.variant == 1 else 0.23
    spin = smooth_path(rng, 0.2)

    def studio(t: float) -> F32:
        bx, by = aspect * (0.5 + 0.33 * path_x(t)), 0.52 + 0.08 * path_y(t)
        lamp = aspect * (0.4 + 0.1 * spin(t))
        tone = 1.1 - 0.75 * np.hypot((x - np.float32(lamp)) / np.float32(aspect), (y - 0.3) * np.float32(0.7))
        tone = tone - 0.12 * smooth_step((y - 0.70) * 6)
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


def water(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Open water: slopes of a sum of traveling waves reflect the sky, with a shore at the horizon."""
    horizon = (0.36, 0.30, -0.1, 0.42)[s.variant]  # scene c looks down and has no horizon
    sky = SKIES[(0, 1, 2, 1)[s.variant]]
    y, x = pixel_grid(h, w)
    first = max(int(horizon * h), 0)
    backdrop = np.broadcast_to(ramp(y / np.float32(max(horizon, 0.1) + 0.02), sky), (h, w, 3)).copy()
    cloud = clouds(rng, h, w, -0.2, 0.4)[..., None]
    backdrop += 0.6 * cloud * (np.array(sky[-1], np.float32) * 0.7 + 0.3 - backdrop)
    shore = horizon - 0.05 * (0.6 + 0.4 * ridge(rng, w, 2.2))[None, :]
    land = np.clip((y - shore) * h + 0.5, 0, 1)[..., None]
    rock = 0.5 * np.array(sky[-1], np.float32) + 0.5 * shaded_color(hsv(0.25, 0.3, 0.25), 1 + 0.3 * relief(rng, h, w))
    backdrop += land * (rock - backdrop)

    depth = (np.float32(0.35) / (y[first:] - np.float32(horizon - 0.03))).astype(np.float32)
    across = (x - x.mean()) * depth
    rows = h - first
    basis, weights, rates = [], [], []
    wind = rng.uniform(0, TAU)
    count = int(14 + 10 * s.detail)
    for k in 3.0 * (14 + 46 * s.detail) ** np.linspace(0, 1, count):
        angle = wind + rng.normal(0, 0.75)
        kx, ky = k * math.cos(angle), k * math.sin(angle)
        phase = np.float32(kx) * across + np.float32(ky) * depth + np.float32(rng.uniform(0, TAU))
        # Fade out waves that are shorter than the footprint of a pixel on the water, to avoid aliasing.
        foot = np.float32(k / h) * np.hypot(depth, depth**2 * np.float32(abs(math.sin(angle)) / 0.35))
        amplitude = np.exp(-0.7 * foot * foot) * np.float32(0.16 / k**0.3)
        for wave in (np.cos(phase), np.sin(phase)):
            basis.append((wave * amplitude).astype(np.float32))
        weights.append((math.cos(angle), math.sin(angle)))
        rates.append(1.1 * math.sqrt(k) * s.speed * 1.2)
    table = ramp(np.linspace(1, 0, 512, dtype=np.float32), sky) * 255
    deep = hsv(rng.uniform(0.48, 0.58), 0.6, 0.22) * 255
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


def foliage(s: Scene, rng: Rng, w: int, h: int) -> Draw:
    """Leaves in the wind: defocused background, a middle layer that warps as a whole, and swinging leaves in front."""
    cw, ch = int(1.12 * w), int(1.12 * h)
    texture = fractal(rng, 512, 512, 1.8)
    hue = (0.28, 0.22, 0.10, 0.31)[s.variant]
    size = h * (0.11 - 0.07 * s.detail)

    def leaf(radius: float, bright: float) -> Image.Image:
        color = hsv(hue + rng.normal(0, 0.025), rng.uniform(0.4, 0.75), bright * rng.uniform(0.6, 1.2))
        return shape_sprite(rng, radius, "leaf", color, texture, 0.10)

    def canopy(image: Image.Image, count: int, radius: float, bright: float) -> Image.Image:
        leaves = [leaf(radius * rng.uniform(0.7, 1.4), bright) for _ in range(24)]
        for i in range(count):
            paste(image, leaves[i % 24], rng.uniform(0, cw), rng.uniform(0, ch), rng.normal(1.2, 0.9))
        return image

    ground = to_image(shaded_color(hsv(hue, 0.5, 0.2), np.maximum(1 + 0.5 * fractal(rng, ch, cw, 2.6), 0.1)))
    back = gaussian_blur(canopy(ground, 300, size, 0.42), (0.012, 0.02, 0.008, 0.03)[s.variant] * h)
    middle = canopy(Image.new("RGBA", (cw, ch)), int(0.7 * cw * ch / size**2), size, 0.5)
    front = []
    for _ in range(int(16 + 44 * s.detail)):
        sprite = leaf(1.25 * size * rng.uniform(0.8, 1.3), 0.68)
        front.append(
            (sprite, rng.uniform(0, w), rng.uniform(0, h), rng.normal(1.3, 0.7), smooth_path(rng, 0.7 * s.speed))
        )
    gust, gust_2 = smooth_path(rng, 0.35 * s.speed), smooth_path(rng, 0.5 * s.speed)
    off_x, off_y = (cw - w) / 2, (ch - h) / 2

    def draw(t: float) -> Image.Image:
        frame = camera_view(back, (w, h), cw / 2 + 0.01 * h * gust_2(t), ch / 2)

        def shift(x: float, y: float) -> tuple[float, float]:
            a = math.sin(3.1 * s.speed * t + 5 * x / h + 3 * y / h)
            b = math.sin(2.3 * s.speed * t - 4 * y / h + 2 * x / h)
            return off_x + 0.025 * h * gust(t) + 0.012 * h * a, off_y + 0.01 * h * b

        tile = warp(middle, shift, 12)
        frame.paste(tile, (0, 0), tile)
        for sprite, x, y, angle, swing in front:
            turn = angle + 0.3 * swing(t) + 0.12 * gust(t)
            reach = 0.4 * sprite.width  # the leaf rotates about its stem
            paste(frame, sprite, x + reach * math.cos(turn) + 0.02 * h * gust(t), y + reach * math.sin(turn), turn)
        return frame

    return draw
