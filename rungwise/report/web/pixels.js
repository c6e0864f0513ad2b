// Pixels of a decoded frame: RGB as swscale makes it (docs/onnx.md, step 4), scaled as Pillow scales (step 7).

const FORMATS = { I420: [2, 2], I422: [2, 1], I444: [1, 1], NV12: [2, 2] };  // chroma subsampling across and down
const PACKED = { RGBA: [0, 1, 2], RGBX: [0, 1, 2], BGRA: [2, 1, 0], BGRX: [2, 1, 0] };
const MATRICES = {  // red and blue weights of luma
  bt709: [0.2126, 0.0722], bt470bg: [0.299, 0.114], smpte170m: [0.299, 0.114], "bt2020-ncl": [0.2627, 0.0593],
};

/** The samples of a WebCodecs VideoFrame, as decoded. */
export class Picture {
  /** Copy a frame's samples. `rotation` is what makes it upright, clockwise. */
  static async of(frame, color, rotation) {
    const bytes = new Uint8Array(frame.allocationSize());
    const layout = await frame.copyTo(bytes);
    return new Picture(frame, bytes, layout, color, rotation);
  }

  constructor(frame, bytes, layout, color, rotation) {
    const { width, height } = frame.visibleRect;
    const [, base, bits] = /^([A-Z0-9]+?)A?(?:P(10|12))?$/.exec(frame.format) ?? [];
    Object.assign(this, { codedWidth: width, codedHeight: height, color, rotation, bits: Number(bits ?? 8) });
    this.packed = PACKED[frame.format];
    if (!this.packed && !FORMATS[base]) throw new Error(`its frames have the unknown format ${frame.format}`);
    const [across, down] = this.packed ? [1, 1] : FORMATS[base];
    const chromaWidth = Math.ceil(width / across), chromaHeight = Math.ceil(height / down);
    const samples = this.bits > 8 ? new Uint16Array(bytes.buffer) : bytes, size = this.bits > 8 ? 2 : 1;
    const plane = (index, planeWidth, planeHeight, first = 0, step = 1) => ({
      samples, step, start: layout[index].offset / size + first, stride: layout[index].stride / size,
      width: planeWidth, height: planeHeight,
    });
    if (this.packed) this.planes = this.packed.map(first => plane(0, width, height, first, 4));
    else if (base === "NV12") {
      this.planes = [plane(0, width, height), ...[0, 1].map(i => plane(1, chromaWidth, chromaHeight, i, 2))];
    } else {
      this.planes = [plane(0, width, height), ...[1, 2].map(i => plane(i, chromaWidth, chromaHeight))];
    }
    const turned = rotation % 180 !== 0;
    [this.width, this.height] = turned ? [height, width] : [width, height];
  }

  /** Whether the frame is a single color: each plane's samples are within one 8-bit code value. */
  isFlat() {
    const limit = 2 ** (this.bits - 8);
    const within = (plane, stride) => {
      let low = Infinity, high = -Infinity;
      for (let y = 0; y < plane.height; y += stride) for (let x = 0; x < plane.width; x += stride) {
        const value = plane.samples[plane.start + y * plane.stride + x * plane.step];
        if (value < low) low = value;
        if (value > high) high = value;
      }
      return high - low <= limit;
    };
    return this.planes.every(plane => within(plane, 16)) && this.planes.every(plane => within(plane, 1));
  }

  /** RGB of a rectangle of the upright frame, row by row. */
  rgb(left, top, width, height) {
    const turns = this.rotation / 90;
    if (turns === 0) return this.#codedRgb(left, top, width, height);
    const [x, y] = [
      null, [top, this.codedHeight - left - width],
      [this.codedWidth - left - width, this.codedHeight - top - height], [this.codedWidth - top - height, left],
    ][turns];
    const [codedWidth, codedHeight] = turns === 2 ? [width, height] : [height, width];
    const coded = this.#codedRgb(x, y, codedWidth, codedHeight), upright = new Uint8Array(coded.length);
    for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
      const [j, i] = [
        null, [codedHeight - 1 - column, row], [height - 1 - row, width - 1 - column], [column, codedWidth - 1 - row],
      ][turns];
      for (let c = 0; c < 3; c++) upright[(row * width + column) * 3 + c] = coded[(j * codedWidth + i) * 3 + c];
    }
    return upright;
  }

  #codedRgb(left, top, width, height) {
    const channels = this.planes.map(plane => resampled(plane, this, left, top, width, height));
    const pixels = new Uint8ClampedArray(width * height * 3);
    if (this.packed) {
      for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) pixels[3 * i + c] = channels[c][i];
      return pixels;
    }
    const [kr, kb] = MATRICES[this.color.matrix] ?? MATRICES.bt709, scale = 2 ** (this.bits - 8);
    const { fullRange } = this.color, full = 2 ** this.bits - 1;
    const [black, gain] = fullRange ? [0, 255 / full] : [16 * scale, 255 / (219 * scale)];
    const chroma = fullRange ? 255 / full : 255 / (224 * scale);
    const red = 2 * (1 - kr) * chroma, blue = 2 * (1 - kb) * chroma, kg = 1 - kr - kb;
    for (let i = 0; i < width * height; i++) {
      const luma = (channels[0][i] - black) * gain;
      const u = channels[1][i] - 128 * scale, v = channels[2][i] - 128 * scale;
      // The array rounds to nearest and clips.
      pixels[3 * i] = luma + red * v;
      pixels[3 * i + 1] = luma - (kr * red * v + kb * blue * u) / kg;
      pixels[3 * i + 2] = luma + blue * u;
    }
    return pixels;
  }
}

