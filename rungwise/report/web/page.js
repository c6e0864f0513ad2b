// The page: files in, results out. worker.js does the scoring.

const $ = id => document.getElementById(id);
const results = new Map();  // id -> {file, article, result}
const model = await (await fetch("model.json")).json(), { contract } = model, { minimum, maximum } = contract.scale;
const kind = contract.scale.kind.replace(/^vmaf_v(\d+).*/, "VMAF v$1");
const clock = seconds => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
const sign = contract.scale.polarity === "lower_is_better" ? -1 : 1;

$("kind").textContent = kind;
$("about").textContent = `Rungwise ${model.version}, pixel-only, model ${contract.training_id.slice(0, 12)} ` +
  `(${contract.precision}). Scores are those of "rungwise score --pixel-only" but for rounding.`;

let worker = null;
if (!isSecureContext || !self.VideoDecoder) {
  $("problem").textContent = isSecureContext ? "This browser has no WebCodecs: it can't decode videos for a page."
    : "Open this page by https, or from localhost: browsers decode videos for no other pages.";
  $("problem").hidden = false;
  $("files").disabled = true;
} else {
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => receive(data);
  worker.onerror = event => { $("problem").textContent = event.message || "the scorer did not load"; $("problem").hidden = false; };
}

function add(files) {
  for (const file of files) {
    const id = results.size, article = $("result").content.firstElementChild.cloneNode(true);
    article.id = `video-${id}`;
    article.querySelector(".name").textContent = file.name;
    article.querySelector(".actions").onclick = event => save(event, [results.get(id).result], file.name);
    $("results").append(article);
    results.set(id, { file, article });
    worker.postMessage({ id, file, displayHeight: Number($("height").value) || null });
  }
}

function receive({ id, progress, result, error }) {
  const entry = results.get(id), { article } = entry;
  if (progress) {
    article.querySelector("progress").value = progress.done / progress.of;
    return;
  }
  article.querySelector("progress").remove();
  if (error) {
    const line = article.appendChild(document.createElement("p"));
    line.className = "error";
    line.textContent = error;
    return;
  }
  entry.result = result;
  show(article, result);
  compare();
}

function show(article, result) {
  const set = (name, text) => { article.querySelector(`.${name}`).textContent = text; };
  const worst = result.worst[0];
  set("score", result.score.toFixed(1));
  set("band", `${kind}, ${result.band}`);
  set("interval", interval(result));
  set("coverage", contract.calibration ? `${Math.round(contract.calibration.coverage * 100)} % interval` : "no interval");
  set("low", worst.score.toFixed(1));
  set("facts", [
    result.codec, `${result.width}x${result.height}`, `${Number(result.fps.toFixed(3))} fps`,
    clock(result.duration_seconds), `${Math.round(result.kbps)} kbps`, `evaluated at ${result.display_height}p`,
  ].join(" · "));
  draw(article.querySelector("svg"), result);
  for (const { image, seconds, score } of result.worst) {
    const figure = article.querySelector(".frames").appendChild(document.createElement("figure"));
    const picture = figure.appendChild(document.createElement("img"));
    picture.src = URL.createObjectURL(image);
    picture.alt = `frame at ${clock(seconds)}`;
    figure.appendChild(document.createElement("figcaption")).textContent = `${score.toFixed(1)} at ${clock(seconds)}`;
  }
  for (const note of result.notes) article.querySelector(".notes").appendChild(document.createElement("li")).textContent = note;
  article.querySelector(".body").hidden = false;
}

const interval = ({ low, high }) => low == null ? "–" : `${low.toFixed(1)}–${high.toFixed(1)}`;

