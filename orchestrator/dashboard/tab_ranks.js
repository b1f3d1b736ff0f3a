// Which rank is late, hot or silent? Nodes × ranks on a canvas, live; the odd ones as a table, for those who read.

import { colour, hint, pen, repaint } from "./canvas.js";
import { h, put, say, table } from "./dom.js";
import { draw, reader, stream } from "./feed.js";
import { go, logPath } from "./paths.js";
import { ago, number, share, span, time } from "./words.js";

const CELL = 16;
const LABEL = [40, 148]; // pixels for the name of a node, at least and at most
const GAP = 18;
const ROW = 20;
const WORST = 12;

/** id → name, whether more is worse (1), less (-1) or neither (0), how it is told */
const MEASURES = {
  lag: ["steps behind", 1, (value) => number(value)],
  step_s: ["step time", 1, span],
  own_s: ["own time of a step", 1, span],
  moved_s: ["time since it moved", 1, span],
  power_w: ["power", -1, (value) => `${number(Math.round(value))} W`],
  temperature_c: ["temperature", 1, (value) => `${number(Math.round(value))} °C`],
  utilisation: ["utilisation", -1, share],
  memory_share: ["memory used", 1, share],
  loss: ["own loss", 0, number],
  grad_norm: ["own gradient norm", 0, number],
};

export function ranks(panel, { id, base, route, scope }) {
  const select = h("select", { "aria-label": "Measure" }, Object.entries(MEASURES).map(([name, [text]]) => h("option", { value: name }, text)));
  select.value = MEASURES[route.query.get("measure")] ? route.query.get("measure") : "lag";
  const canvas = h("canvas", { tabindex: "0", role: "img", "data-keys": "" });
  const holder = h("div.ranks.sheet", null, canvas);
  const low = h("span");
  const high = h("span");
  const ramp = h("canvas", { "aria-hidden": "true" });
  const about = h("p.quiet");
  const detail = h("p", { role: "status" }, "\u00a0");
  const wrong = h("p.notice", { hidden: true });
  const worst = table([
    { title: "Rank", cls: "number", value: (one) => one.rank, fill: (one) => h("a", { href: logPath(id, `${one.attempt}/${one.node}/${one.world}/${one.rank}/stderr`), title: "its log" }, String(one.rank)) },
    { title: "Node", text: (one) => one.host },
    { title: "Phase", text: (one) => one.phase ?? "–" },
    { title: "Step", cls: "number", text: (one) => number(one.step) },
    { title: "Behind", cls: "number", text: (one) => number(one.lag) },
    { title: "Step time", cls: "number", text: (one) => span(one.step_s) },
    { title: "Own time", cls: "number", text: (one) => span(one.own_s) },
    { title: "Power", cls: "number", text: (one) => (one.power_w === null ? "–" : `${number(Math.round(one.power_w))} W`) },
    { title: "Temp.", cls: "number", text: (one) => (one.temperature_c === null ? "–" : `${number(Math.round(one.temperature_c))} °C`) },
    { title: "Last collective", text: (one) => one.collective ?? "–" },
  ], { caption: "Ranks that stand out most", key: (one) => one.rank, empty: "No rank is there." });
  put(panel, h("div.row.wide", null, h("label.row", null, "Colour says", select), h("span.scale", null, low, ramp, high)), h("div.pad", null, about), wrong, holder, h("div.pad", null, detail), h("section", null, h("h2", null, "Standing out"), worst));

  const view = { body: null, places: [], chosen: null, order: [] };
  function show(body) {
    wrong.hidden = true;
    view.body = body;
    view.columns = { ...body.ranks, moved_s: body.ranks.moved_at.map((at) => (at === null ? null : Math.max(0, body.at - at))) };
    paint();
    const count = body.ranks.rank.length;
    const away = body.nodes.filter((one) => !one.there).length;
    say(about, `${number(count)} ranks on ${number(body.nodes.length)} nodes, attempt ${body.attempt}, world ${body.world}${away ? ` · ${away} nodes are not connected` : ""}`);
    worst.show(oddest(view));
    told();
  }
  function paint() {
    if (!view.body) return;
    layout(view, holder.clientWidth - 34);
    const scale = scaled(view.columns[select.value], MEASURES[select.value][1]);
    cells(pen(canvas, view.wide, view.tall), view, scale, select.value);
    canvas.style.width = `${view.wide}px`;
    canvas.setAttribute("aria-label", `${MEASURES[select.value][0]} of ${view.body.ranks.rank.length} ranks; arrows choose a rank, Enter opens its log`);
    const say_ = MEASURES[select.value][2];
    say(low, scale.known ? say_(scale.low) : "not known");
    say(high, scale.known ? say_(scale.high) : "");
    legend(ramp);
  }
  function told() {
    say(detail, view.chosen === null ? "\u00a0" : words(view, view.chosen).replaceAll("\n", " · "));
  }
  function open(n) {
    const { attempt, world, ranks: all } = view.body;
    if (all.rank[n] !== undefined) go(logPath(id, `${attempt}/${all.node[n]}/${world}/${all.rank[n]}/stderr`));
  }
  canvas.addEventListener("pointermove", (event) => { const n = under(event, canvas, view); hint(n === null ? null : words(view, n), event); canvas.style.cursor = n === null ? "" : "pointer"; });
  canvas.addEventListener("pointerleave", (event) => hint(null, event));
  canvas.addEventListener("click", (event) => { const n = under(event, canvas, view); if (n !== null) { hint(null, event); open(n); } });
  canvas.addEventListener("keydown", (event) => {
    if (!view.body) return;
    if (event.key === "Enter" && view.chosen !== null) return open(view.chosen);
    const next = moved(event.key, view);
    if (next === null) return;
    event.preventDefault();
    view.chosen = next;
    paint();
    told();
  });
  select.addEventListener("change", () => { go(`${location.pathname}?measure=${select.value}`, true); paint(); });
  const watch = new ResizeObserver(paint);
  watch.observe(holder);
  scope.leave(() => { watch.disconnect(); hint(null); });
  repaint(canvas, paint);
  const read = reader(scope, () => `${base}/ranks`, show, { least_ms: 900, fail: (error) => { wrong.hidden = false; say(wrong, error.message); } });
  stream.open(id, true);
  scope.leave(() => { if (stream.run === id) stream.open(id); });
  stream.on("ranks", (body, since) => {
    if (body.error) draw(wrong, () => { wrong.hidden = false; say(wrong, body.error); }, since);
    else draw(wrong, () => show(body), since);
  }, scope);
  read();
  return { heard(part, since) { if (part === "all") read(since); }, turn() {} };
}

