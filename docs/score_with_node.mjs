// Score a video with onnxruntime-node alone: the crop recipe of docs/onnx.md as code, tested against our scorer.
//
// usage: npm install onnxruntime-node
//        ffmpeg -i VIDEO -vf scale=in_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int -f rawvideo \
//            -pix_fmt rgb24 - | node score_with_node.mjs MODEL.onnx WIDTH HEIGHT LINES
// stdin: the decoded frames of one window as full-range RGB, of square samples. LINES: display height. Models that choose
// frames by their difference are refused: that needs the decoder's luma.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";

async function score(file, frames, width, height, lines, window = 0) {
  const model = readFileSync(file), session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1 });
  const { view: recipe, stream } = contract(model), { num_frames: steps, grid, patch_px: side } = recipe;
  const count = frames.length / (width * height * 3), columns = Math.max(1, Math.round(width * lines / height));
  const draws = randomFractions(recipe, window), size = grid * side, view = new Uint8Array(steps * size * size * 3);
  for (let cell = 0; cell < grid * grid; cell++) {
    const row = Math.floor(cell / grid), column = cell % grid;
    const rows = filterWeights(height, lines, place(row, lines, grid, side, draws[2 * cell]), side);
    const cols = filterWeights(width, columns, place(column, columns, grid, side, draws[2 * cell + 1]), side);
    for (let step = 0; step < steps; step++) {
      const start = frameOf(step, steps, count, recipe) * width * height * 3;
      const frame = frames.subarray(start, start + width * height * 3);
      const patch = scaled(scaled(frame, width, height, cols), height, side, rows);
      for (let y = 0; y < side; y++) {
        view.set(patch.subarray(y * side * 3, (y + 1) * side * 3), (((step * grid + row) * side + y) * grid + column) * side * 3);
      }
    }
  }
  const inputs = { frames: new ort.Tensor("uint8", view, [1, steps, size, size, 3]) };
  if (stream) inputs.stream = new ort.Tensor("float32", new Float32Array(11), [1, 11]);  // hybrid: its pixel-only score
  return (await session.run(inputs, ["score"])).score.data[0];
}

function contract(model) {  // the entry "rungwise" of metadata_props, field 14 of ONNX's ModelProto
  let at = 0;
  const varint = () => {
    let value = 0, unit = 1;
    for (; model[at] > 127; unit *= 128) value += (model[at++] - 128) * unit;
    return value + model[at++] * unit;
  };
  while (at < model.length) {
    const tag = varint(), next = varint() + at;
    if (tag === 14 * 8 + 2 && model.toString("latin1", at + 2, at + 10) === "rungwise") {
      at += 11;
      const length = varint();
      return JSON.parse(model.toString("utf8", at, at + length));
    }
    if (tag % 8 === 2) at = next;
  }
  throw new Error("has no rungwise contract");
}

function frameOf(step, steps, count, { frame_choice }) {
  if (frame_choice === "uniform") return Math.floor((step + 0.5) * count / steps);
  if (frame_choice !== "pairs") throw new Error(`frame_choice is ${frame_choice}; this example knows uniform and pairs only`);
  const first = Math.min(Math.floor((Math.floor(step / 2) + 0.5) * count / (steps / 2)), Math.max(0, count - 2));
  return Math.min(first + step % 2, count - 1);
}

function place(cell, extent, grid, side, draw) {
  const start = Math.floor(cell * extent / grid), stop = Math.floor((cell + 1) * extent / grid);
  const corner = start + 2 * Math.floor(Math.floor(draw * (Math.max(0, stop - start - side) + 1)) / 2);
  return Math.max(0, Math.min(corner, extent - side));
}

function randomFractions({ frame_choice, grid, num_frames, patch_px }, view) {  // NumPy's PCG64, seeded by a SeedSequence
  const facts = { recipe: { frame_choice, grid, num_frames, patch_px }, version: 2, view };
  const hash = createHash("sha256").update(JSON.stringify(facts)).digest();
  let constant = 0x43b0d7e5;
  const mixed = (value, factor) => {
    value ^= constant;
    constant = Math.imul(constant, factor);
    value = Math.imul(value, constant);
    return value ^ (value >>> 16);
  };
  const pool = [12, 8, 4, 0].map(offset => mixed(hash.readUInt32BE(offset), 0x931e8875));
  for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) {
    if (i === j) continue;
    const sum = Math.imul(0xca01f9dd, pool[j]) - Math.imul(0x4973f715, mixed(pool[i], 0x931e8875)) | 0;
    pool[j] = sum ^ (sum >>> 16);
  }
  constant = 0x8b51f9dd;
  const words = Array.from({ length: 8 }, (_, i) => BigInt(mixed(pool[i % 4], 0x58f38ded) >>> 0));
  const [a, b, c, d] = [0, 2, 4, 6].map(i => words[i] | (words[i + 1] << 32n)), increment = ((c << 64n) | d) << 1n | 1n;
  const next = state => BigInt.asUintN(128, state * 0x2360ed051fc65da44385df649fccf645n + increment);
  let state = next(((a << 64n) | b) + increment);
  return Array.from({ length: 2 * grid * grid }, () => {
    state = next(state);
    const word = BigInt.asUintN(64, (state >> 64n) ^ state), turn = state >> 122n;
    return Number(BigInt.asUintN(64, (word >> turn) | (word << (64n - turn))) >> 11n) / 2 ** 53;
  });
}

function filterWeights(size, shown, corner, side) {  // bicubic, a = -0.5, in units of 2^-22
  const stop = Math.min(corner + side, shown);
  const low = Math.fround(corner * (size / shown)), high = Math.fround(stop * (size / shown));
  const step = Math.fround(high - low) / (stop - corner), blur = Math.max(step, 1);
  return Array.from({ length: side }, (_, i) => {
    const middle = low + (Math.min(i, stop - corner - 1) + 0.5) * step, first = Math.max(0, Math.trunc(middle - 2 * blur + 0.5));
    const taps = Array.from({ length: Math.min(size, Math.trunc(middle + 2 * blur + 0.5)) - first }, (_, k) => {
      const d = Math.abs(first + k - middle + 0.5) / blur;
      return d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
    });
    const total = taps.reduce((sum, tap) => sum + tap, 0);
    return { first, taps: taps.map(tap => Math.trunc(tap / total * 2 ** 22 + Math.sign(tap) / 2)) };
  });
}

function scaled(pixels, width, height, weights) {  // along rows; the result is transposed
  const result = new Uint8ClampedArray(weights.length * height * 3);
  weights.forEach(({ first, taps }, x) => {
    for (let y = 0; y < height; y++) for (let c = 0; c < 3; c++) {
      const sum = taps.reduce((sum, tap, k) => sum + tap * pixels[(y * width + first + k) * 3 + c], 2 ** 21);
      result[(x * height + y) * 3 + c] = Math.floor(sum / 2 ** 22);
    }
  });
  return result;
}

const [model, width, height, lines] = process.argv.slice(2);
console.log(await score(model, readFileSync(0), Number(width), Number(height), Number(lines)));
