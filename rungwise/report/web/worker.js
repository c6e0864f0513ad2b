// Scores videos beside the page: reads files with mediabunny and WebCodecs, runs the model with onnxruntime-web.

import { ALL_FORMATS, BlobSource, EncodedPacketSink, Input, VideoSampleSink } from "./mediabunny.js";
import * as ort from "./onnxruntime.js";
import { Picture, patch } from "./pixels.js";
import { chooseFrames, cutWindows, goldenView, patchCorners } from "./views.js";

const HDR = { pq: "PQ", hlg: "HLG" };
const MATRICES = ["bt709", "bt470bg", "smpte170m", "bt2020-ncl", "rgb"];
const CODECS = { avc: "h264" };  // other names than the command line's
const SITED_LEFT = ["avc", "hevc"];  // codecs whose chroma is sited left unless they say otherwise
const BANDS = ["bad", "poor", "fair", "good", "excellent"];
const NUM_WORST = 3, THUMBNAIL_PX = 480;

let loading = null;

/** The model and its contract, checked against its golden scores as every scorer does. */
async function loadModel() {
  const answer = await fetch("model.json");
  const { contract, bitstreamInputs } = await answer.json();
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime.wasm", import.meta.url).href };
  const session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  const { view, golden } = contract, size = view.grid * view.patch_px;
  const run = async pixels => {
    const inputs = { frames: new ort.Tensor("uint8", pixels, [1, view.num_frames, size, size, 3]) };
    if (contract.stream) inputs.stream = new ort.Tensor("float32", new Float32Array(bitstreamInputs), [1, bitstreamInputs]);
    const outputs = await session.run(inputs, ["score", "frame_scores"]);
    return { score: outputs.score.data[0], frameScores: [...outputs.frame_scores.data] };
  };
  for (const number of [0, 2, 3]) {
    const { score } = await run(goldenView(view, number));
    const error = Math.abs(score - golden.scores[number]);
    if (!(error <= golden.tolerance)) throw new Error(`this browser runs the model wrongly: off by ${error.toFixed(2)}`);
  }
  return { contract, run };
}

/** What a file's container says of its video. */
async function openVideo(file) {
  const input = new Input({ source: new BlobSource(file), formats: ALL_FORMATS });
  let track;
  try {
    track = await input.getPrimaryVideoTrack();
  } catch {
    throw new Error("not a video that this page can read");
  }
  if (!track) throw new Error("has no video");
  const codec = await track.getCodec();
  if (!await track.canDecode()) throw new Error(`this browser can't decode ${codec ?? "its codec"}`);
  const stamps = [];
  let end = 0, size = 0;
  for await (const packet of new EncodedPacketSink(track).packets(undefined, undefined, { metadataOnly: true })) {
    size += packet.byteLength;
    if (packet.timestamp < -1e-9) continue;  // hidden by an edit list
    stamps.push(packet.timestamp);
    end = Math.max(end, packet.timestamp + packet.duration);
  }
  if (!stamps.length) throw new Error("has no frames");
  stamps.sort((a, b) => a - b);
  const times = stamps.map(stamp => stamp - stamps[0]), step = times.length > 1 ? times.at(-1) / (times.length - 1) : 0;
  const duration = Math.max(end - stamps[0], times.at(-1) + (end > stamps.at(-1) ? 0 : step));
  return { track, codec, stamps, times, duration, kbps: duration ? size * 8e-3 / duration : 0 };
}

/** The frames with these indices, ascending, as pictures. */
async function* pictures(video, indices) {
  const { track, stamps } = video, stated = await track.getColorSpace(), rotation = await track.getRotation();
  let position = 0;
  for await (const sample of new VideoSampleSink(track).samplesAtTimestamps(indices.map(i => stamps[i]))) {
    if (!sample) throw new Error(`frame ${indices[position]} does not decode`);
    const frame = sample.toVideoFrame();
    try {
      yield [indices[position++], await Picture.of(frame, colorOf(stated, frame, video.codec), rotation)];
    } finally {
      frame.close();
      sample.close();
    }
  }
}