/** The timeline: a step for each window, a ring for the worst. */
function draw(svg, { timeline, duration_seconds: duration, worst, path }) {
  const width = svg.clientWidth || 900, height = svg.clientHeight || 220, left = 34, bottom = 22;
  const x = seconds => left + seconds / Math.max(duration, 1e-9) * (width - left - 8);
  const y = score => 8 + (maximum - score) / (maximum - minimum) * (height - bottom - 8);
  const put = (name, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    svg.append(node);
    return node;
  };
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", `${path}: score over time`);
  for (let i = 0; i <= 4; i++) {
    const level = minimum + (maximum - minimum) * i / 4;
    put("line", { class: "rule", x1: left, x2: width - 8, y1: y(level), y2: y(level) });
    put("text", { x: left - 8, y: y(level) + 4, "text-anchor": "end" }, level.toFixed(0));
  }
  for (const part of [0, 0.5, 1]) {
    put("text", { x: x(duration * part), y: height - 4, "text-anchor": ["start", "middle", "end"][part * 2] }, clock(duration * part));
  }
  const points = timeline.flatMap(w => [[w.start_seconds, w.score], [w.end_seconds, w.score]]);
  put("polyline", { class: "step", points: points.map(([time, score]) => `${x(time)},${y(score)}`).join(" ") });
  const lowest = timeline.reduce((a, b) => b.flat === a.flat ? (sign * b.score < sign * a.score ? b : a) : a.flat ? b : a);
  put("circle", { class: "worst", r: 5, cx: x((lowest.start_seconds + lowest.end_seconds) / 2), cy: y(lowest.score) });
  for (const window of timeline) {
    const hit = put("rect", {
      class: "hit", x: x(window.start_seconds), y: 8, width: x(window.end_seconds) - x(window.start_seconds), height: height - bottom - 8,
    });
    const text = `${window.flat ? "flat" : window.score.toFixed(1)}\n${clock(window.start_seconds)} to ${clock(window.end_seconds)}`;
    hit.onpointermove = hit.onpointerdown = event => tip(event, text);
    hit.onpointerleave = () => { $("tip").hidden = true; };
  }
}

function tip(event, text) {
  $("tip").textContent = text;
  $("tip").hidden = false;
  const left = Math.min(event.pageX + 12, document.documentElement.clientWidth - $("tip").offsetWidth - 8);
  $("tip").style.left = `${Math.max(8, left)}px`;
  $("tip").style.top = `${event.pageY - $("tip").offsetHeight - 12}px`;
}

function compare() {
  const scored = [...results.values()].filter(entry => entry.result);
  $("comparison").hidden = scored.length < 2;
  const heights = [...new Set(scored.map(({ result }) => result.display_height))].sort((a, b) => a - b);
  $("heights").hidden = heights.length < 2;
  $("heights").textContent = `Evaluated at ${heights.map(height => `${height}p`).join(", ")}: compare scores of one height ` +
    "only. Choose one under \u201cEvaluated at\u201d and add the videos again.";
  const rows = scored.sort((a, b) => sign * (b.result.score - a.result.score)).map(({ article, result }) => {
    const row = document.createElement("tr"), name = row.appendChild(document.createElement("th"));
    const link = name.appendChild(document.createElement("a"));
    link.href = `#${article.id}`;
    link.textContent = result.path;
    const cells = [
      result.score.toFixed(1), interval(result), result.worst[0].score.toFixed(1), `${result.width}x${result.height}`,
      Math.round(result.kbps),
    ];
    for (const cell of cells) Object.assign(row.appendChild(document.createElement("td")), { className: "r", textContent: cell });
    return row;
  });
  $("comparison").querySelector("tbody").replaceChildren(...rows);
}

const COLUMNS = [
  "path", "score", "low", "high", "band", "display_height", "width", "height", "fps", "duration_seconds", "codec", "kbps", "kind",
];

function save(event, saved, name) {
  const format = event.target.dataset.save;
  if (!format) return;
  const plain = saved.map(result => ({
    ...result, model: contract.training_id, worst: result.worst.map(({ image, ...frame }) => frame),
  }));
  const quoted = value => /[",\n]/.test(value ?? "") ? `"${String(value).replaceAll('"', '""')}"` : value ?? "";
  const text = format === "json" ? `${JSON.stringify(plain.length === 1 ? plain[0] : plain, null, 2)}\n`
    : [COLUMNS, ...plain.map(result => COLUMNS.map(column => quoted(result[column])))].map(row => `${row.join(",")}\n`).join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: format === "json" ? "application/json" : "text/csv" }));
  link.download = `${name}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

$("comparison").querySelector(".actions").onclick = event =>
  save(event, [...results.values()].filter(entry => entry.result).map(entry => entry.result), "rungwise");
$("files").onchange = event => { add([...event.target.files]); event.target.value = ""; };
for (const name of ["dragover", "drop", "dragleave"]) {
  document.addEventListener(name, event => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && worker) add([...event.dataTransfer.files]);
  });
}
addEventListener("resize", () => {
  for (const { article, result } of results.values()) if (result) draw(article.querySelector("svg"), result);
});
