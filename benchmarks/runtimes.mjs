// One of the JavaScript runtimes of benchmarks/runtimes.py: a line in, the scores of all views and their CPU time out.
//
// usage: node runtimes.mjs MODULE.mjs MODEL.onnx VIEWS.raw SHAPE INPUTS

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [module, model, views, shape, inputs] = process.argv.slice(2);
const loaded = await import(pathToFileURL(module)), ort = loaded.default?.InferenceSession ? loaded.default : loaded;
ort.env.wasm.numThreads = 1;
const options = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 };
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(model)), options);
const dims = shape.split(",").map(Number), size = dims.reduce((a, b) => a * b);
const pixels = new Uint8Array(readFileSync(views)), stream = new Float32Array(Number(inputs)).fill(0.5);
const feeds = Array.from({ length: pixels.length / size }, (_, i) => ({
  frames: new ort.Tensor("uint8", pixels.subarray(i * size, (i + 1) * size), [1, ...dims]),
  stream: new ort.Tensor("float32", stream, [1, stream.length]),
}));
console.log(JSON.stringify(ort.env.versions));
for await (const _ of createInterface({ input: process.stdin })) {
  const start = process.cpuUsage(), scores = [];
  for (const feed of feeds) {
    const outputs = await session.run(feed, ["score", "fused"]);
    scores.push([outputs.score.data[0], outputs.fused.data[0]]);
  }
  const { user, system } = process.cpuUsage(start);
  console.log(JSON.stringify({ seconds: (user + system) / 1e6, scores }));
}