/** How a frame's samples become RGB: as the file states, else as the browser says. */
function colorOf(stated, { colorSpace }, codec) {
  const [transfer, known, fullRange] = ["transfer", "matrix", "fullRange"].map(name => stated[name] ?? colorSpace[name]);
  if (HDR[transfer]) throw new Error(`HDR video (${HDR[transfer]}); the model supports SDR only`);
  // Chromium takes full-range video without a description for JPEG's color.
  const guessed = stated.matrix == null && colorSpace.transfer === "iec61966-2-1";
  const matrix = guessed ? null : known;
  if (matrix != null && !MATRICES.includes(matrix)) throw new Error(`unsupported color matrix (${matrix})`);
  return { matrix, fullRange: fullRange ?? false, sitedLeft: SITED_LEFT.includes(codec) };
}

/** Width and height at which a picture is evaluated. */
async function shownSize(video, picture, displayHeight) {
  const { num, den } = await video.track.getPixelAspectRatio();
  const upright = picture.rotation % 180 ? den / num : num / den;
  const aspect = Math.abs(upright - 1) <= 0.02 ? 1 : upright, height = displayHeight ?? picture.height;
  if (height === picture.height && aspect === 1) return [picture.width, height];
  return [Math.max(1, Math.round(picture.width * aspect * height / picture.height)), height];
}

/** The pixels of a window's view; null if a chosen frame is flat and `flatAllowed` is not set. */
async function readView(video, window, recipe, displayHeight) {
  const side = recipe.patch_px, size = recipe.grid * side, frameBytes = size * size * 3;
  const pixels = new Uint8Array(recipe.num_frames * frameBytes);
  const { frames } = window, distinct = [...new Set(frames)];
  let corners = null, shown = null, flat = false;
  for await (const [index, picture] of pictures(video, distinct)) {
    flat ||= picture.isFlat();
    shown ??= await shownSize(video, picture, displayHeight);
    corners ??= await patchCorners(recipe, window.number, ...shown);
    Object.assign(video, { width: video.width ?? picture.width, height: video.height ?? picture.height, shown });
    const view = new Uint8Array(frameBytes);
    corners.forEach(([y, x], cell) => {
      const block = patch(picture, y, x, side, ...shown), row = Math.floor(cell / recipe.grid), column = cell % recipe.grid;
      for (let j = 0; j < side; j++) {
        view.set(block.subarray(j * side * 3, (j + 1) * side * 3), ((row * side + j) * size + column * side) * 3);
      }
    });
    frames.forEach((frame, slot) => { if (frame === index) pixels.set(view, slot * frameBytes); });
  }
  return { pixels, flat };
}

/** A window with its score. Frames of a single color are replaced by others of the window, if there are any. */
async function scoreWindow(video, window, model, displayHeight) {
  const { view: recipe, scale } = model.contract;
  window.frames = chooseFrames(recipe, window.stop - window.first).map(index => window.first + index);
  let { pixels, flat } = await readView(video, window, recipe, displayHeight);
  if (flat) {
    const content = [];
    const all = Array.from({ length: window.stop - window.first }, (_, i) => window.first + i);
    for await (const [index, picture] of pictures(video, all)) if (!picture.isFlat()) content.push(index);
    if (!content.length) {
      const best = scale.polarity === "lower_is_better" ? scale.minimum : scale.maximum;
      return { ...window, flat: true, score: best, frameScores: window.frames.map(() => best) };
    }
    window.frames = chooseFrames(recipe, content.length).map(index => content[index]);
    ({ pixels } = await readView(video, window, recipe, displayHeight));
  }
  return { ...window, flat: false, ...await model.run(pixels) };
}

