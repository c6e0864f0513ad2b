// Score a video with onnxruntime-node, by the modules that `rungwise export --web` writes; tested against our scorer.
//
// usage: rungwise export --web PAGE && npm install onnxruntime-node
//        ffmpeg -i VIDEO -vf scale=in_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int -f rawvideo \
//            -pix_fmt rgb24 - | node score_with_node.mjs PAGE WIDTH HEIGHT LINES
// stdin: the decoded frames of one window as full-range RGB, of square samples. LINES: display height.

import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";

const [page, ...sizes] = process.argv.slice(2), [width, height, lines] = sizes.map(Number);
const load = name => import(`data:text/javascript,${encodeURIComponent(readFileSync(`${page}/${name}`, "utf8"))}`);
const { chooseFrames, patchCorners } = await load("views.js");
const { patch } = await load("pixels.js");
const { contract, bitstreamInputs } = JSON.parse(readFileSync(`${page}/model.json`, "utf8"));
const { grid, patch_px: side, num_frames: steps } = contract.view;

/** A frame as `patch` reads it. */
function picture(frame) {
  const rgb = (left, top, columns, rows) => {
    const pixels = new Uint8Array(columns * rows * 3);
    for (let row = 0; row < rows; row++) {
      const start = ((top + row) * width + left) * 3;
      pixels.set(frame.subarray(start, start + columns * 3), row * columns * 3);
    }
    return pixels;
  };
  return { width, height, rgb };
}

/** The patches of a window's frames, stitched: steps x size x size RGB. */
async function view(frames, number = 0) {
  const frameBytes = width * height * 3, shownWidth = Math.max(1, Math.round(width * lines / height)), size = grid * side;
  const corners = await patchCorners(contract.view, number, shownWidth, lines);
  const pixels = new Uint8Array(steps * size * size * 3);
  chooseFrames(contract.view, frames.length / frameBytes).forEach((index, step) => {
    const frame = picture(frames.subarray(index * frameBytes, (index + 1) * frameBytes));
    corners.forEach(([top, left], cell) => {
      const cut = patch(frame, top, left, side, shownWidth, lines), row = Math.floor(cell / grid), column = cell % grid;
      for (let y = 0; y < side; y++) {
        const line = cut.subarray(y * side * 3, (y + 1) * side * 3);
        pixels.set(line, (((step * grid + row) * side + y) * grid + column) * side * 3);
      }
    });
  });
  return new ort.Tensor("uint8", pixels, [1, steps, size, size, 3]);
}

const session = await ort.InferenceSession.create(readFileSync(`${page}/model.onnx`), { intraOpNumThreads: 1 });
const inputs = { frames: await view(readFileSync(0)) };
// A hybrid model's pixel-only score takes no notice of the bitstream.
if (contract.stream) inputs.stream = new ort.Tensor("float32", new Float32Array(bitstreamInputs), [1, bitstreamInputs]);
console.log((await session.run(inputs, ["score"])).score.data[0]);