/** Where each rank stands: a block for each node, blocks in columns that are read downwards. */
function layout(view, room) {
  const { node } = view.body.ranks;
  const label = view.label = labelled(view.body.nodes);
  const byNode = new Map();
  node.forEach((each, n) => byNode.set(each, [...(byNode.get(each) ?? []), n]));
  const most = Math.max(1, ...[...byNode.values()].map((all) => all.length));
  const perLine = Math.min(most, Math.max(1, Math.floor((Math.max(room, 200) - label) / CELL)));
  const wide = label + perLine * CELL + GAP;
  const columns = Math.max(1, Math.floor((room + GAP) / wide));
  const lines = (all) => Math.ceil(all.length / perLine);
  const total = [...byNode.values()].reduce((sum, all) => sum + lines(all), 0);
  const tall = Math.max(1, Math.ceil(total / columns));
  view.places = new Array(node.length);
  view.blocks = [];
  let [column, line] = [0, 0];
  for (const [each, all] of byNode) {
    if (line > 0 && line + lines(all) > tall && column < columns - 1) { column += 1; line = 0; }
    view.blocks.push([each, column * wide, line * ROW]);
    all.forEach((n, k) => { view.places[n] = [column * wide + label + (k % perLine) * CELL, (line + Math.floor(k / perLine)) * ROW]; });
    line += lines(all);
    view.tall = Math.max(view.blocks.length === 1 ? 0 : view.tall, line * ROW);
  }
  view.perLine = perLine;
  view.wide = Math.max(wide - GAP, (column + 1) * wide - GAP);
  view.tall = Math.max(ROW, view.tall ?? ROW);
}

const ruler = document.createElement("canvas").getContext("2d");

/** As wide as the longest name needs, within bounds. */
function labelled(nodes) {
  ruler.font = "11px " + getComputedStyle(document.body).fontFamily;
  const longest = Math.max(0, ...nodes.map((one) => ruler.measureText(`✕ ${one.host ?? `node ${one.node}`}`).width));
  return Math.ceil(Math.min(LABEL[1], Math.max(LABEL[0], longest + 8)));
}

/** From what is usual to what is worst; the usual is the median, so that one odd rank stands alone. */
function scaled(values, worse) {
  const finite = values.filter((value) => typeof value === "number").sort((a, b) => a - b);
  if (!finite.length) return { known: false, at: () => null };
  const [low, high] = [finite[0], finite.at(-1)];
  const middle = finite[Math.floor(finite.length / 2)];
  const reach = Math.max(Math.abs(high - middle), Math.abs(middle - low)) || 1;
  const at = (value) => {
    if (typeof value === "string") return 1;
    if (typeof value !== "number") return null;
    const off = (value - middle) / reach;
    return worse === 0 ? Math.abs(off) : Math.max(0, off * worse);
  };
  return { known: true, low, high, at };
}