/** Score one video; `report` is called after each window. */
async function score(file, displayHeight, report) {
  loading ??= loadModel();
  const model = await loading, video = await openVideo(file);
  const { scale, calibration } = model.contract, sign = scale.polarity === "lower_is_better" ? -1 : 1;
  const cuts = cutWindows(video.times), windows = [];
  for (const cut of cuts) {
    const end = cut.stop < video.times.length ? video.times[cut.stop] : video.duration;
    windows.push({ start: video.times[cut.first], end, ...await scoreWindow(video, cut, model, displayHeight) });
    report({ done: windows.length, of: cuts.length });
  }
  const content = windows.filter(window => !window.flat), counted = content.length ? content : windows;
  const seconds = counted.reduce((sum, window) => sum + window.end - window.start, 0);
  const mean = counted.length === 1 ? counted[0].score
    : counted.reduce((sum, window) => sum + window.score * (window.end - window.start), 0) / seconds;
  const clip = value => Math.min(scale.maximum, Math.max(scale.minimum, value));
  const fraction = (mean - scale.minimum) / (scale.maximum - scale.minimum);
  const best = sign > 0 ? scale.maximum : scale.minimum;
  const halfWidth = calibration && calibration.half_width + calibration.slope * Math.abs(best - mean);
  const worst = [...counted].sort((a, b) => sign * (a.score - b.score) || a.start - b.start).slice(0, NUM_WORST);
  return {
    path: file.name, score: mean, pixel_score: mean, bitstream_used: false,
    low: calibration && clip(mean - halfWidth), high: calibration && clip(mean + halfWidth),
    band: BANDS[Math.min(4, Math.max(0, Math.floor((sign > 0 ? fraction : 1 - fraction) * 5)))],
    kind: scale.kind, polarity: scale.polarity, codec: CODECS[video.codec] ?? video.codec, kbps: video.kbps,
    width: video.width, height: video.height, display_height: video.shown[1],
    fps: video.duration ? video.times.length / video.duration : 0, duration_seconds: video.duration,
    frames_used: windows.reduce((sum, window) => sum + new Set(window.frames).size, 0), notes: notes(video, windows),
    timeline: windows.map(({ start, end, score, flat }) => ({ start_seconds: start, end_seconds: end, score, flat })),
    worst: await thumbnails(video, worst.map(window => worstFrame(window, sign))),
  };
}

function worstFrame(window, sign) {
  let place = 0;
  window.frameScores.forEach((value, i) => { if (sign * value < sign * window.frameScores[place]) place = i; });
  return { index: window.frames[place], score: window.score };
}

function notes(video, windows) {
  const flat = windows.filter(window => window.flat).length, [width, height] = video.shown, lines = [];
  if (width !== video.width || height !== video.height) lines.push(`evaluated at ${width}x${height}`);
  if (flat === windows.length) lines.push("flat: every frame is a single color, so the score is the scale's best, not a prediction");
  else if (flat) lines.push(`${flat} of ${windows.length} windows are flat (a single color) and excluded from the score`);
  return lines;
}

/** Small images of frames. */
async function thumbnails(video, frames) {
  const sink = new VideoSampleSink(video.track), images = [];
  for (const { index, score } of frames) {
    const sample = await sink.getSample(video.stamps[index]);
    const width = Math.min(THUMBNAIL_PX, sample.displayWidth), height = Math.round(width * sample.displayHeight / sample.displayWidth);
    const canvas = new OffscreenCanvas(width, height);
    sample.draw(canvas.getContext("2d"), 0, 0, width, height);
    sample.close();
    images.push({ index, seconds: video.times[index], score, image: await canvas.convertToBlob() });
  }
  return images;
}

let queue = Promise.resolve();
self.onmessage = ({ data: { id, file, displayHeight } }) => {
  queue = queue.then(async () => {
    try {
      const result = await score(file, displayHeight, progress => postMessage({ id, progress }));
      postMessage({ id, result });
    } catch (error) {
      postMessage({ id, error: error.message });
    }
  });
};
