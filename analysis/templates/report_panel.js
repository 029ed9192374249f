"use strict";
/* What opens behind a cell: numbers, verdict, runs, curves, config difference. */

const data = JSON.parse(byId("data").textContent);
const CHARTS = { knn: "k-NN of the teacher, %", student_knn: "k-NN of the student, %", entropy: "target entropy, nats", kl: "KL, nats", loss: "loss", output_spread: "spread of outputs" };

/* Curves name their epochs by place, since most runs share them. */
for (const run of Object.values(data.runs)) {
  for (const curve of Object.values(run.curves)) curve[0] = data.epochs[curve[0]];
}

const SVG = "http://www.w3.org/2000/svg";

function startPanel() {
  const panel = byId("panel");
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.cell, button[data-cell]");
    if (button) openPanel(button.dataset.cell || button.id);
    if (event.target === panel) panel.close();
  });
  panel.addEventListener("close", () => {
    const address = panel.dataset.cell;
    if (decodeURIComponent(location.hash.slice(1)) === address) {
      history.replaceState(null, "", `#${address.split(":")[0]}`);
    }
  });
}

function openPanel(address) {
  const panel = byId("panel");
  const cell = data.cells[address];
  panel.dataset.cell = address;
  panel.replaceChildren(head(address, cell), body(address, cell));
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  history.replaceState(null, "", `#${address}`);
}

/* make("p", {class: "rule"}, "words", other elements) */
function make(tag, attributes = {}, ...content) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content.filter((part) => part !== null && part !== ""));
  return element;
}

