// Which windows, frames and patches of a video are scored: the recipe of docs/onnx.md, as rungwise/score/views.py.

const WINDOW_SECONDS = 4, VIEWS_VERSION = 2;

/** Windows of a video: [{number, first, stop}], by the times of its frames in seconds from the first. */
export function cutWindows(times) {
  const windowOf = time => Math.floor(time / WINDOW_SECONDS + 1e-9);
  const cuts = [0];
  for (let i = 1; i < times.length; i++) if (windowOf(times[i]) !== windowOf(times[i - 1])) cuts.push(i);
  const last = times.at(-1);
  if (cuts.length > 1 && last / WINDOW_SECONDS + 1e-9 - windowOf(last) < 0.5) cuts.pop();
  return cuts.map((first, number) => ({ number, first, stop: cuts[number + 1] ?? times.length }));
}

/** Indices of the frames of a view among `count`. */
export function chooseFrames(recipe, count) {
  const centers = steps => Array.from({ length: steps }, (_, i) =>
    Math.min(Math.floor((i + 0.5) * count / steps), count - 1));
  if (recipe.frame_choice === "uniform") return centers(recipe.num_frames);
  return centers(recipe.num_frames / 2).flatMap(center => {
    const first = Math.min(center, Math.max(0, count - 2));
    return [first, Math.min(first + 1, count - 1)];
  });
}

/** Top left corners [y, x] of the patches of view `number`, row by row. */
export async function patchCorners(recipe, number, width, height) {
  const { frame_choice, grid, num_frames, patch_px } = recipe;
  const text = JSON.stringify({
    recipe: { frame_choice, grid, num_frames, patch_px }, version: VIEWS_VERSION, view: number,
  });
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  const draws = randomFractions(new DataView(digest.buffer), 2 * grid * grid);
  return Array.from({ length: grid * grid }, (_, cell) => [
    corner(Math.floor(cell / grid), height, recipe, draws[2 * cell]),
    corner(cell % grid, width, recipe, draws[2 * cell + 1]),
  ]);
}

function corner(cell, extent, { grid, patch_px }, draw) {
  const start = Math.floor(cell * extent / grid), stop = Math.floor((cell + 1) * extent / grid);
  const slack = Math.max(0, stop - start - patch_px);
  const place = start + 2 * Math.floor(Math.floor(draw * (slack + 1)) / 2);
  return Math.max(0, Math.min(place, extent - patch_px));
}

const MASK_128 = (1n << 128n) - 1n, MASK_64 = (1n << 64n) - 1n;

/** `count` numbers in [0, 1) of NumPy's PCG64, seeded with the first 16 bytes of a hash as one integer. */
function randomFractions(hash, count) {
  const words = [12, 8, 4, 0].map(offset => hash.getUint32(offset));  // lowest first
  const [a, b, c, d] = seedSequence(words);
  const increment = (((c << 64n) | d) << 1n | 1n) & MASK_128;
  const step = state => (state * 0x2360ed051fc65da44385df649fccf645n + increment) & MASK_128;
  let state = step((increment + ((a << 64n) | b)) & MASK_128);
  return Array.from({ length: count }, () => {
    state = step(state);
    const folded = (state >> 64n) ^ (state & MASK_64), turn = state >> 122n;
    const word = ((folded >> turn) | (folded << (64n - turn))) & MASK_64;
    return Number(word >> 11n) / 2 ** 53;
  });
}

/** NumPy's `SeedSequence(entropy).generate_state(4, uint64)`. */
function seedSequence(words) {
  let constant = 0x43b0d7e5;
  const mixed = (value, multiplier) => {
    value ^= constant;
    constant = Math.imul(constant, multiplier);
    value = Math.imul(value, constant);
    return value ^ (value >>> 16);
  };
  const pool = words.map(word => mixed(word, 0x931e8875));
  for (let source = 0; source < 4; source++) {
    for (let target = 0; target < 4; target++) {
      if (source === target) continue;
      const sum = Math.imul(0xca01f9dd, pool[target]) - Math.imul(0x4973f715, mixed(pool[source], 0x931e8875)) | 0;
      pool[target] = sum ^ (sum >>> 16);
    }
  }
  constant = 0x8b51f9dd;
  const state = Array.from({ length: 8 }, (_, i) => BigInt(mixed(pool[i % 4], 0x58f38ded) >>> 0));
  return [0, 2, 4, 6].map(i => state[i] | (state[i + 1] << 32n));
}

/** View `number` of the golden input (docs/onnx.md), but for the second, which has noise. */
export function goldenView(recipe, number) {
  const size = recipe.grid * recipe.patch_px, block = 2 ** number, step = [1, 8, 16, 32][number];
  const pixels = new Uint8Array(recipe.num_frames * size * size * 3);
  let at = 0;
  for (let t = 0; t < recipe.num_frames; t++) for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
    const even = (x - x % block) * 3 + (y - y % block) * 2 + t * 5;
    for (let c = 0; c < 3; c++) {
      const value = (even + c * 40) % 512, gray = value < 256 ? value : 511 - value;
      pixels[at++] = gray - gray % step;
    }
  }
  return pixels;
}