/** A rectangle of a plane at the frame's size: chroma is interpolated bicubically, as swscale does. */
function resampled(plane, frame, left, top, width, height) {
  const columns = taps(left, width, plane.width, frame.codedWidth, frame.color.sitedLeft ? 0.25 : 0);
  const rows = taps(top, height, plane.height, frame.codedHeight, 0);
  const first = rows[0].places[0], last = rows.at(-1).places.at(-1);
  const wide = new Float64Array((last - first + 1) * width);
  for (let y = first; y <= last; y++) {
    const line = plane.start + y * plane.stride;
    for (let x = 0; x < width; x++) {
      const { places, weights } = columns[x];
      let sum = 0;
      for (let i = 0; i < places.length; i++) sum += weights[i] * plane.samples[line + places[i] * plane.step];
      wide[(y - first) * width + x] = sum;
    }
  }
  if (plane.height === frame.codedHeight) return wide;
  const values = new Float64Array(width * height);
  for (let y = 0; y < height; y++) {
    const { places, weights } = rows[y];
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let i = 0; i < places.length; i++) sum += weights[i] * wide[(places[i] - first) * width + x];
      values[y * width + x] = sum;
    }
  }
  return values;
}

/** Samples of an axis of `size`, and their weights, for each of `count` pixels from `start` of an axis of `shown`. */
function taps(start, count, size, shown, shift) {
  return Array.from({ length: count }, (_, i) => {
    if (size === shown) return { places: [start + i], weights: [1] };
    const center = (start + i + 0.5) * size / shown - 0.5 + shift, first = Math.floor(center) - 1;
    const weights = [0, 1, 2, 3].map(k => cubic(center - first - k, 0.6));
    return { places: weights.map((_, k) => Math.max(0, Math.min(size - 1, first + k))), weights };
  });
}

function cubic(distance, a) {
  const d = Math.abs(distance);
  if (d < 1) return ((2 - a) * d + a - 3) * d * d + 1;
  return d < 2 ? ((-a * d + 5 * a) * d - 8 * a) * d + 4 * a : 0;
}

/** A `side` x `side` patch of a picture shown at width x height, RGB, with its edge pixels repeated beyond the frame. */
export function patch(picture, y, x, side, width, height) {
  const rows = filter(picture.height, height, y, side), columns = filter(picture.width, width, x, side);
  const bounds = lines => [Math.min(...lines.map(line => line.first)), Math.max(...lines.map(l => l.first + l.weights.length))];
  const [top, bottom] = bounds(rows), [left, right] = bounds(columns);
  const source = picture.rgb(left, top, right - left, bottom - top), wide = new Uint8ClampedArray((bottom - top) * side * 3);
  for (let j = 0; j < bottom - top; j++) for (let i = 0; i < side; i++) {
    weigh(source, wide, (j * (right - left) + columns[i].first - left) * 3, 3, columns[i].weights, (j * side + i) * 3);
  }
  const pixels = new Uint8ClampedArray(side * side * 3);
  for (let j = 0; j < side; j++) for (let i = 0; i < side; i++) {
    weigh(wide, pixels, ((rows[j].first - top) * side + i) * 3, side * 3, rows[j].weights, (j * side + i) * 3);
  }
  return pixels;
}

function weigh(source, target, from, stride, weights, to) {
  for (let c = 0; c < 3; c++) {
    let sum = 2 ** 21;
    for (let k = 0; k < weights.length; k++) sum += weights[k] * source[from + k * stride + c];
    target[to + c] = Math.floor(sum / 2 ** 22);
  }
}

/** Pillow's bicubic filter for `side` pixels from `corner`: the first sample of each and weights in units of 2^-22. */
function filter(size, shown, corner, side) {
  const stop = Math.min(corner + side, shown);
  const low = Math.fround(corner * (size / shown)), high = Math.fround(stop * (size / shown));
  const step = Math.fround(high - low) / (stop - corner), blur = Math.max(step, 1);
  const lines = Array.from({ length: stop - corner }, (_, i) => {
    const center = low + (i + 0.5) * step;
    const first = Math.max(0, Math.trunc(center - 2 * blur + 0.5));
    const end = Math.min(size, Math.trunc(center + 2 * blur + 0.5));
    const raw = Array.from({ length: end - first }, (_, k) => cubic((first + k - center + 0.5) / blur, 0.5));
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: raw.map(w => Math.trunc(w / total * 2 ** 22 + Math.sign(w) * 0.5)) };
  });
  while (lines.length < side) lines.push(lines.at(-1));
  return lines;
}