function draw(tag, attributes, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

const number = (value) => value === null || value === undefined ? "-" : String(Number(value.toPrecision(4)));
const signed = (value) => (value > 0 ? "+" : "") + number(value);
const unit = (cell) => (cell.unit ? ` ${cell.unit}` : "");

function head(address, cell) {
  const close = make("button", { type: "button" }, "Close");
  close.addEventListener("click", () => byId("panel").close());
  const title = make("h2", { id: "panel-title" }, `${cell.row}: ${cell.metric}`);
  const place = make("p", {}, make("code", {}, address), `, ${data.scale} scale`);
  return make("div", { class: "panel-head" }, make("div", {}, title, place), close);
}

function body(address, cell) {
  const runs = cell.runs.map((run) => ({ ...data.runs[run.id], ...run }));
  return make("div", { class: "panel-body" },
    numbers(cell),
    verdict(cell),
    strip(cell),
    ...curves(runs),
    make("h3", {}, "Runs"), runTable(runs, cell),
    ...evaluations(runs),
    ...distance(cell),
    ...others(cell),
    make("h3", {}, "Claims that rest on this number"), claimLinks(cell),
    make("h3", {}, "Source of the paper's number"), make("p", { class: "rule" }, cell.reported === null ? "The paper prints no such number." : cell.sources.join("; ")),
  );
}

function numbers(cell) {
  const items = [
    ["Paper", cell.reported === null ? "-" : cell.reported + unit(cell)],
    ["Ours, mean", number(cell.mean) + unit(cell)],
    ["95 % interval", cell.interval ? cell.interval.map(number).join(" to ") : "not known"],
    ["Seeds", String(cell.n)],
    ["Difference", cell.difference === null ? "-" : signed(cell.difference)],
  ];
  if (cell.tier) items.push(["Tier", cell.tier]);
  if (cell.clean !== null) items.push(["Clean tier", number(cell.clean) + unit(cell)]);
  return make("dl", { class: "numbers" },
    ...items.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function verdict(cell) {
  const text = make("p", { class: "rule" }, make("b", {}, cell.verdict), `: ${cell.rule}.`);
  if (cell.flips) text.append(` Would turn: ${cell.flips}.`);
  if (cell.spread) text.append(` The interval's spread: ${cell.spread}.`);
  return text;
}

/* Seeds as dots, interval as a bar, the paper's number as a line. */
function strip(cell) {
  const values = cell.runs.map((run) => run.value);
  const paper = cell.reported === null ? [] : [Number(cell.reported)];
  const low = Math.min(...values, ...paper, ...(cell.interval || []));
  const high = Math.max(...values, ...paper, ...(cell.interval || []));
  if (!(high > low)) return "";
  const x = (value) => 36 + 288 * (value - low) / (high - low);
  const said = `Seeds ${values.map(number).join(", ")}; paper ${cell.reported ?? "prints none"}`;
  const picture = draw("svg", { viewBox: "0 0 360 62", role: "img", "aria-label": said });
  picture.append(draw("line", { x1: 24, x2: 336, y1: 36, y2: 36, class: "chart-axis" }));
  if (cell.interval) {
    const [a, b] = cell.interval.map(x);
    picture.append(draw("rect", { x: a, y: 32, width: Math.max(1, b - a), height: 8, fill: "var(--confirmed)", opacity: .25 }));
  }
  for (const value of values) picture.append(draw("circle", { cx: x(value), cy: 36, r: 4, fill: "var(--confirmed)" }));
  picture.append(draw("text", { x: x(cell.mean), y: 58, "text-anchor": "middle" }, `ours ${number(cell.mean)}`));
  for (const value of paper) {
    picture.append(draw("line", { x1: x(value), x2: x(value), y1: 22, y2: 50, stroke: "var(--contradicted)", "stroke-width": 2 }));
    picture.append(draw("text", { x: x(value), y: 16, "text-anchor": "middle" }, `paper ${cell.reported}`));
  }
  return make("div", { class: "strip" }, picture);
}

function curves(runs) {
  const shown = Object.keys(CHARTS).filter((key) => runs.some((run) => run.curves[key]));
  if (!shown.length) return [];
  const key = make("ul", { class: "key" }, ...runs.map((run, i) => {
    const sample = draw("svg", { viewBox: "0 0 32 10", "aria-hidden": "true" });
    sample.append(draw("line", { x1: 0, x2: 32, y1: 5, y2: 5, class: `chart-line seed${i % 4}` }));
    return make("li", {}, sample, ` seed ${run.seed}`);
  }));
  const charts = make("div", { class: "charts" }, ...shown.map((name) => chart(name, runs)));
  return [make("h3", {}, "Curves"), key, charts];
}

function chart(name, runs) {
  const own = runs.map((run, i) => [run, i]).filter(([run]) => run.curves[name]);
  const reference = name === "entropy" ? own.map(([run]) => run.log_K).find((value) => value) : undefined;
  const xs = own.flatMap(([run]) => run.curves[name][0]);
  const ys = own.flatMap(([run]) => run.curves[name][1]).concat(reference ? [reference] : []);
  const [left, right, top, bottom] = [38, 300, 8, 116];
  const [x0, x1] = [Math.min(...xs, 0), Math.max(...xs)];
  const y0 = Math.min(...ys), y1 = Math.max(...ys, y0 + 1e-9);
  const x = (value) => left + (right - left) * (value - x0) / (x1 - x0 || 1);
  const y = (value) => bottom - (bottom - top) * (value - y0) / (y1 - y0);
  const said = own.map(([run]) => {
    const values = run.curves[name][1];
    return `seed ${run.seed} from ${number(values[0])} to ${number(values[values.length - 1])}`;
  });
  const picture = draw("svg", { viewBox: "0 0 310 136", role: "img", "aria-label": `${CHARTS[name]}: ${said.join("; ")}` });
  picture.append(draw("path", { d: `M${left},${top}V${bottom}H${right}`, fill: "none", class: "chart-axis" }));
  picture.append(draw("text", { x: left - 4, y: top + 4, "text-anchor": "end" }, number(y1)));
  picture.append(draw("text", { x: left - 4, y: bottom + 3, "text-anchor": "end" }, number(y0)));
  picture.append(draw("text", { x: left, y: bottom + 15 }, number(x0)));
  picture.append(draw("text", { x: right, y: bottom + 15, "text-anchor": "end" }, `epoch ${number(x1)}`));
  if (reference) {
    picture.append(draw("line", { x1: left, x2: right, y1: y(reference), y2: y(reference), class: "chart-reference" }));
    picture.append(draw("text", { x: right, y: y(reference) + 12, "text-anchor": "end" }, "ln K"));
  }
  for (const [run, i] of own) {
    const [epochs, values] = run.curves[name];
    const points = epochs.map((epoch, at) => `${x(epoch).toFixed(1)},${y(values[at]).toFixed(1)}`);
    picture.append(draw("polyline", { points: points.join(" "), class: `chart-line seed${i % 4}` }));
  }
  return make("figure", {}, make("figcaption", {}, CHARTS[name]), picture);
}

function table(caption, heads, rows) {
  const names = heads.map((name) => make("th", { scope: "col" }, name));
  const lines = rows.map((row) => make("tr", {}, ...row.map((content, i) =>
    content instanceof Element && content.matches("td") ? content
      : make(i ? "td" : "th", i ? {} : { scope: "row" }, content))));
  return make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    make("table", {}, make("caption", { class: "hidden" }, caption),
      make("thead", {}, make("tr", {}, ...names)), make("tbody", {}, ...lines)));
}

function runTable(runs, cell) {
  const logged = runs.some((run) => run.log);
  const heads = ["Seed", cell.metric, "Run", "Sentinel", "Code", "Hardware", "Training", "From"];
  return table("Runs", logged ? [...heads, "Last line of its log"] : heads, runs.map((run) => [
    String(run.seed), number(run.value), make("code", { title: run.slug }, run.id), run.sentinel,
    make("code", { title: run.sha || "" }, run.code), run.hardware,
    run.seconds ? `${number(run.seconds)} s` : "-", run.from,
    ...(logged ? [make("td", { class: "log" }, run.log || "-")] : []),
  ]));
}

/* The seeds of a cell are asked the same; where they are not, each is shown. */
function evaluations(runs) {
  const asked = [...new Set(runs.filter((run) => run.evaluation).map((run) => describe(run.evaluation)))];
  if (!asked.length) return [];
  return [make("h3", {}, "Evaluation"), ...asked.map((text) => make("p", { class: "rule" }, text))];
}

function describe(request) {
  const flat = Object.entries({ ...request, ...request.settings }).filter(([key, value]) =>
    key !== "settings" && value !== "" && value !== null);
  return flat.map(([key, value]) => `${key.replaceAll("_", " ")} ${value}`).join(", ");
}

function distance(cell) {
  const keys = data.distances[cell.distance];
  const title = make("h3", {}, `Config difference from the paper's run (${keys.length} keys)`);
  const ledger = make("p", { class: "rule" }, "Deviation ledger: ", ...cell.deviations.flatMap((id) => [link(id), " "]));
  if (!keys.length) return [title, make("p", { class: "rule" }, "None: the paper's own protocol."), ledger];
  const rows = keys.map(([key, ours, paper]) => [make("code", {}, key), ours, paper]);
  return [title, table("Config difference", ["Key", "Ours", "Paper"], rows), ledger];
}

function others(cell) {
  if (!cell.others.length) return [];
  const rows = cell.others.map((one) => [one.what, number(one.value), one.source]);
  return [make("h3", {}, "What others measured"), table("What others measured", ["What", "Value", "Source"], rows)];
}

function claimLinks(cell) {
  if (!cell.claims.length) return make("p", { class: "rule" }, "None.");
  return make("p", { class: "rule" }, ...cell.claims.flatMap((id) => [link(id), " "]));
}

/* Out of the panel to another place of the page. */
function link(id) {
  const anchor = make("a", { href: `#${id}` }, id);
  anchor.addEventListener("click", () => byId("panel").close());
  return anchor;
}