function cells(context, view, scale, measure) {
  const { rank, started, culprit } = view.body.ranks;
  const host = new Map(view.body.nodes.map((one) => [one.node, one]));
  context.font = "11px " + getComputedStyle(document.body).fontFamily;
  context.textBaseline = "middle";
  for (const [node, x, y] of view.blocks) {
    const one = host.get(node);
    context.fillStyle = one?.there === false ? colour("bad") : colour("soft");
    const text = `${one?.there === false ? "✕ " : ""}${one?.host ?? `node ${node}`}`;
    context.fillText(fitted(context, text, view.label - 8), x, y + CELL / 2);
  }
  const [calm, hot, unknown, ink] = [colour("line"), colour("hung"), colour("sheet"), colour("ink")];
  for (let n = 0; n < rank.length; n++) {
    const [x, y] = view.places[n];
    const share_ = scale.at(view.columns[measure][n]);
    context.globalAlpha = 1;
    context.fillStyle = share_ === null ? unknown : calm;
    context.fillRect(x, y, CELL - 2, CELL - 2);
    if (share_ === null) { context.strokeStyle = colour("line"); context.strokeRect(x + .5, y + .5, CELL - 3, CELL - 3); }
    else if (share_ > 0) { context.globalAlpha = Math.min(1, .12 + .88 * share_); context.fillStyle = hot; context.fillRect(x, y, CELL - 2, CELL - 2); context.globalAlpha = 1; }
    if (culprit[n] || started[n] === false) { // never by colour alone: a sign in the cell
      context.fillStyle = ink;
      context.fillText(culprit[n] ? "!" : "–", x + 4, y + CELL / 2 - .5);
    }
    if (view.chosen === n) { context.strokeStyle = colour("focus"); context.lineWidth = 2; context.strokeRect(x, y, CELL - 2, CELL - 2); context.lineWidth = 1; }
  }
}

function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let keep = text;
  while (keep.length > 3 && context.measureText(`${keep}…`).width > width) keep = keep.slice(0, -1);
  return `${keep}…`;
}

function legend(canvas) {
  const context = pen(canvas, 120, 12);
  for (let x = 0; x < 120; x += 2) {
    context.globalAlpha = 1;
    context.fillStyle = colour("line");
    context.fillRect(x, 0, 2, 12);
    context.globalAlpha = x / 120;
    context.fillStyle = colour("hung");
    context.fillRect(x, 0, 2, 12);
  }
}

function under(event, canvas, view) {
  const box = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const found = view.places.findIndex(([left, top]) => x >= left && x < left + CELL && y >= top && y < top + ROW);
  return found < 0 ? null : found;
}

function moved(key, view) {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: view.perLine, ArrowUp: -view.perLine, Home: -Infinity, End: Infinity }[key];
  if (step === undefined) return null;
  const last = view.body.ranks.rank.length - 1;
  return view.chosen === null ? 0 : Math.max(0, Math.min(last, view.chosen + step));
}

function row(view, n) {
  const all = view.columns;
  const one = Object.fromEntries(Object.entries(all).map(([name, values]) => [name, values[n] ?? null]));
  const node = view.body.nodes.find((each) => each.node === one.node);
  return { ...one, host: node?.host ?? `node ${one.node}`, attempt: view.body.attempt, world: view.body.world };
}

function words(view, n) {
  const one = row(view, n);
  const parts = [`rank ${one.rank} on ${one.host}${one.culprit ? ", named by an open incident" : ""}`,
    `${one.phase ?? "phase not known"}, step ${number(one.step)}${one.lag ? `, ${one.lag} behind` : ""}`];
  if (one.moved_at !== null) parts.push(`moved ${ago(one.moved_at, time.now())}`);
  for (const name of ["step_s", "own_s", "power_w", "temperature_c", "memory_share", "loss"]) if (one[name] !== null) parts.push(`${MEASURES[name][0]} ${MEASURES[name][2](one[name])}`);
  if (one.collective) parts.push(`in ${one.collective}`);
  return parts.join("\n");
}

/** Culprits first, then by steps behind, silence, and slowness. */
function oddest(view) {
  const { lag, own_s, moved_s, culprit, rank } = view.columns;
  const weight = (n) => (culprit[n] ? 1e9 : 0) + (lag[n] ?? 0) * 1e4 + (moved_s[n] ?? 0) * 10 + (own_s[n] ?? 0);
  return rank.map((_, n) => n).sort((a, b) => weight(b) - weight(a)).slice(0, WORST).map((n) => row(view, n));
}
