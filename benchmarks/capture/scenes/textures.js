// Textures that are drawn, and pseudo-random numbers.
import * as THREE from "three";

export function randoms(seed) {
  let state = seed * 7919 + 1;
  return () => ((state = (state * 48271) % 2147483647) - 1) / 2147483646;
}

// Value noise of several octaves, 0 to 1, that repeats every `size` pixels.
export function noise(size, octaves, seed) {
  const random = randoms(seed), sum = new Float32Array(size * size);
  let weights = 0;
  for (let octave = 0, cells = 4, weight = 1; octave < octaves && cells <= size; octave++, cells *= 2, weight *= 0.55) {
    const grid = Float32Array.from({ length: cells * cells }, random), step = cells / size;
    for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
      const u = x * step, v = y * step, i = Math.floor(u), j = Math.floor(v);
      const a = (u - i) ** 2 * (3 - 2 * (u - i)), b = (v - j) ** 2 * (3 - 2 * (v - j));
      const k = (i + 1) % cells, l = (j + 1) % cells;
      const top = grid[j * cells + i] * (1 - a) + grid[j * cells + k] * a;
      const bottom = grid[l * cells + i] * (1 - a) + grid[l * cells + k] * a;
      sum[y * size + x] += weight * (top * (1 - b) + bottom * b);
    }
    weights += weight;
  }
  return sum.map(value => value / weights);
}

// A texture of noise between colors, each [position, red, green, blue].
export function noiseTexture(size, octaves, seed, colors, repeat = 1) {
  const values = noise(size, octaves, seed), pixels = new Uint8Array(4 * size * size);
  values.forEach((value, i) => {
    const contrast = Math.min(0.999, Math.max(0, (value - 0.5) * 2.2 + 0.5));
    const next = Math.max(1, colors.findIndex(color => color[0] > contrast));
    const [low, ...from] = colors[next - 1], [high, ...to] = colors[next], part = (contrast - low) / (high - low);
    from.forEach((channel, c) => (pixels[4 * i + c] = channel + part * (to[c] - channel)));
    pixels[4 * i + 3] = 255;
  });
  const texture = new THREE.DataTexture(pixels, size, size);
  return finish(texture, repeat);
}

// A texture that `draw(context, size, random)` draws on a canvas.
export function drawnTexture(size, seed, draw, repeat = 1) {
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  draw(canvas.getContext("2d"), size, randoms(seed));
  return finish(new THREE.CanvasTexture(canvas), repeat);
}

function finish(texture, repeat) {
  texture.wrapS = texture.wrapT = THREE.RepeatWrapping;
  texture.repeat.set(repeat, repeat);
  texture.colorSpace = THREE.SRGBColorSpace;
  texture.magFilter = THREE.LinearFilter;
  texture.minFilter = THREE.LinearMipmapLinearFilter;
  texture.generateMipmaps = true;
  texture.anisotropy = 4;
  texture.needsUpdate = true;
  return texture;
}

export const bricks = seed => drawnTexture(512, seed, (context, size, random) => {
  context.fillStyle = "#8a8378";
  context.fillRect(0, 0, size, size);
  for (let row = 0; row < 16; row++) for (let column = -1; column < 9; column++) {
    const light = 60 + 60 * random();
    context.fillStyle = `rgb(${light + 60}, ${light * 0.7 + 10}, ${light * 0.5})`;
    context.fillRect(column * 64 + (row % 2) * 32 + 2, row * 32 + 2, 60, 28);
  }
  for (let spot = 0; spot < 30000; spot++) {
    context.fillStyle = `rgba(${random() > 0.5 ? "255,240,220" : "20,10,0"}, ${0.12 * random()})`;
    context.fillRect(size * random(), size * random(), 2, 2);
  }
});

export const planks = seed => drawnTexture(512, seed, (context, size, random) => {
  for (let plank = 0; plank < 8; plank++) {
    const hue = 22 + 12 * random(), light = 28 + 14 * random();
    context.fillStyle = `hsl(${hue}, 45%, ${light}%)`;
    context.fillRect(plank * 64, 0, 64, size);
    for (let line = 0; line < 60; line++) {
      context.strokeStyle = `hsla(${hue}, 50%, ${light - 14 + 20 * random()}%, 0.4)`;
      const x = plank * 64 + 64 * random();
      context.beginPath();
      context.moveTo(x, 0);
      context.bezierCurveTo(x + 8 * random() - 4, size / 3, x + 8 * random() - 4, size * 0.66, x, size);
      context.stroke();
    }
    context.fillStyle = "rgba(10, 5, 0, 0.8)";
    context.fillRect(plank * 64, 0, 2, size);
  }
});
