// How did it go? Curves under the timeline, on its time axis: what was rolled back is grey, what is not a number is marked.

import { label, ticks } from "./axis.js";
import { colour } from "./canvas.js";
import { h, put, say } from "./dom.js";
import { at, brief, number, time } from "./words.js";
import uPlot from "./vendor/uPlot.esm.js";

/** id, title, height, and curves as [name of the series, what it is called, colour, dash]. */
const CHARTS = [
  { id: "loss", title: "Loss", tall: 176, curves: [["loss", "loss", "curve"]], band: true },
  { id: "grad", title: "Gradient norm", curves: [["grad_norm", "norm", "curve"]], band: true },
  { id: "speed", title: "Tokens/s", curves: [["tokens_per_s", "tokens/s", "curve"]] },
  { id: "step", title: "Step time", unit: "s", curves: [["step_s", "step", "curve"], ["own_p50_s", "p50 over ranks", "curve-2", [2, 3]], ["own_max_s", "longest of a rank", "curve-2"]] },
  { id: "power", title: "Power", unit: "W", curves: [["power_w", "all GPUs", "curve"]] },
  { id: "heat", title: "Hottest GPU", unit: "°C", curves: [["temperature_c", "hottest", "curve-2"]] },
  { id: "save", title: "Save time", unit: "s", curves: [["save_s", "until on disk", "curve"], ["stall_s", "steps waited", "curve-2"]], points: true, zero: true },
];
export const NAMES = CHARTS.flatMap((chart) => chart.curves.map(([name]) => name));
const PLAIN_TALL = 96;

/** The element, with `show(answer of /series)`. */
export function charts(axis, scope) {
  const frames = CHARTS.map((chart) => frame(chart));
  const none = h("p.quiet.pad.chart", { hidden: true });
  const node = h("div.charts", { role: "group", "aria-label": "Charts" }, frames.map((one) => one.node), none);
  let data = null;
  const width = () => Math.max(120, node.clientWidth - 2 * pad(node));
  const range = ([from, to]) => { for (const one of frames) one.plot?.setScale("x", { min: from, max: to }); };
  const redo = () => {
    if (!data) return;
    for (const one of frames) { one.plot?.destroy(); one.plot = null; }
    draw();
  };
  function draw() {
    const named = new Map(data.series.map((series) => [series.name, series]));
    const silent = [];
    for (const one of frames) {
      const curves = one.chart.curves.map((curve) => [curve, named.get(curve[0])]).filter(([, series]) => series?.segments.some((part) => part.at.length));
      one.node.hidden = curves.length === 0;
      if (curves.length) update(one, curves, axis, width());
      else silent.push(one.chart.title.toLowerCase());
    }
    none.hidden = silent.length === 0;
    say(none, `Not reported so far: ${silent.join(", ")}.`);
  }
  node.show = (body) => { data = body; draw(); };
  /** Appends {name: [[at, step, y, world]]}; what a rollback makes of older ones is for the server to say. */
  node.append = (found) => {
    if (!data) return;
    for (const [name, points] of Object.entries(found)) append(data, name, points);
    draw();
  };
  axis.listeners.add(range);
  scope.leave(() => axis.listeners.delete(range));
  scope.listen(window, "lastgood:theme", redo);
  let wide = 0;
  const watch = new ResizeObserver(() => {
    if (Math.abs(node.clientWidth - wide) < 2) return;
    wide = node.clientWidth;
    for (const one of frames) one.plot?.setSize({ width: width(), height: one.chart.tall ?? PLAIN_TALL });
  });
  watch.observe(node);
  scope.leave(() => { watch.disconnect(); for (const one of frames) one.plot?.destroy(); });
  return node;
}

function append(data, name, points) {
  let series = data.series.find((one) => one.name === name);
  if (!series) data.series.push(series = { name, segments: [], band: null });
  for (const [at, step, y, world] of points) {
    let part = latest(series);
    if (!part || part.world !== world) series.segments.push(part = { world, rolled_back: false, at: [], step: [], y: [] });
    if (part.at.length && at <= part.at.at(-1)) continue; // read already
    part.at.push(at);
    part.step.push(step);
    part.y.push(y);
  }
}

/** The segment that goes on: the newest of what is in the weights. */
function latest({ segments }) {
  const kept = segments.filter((part) => part.at.length && !part.rolled_back);
  return kept.reduce((best, part) => (best && best.at.at(-1) > part.at.at(-1) ? best : part), undefined);
}

const pad = (node) => { const one = node.querySelector(".chart"); return one ? parseFloat(getComputedStyle(one).paddingLeft) : 14; };

function frame(chart) {
  const value = h("span.value");
  const plot = h("div.plot");
  const title = chart.unit ? `${chart.title} (${chart.unit})` : chart.title;
  const node = h(`div.chart${chart.tall ? ".tall" : ""}`, { id: `chart-${chart.id}` }, h("div.head", null, h("h3", null, title), value), plot);
  return { chart, node, value, holder: plot, plot: null, odd: [], steps: new Map(), columns: 0 };
}

function update(one, curves, axis, width) {
  const { tables, series, bands } = columns(one, curves);
  const data = tables.length > 1 ? uPlot.join(tables.map(([table]) => table), tables.map(([, modes]) => modes)) : tables[0][0];
  if (one.plot && one.columns === data.length) {
    one.plot.setData(data, false);
    const [min, max] = axis.range;
    one.plot.setScale("x", { min, max });
  } else {
    one.plot?.destroy();
    one.columns = data.length;
    one.plot = new uPlot(options(one, series, bands, axis, width), data, one.holder);
  }
  if (!one.hovered) newest(one, curves);
}

/** Tables to join (each [[x, y…], null modes]), series in their order, and which pair of them is a band. */
function columns(one, curves) {
  const tables = [];
  const series = [{}];
  const bands = [];
  one.odd = [];
  const ink = (name) => () => colour(name);
  curves.forEach(([[, title, tone, dash], found]) => {
    const [xs, now, old] = [[], [], []];
    for (const part of ordered(found.segments)) {
      part.at.forEach((moment, n) => {
        const y = part.y[n];
        if (typeof y === "string") one.odd.push([moment, number(y)]);
        if (part.step?.[n] !== undefined) one.steps.set(moment, part.step[n]);
        xs.push(moment);
        now.push(part.rolled_back || typeof y === "string" ? null : y);
        old.push(part.rolled_back && typeof y !== "string" ? y : null);
      });
      xs.push((part.at.at(-1) ?? 0) + 1e-4); // worlds are never joined by a line
      now.push(null);
      old.push(null);
    }
    tables.push([[xs, now, old], [0, 2, 2]]);
    const points = one.chart.points ? { show: true, size: 5 } : { show: false };
    series.push({ label: title, stroke: ink(tone), width: 1.4, dash, points, spanGaps: false });
    series.push({ label: `${title}, trained again later`, stroke: ink("curve-old"), width: 1.2, points, spanGaps: false });
    if (one.chart.band && found.band?.at.length) {
      const { at: times, high, low, centre } = found.band;
      const floor = times.map((_, n) => low?.[n] ?? centre?.[n] ?? null); // no lower bound: a loss that falls is no fault
      tables.push([[times, high, floor], [0, 1, 1]]);
      bands.push({ series: [series.length, series.length + 1], fill: () => colour("band") });
      const edge = { stroke: ink("curve-old"), width: 0.6, dash: [3, 3], points: { show: false }, spanGaps: true };
      series.push({ label: "usual, at most", ...edge }, { label: "usual, at least", ...edge });
    }
  });
  return { tables, series, bands };
}

/** uPlot wants times to ascend; worlds do, but for those of two clocks. */
function ordered(segments) {
  const parts = segments.filter((part) => part.at.length).sort((a, b) => a.at[0] - b.at[0]);
  const flat = parts.every((part, n) => n === 0 || parts[n - 1].at.at(-1) < part.at[0]);
  if (flat) return parts;
  let last = -Infinity;
  return parts.map((part) => {
    const keep = part.at.map((moment) => moment > last + 2e-4);
    last = Math.max(last, part.at.at(-1));
    const only = (list) => list?.filter((_, n) => keep[n]);
    return { ...part, at: only(part.at), step: only(part.step), y: only(part.y) };
  }).filter((part) => part.at.length);
}

function options(one, series, bands, axis, width) {
  const gutter = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--gutter"));
  const font = "11px " + getComputedStyle(document.body).fontFamily;
  const common = { stroke: () => colour("soft"), font, grid: { stroke: () => colour("grid"), width: 1 }, ticks: { show: false } };
  const [min, max] = axis.range;
  return {
    width, height: one.chart.tall ?? PLAIN_TALL, series, bands, padding: [8, 0, 0, 0], legend: { show: false }, ms: 1e-3,
    cursor: { sync: { key: "run", setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { size: 6 }, dataIdx: (u, n, idx) => nearest(u, n, idx) },
    scales: { x: { time: true, auto: false, range: () => axis.range, min, max }, y: { range: (u, low, high) => bounds(u, low, high, one.chart.zero) } },
    axes: [
      { ...common, size: one.chart.tall ? 22 : 4, splits: (u) => ticks(u.scales.x.min, u.scales.x.max, u.bbox.width / devicePixelRatio).found, values: (u, found) => (one.chart.tall ? found.map((moment) => label(moment, ticks(u.scales.x.min, u.scales.x.max, u.bbox.width / devicePixelRatio).step)) : found.map(() => "")) },
      { ...common, size: gutter, gap: 6, space: 28, values: (u, found) => found.map((value) => brief(value)) },
    ],
    hooks: {
      setSelect: [(u) => selected(u, axis)],
      setCursor: [(u) => pointed(u, one)],
      draw: [(u) => oddities(u, one)],
    },
  };
}

/** The y range of what is in sight; a curve at rest is not blown up. */
function bounds(u, low, high, zero) {
  if (low === null || low === undefined || !Number.isFinite(low)) return [0, 1];
  const room = Math.max((high - low) * 0.08, Math.abs(high) * 0.05) || 0.5;
  return [zero ? Math.min(0, low) : low - room, high + room];
}

/** Columns are joined, so that a curve may have its value beside the cursor, not under it. */
function nearest(u, n, idx) {
  const values = u.data[n];
  if (!n || values[idx] !== null && values[idx] !== undefined) return idx;
  for (let off = 1; off < 12; off++) {
    if (values[idx - off] !== null && values[idx - off] !== undefined) return idx - off;
    if (values[idx + off] !== null && values[idx + off] !== undefined) return idx + off;
  }
  return idx;
}

function selected(u, axis) {
  const { left, width } = u.select;
  if (width > 6) axis.zoom(u.posToVal(left, "x"), u.posToVal(left + width, "x"));
  u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
}

function pointed(u, one) {
  const { idx, left } = u.cursor;
  one.hovered = idx !== null && idx !== undefined && left >= 0;
  if (!one.hovered) return;
  const moment = u.data[0][idx];
  const parts = u.series.slice(1).map((series, n) => {
    const value = u.data[n + 1][nearest(u, n + 1, idx)];
    return value === null || value === undefined ? null : `${series.label} ${number(value)}`;
  });
  const step = one.steps.get(moment);
  put(one.value, [at(moment, time.now()), step === undefined ? null : `step ${number(step)}`, ...parts].filter(Boolean).join(" · "));
}

/** Without a pointer: what the curves say last. */
function newest(one, curves) {
  const parts = curves.map(([[, title], found]) => {
    const part = latest(found);
    return `${title} ${number(part ? part.y.at(-1) : null)}`;
  });
  say(one.value, parts.join(" · "));
}

/** What is not a number has no height: a mark and its word at the top. */
function oddities(u, one) {
  const { ctx } = u;
  const ratio = devicePixelRatio || 1;
  let last = -Infinity;
  ctx.save();
  ctx.fillStyle = colour("bad");
  ctx.font = `${10 * ratio}px sans-serif`;
  ctx.textAlign = "left";
  for (const [moment, word] of one.odd) {
    const x = u.valToPos(moment, "x", true);
    if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
    ctx.fillRect(x - ratio / 2, u.bbox.top, ratio, 8 * ratio);
    if (x - last > 34 * ratio) ctx.fillText(word, x + 3 * ratio, u.bbox.top + 9 * ratio);
    last = x - last > 34 * ratio ? x : last;
  }
  ctx.restore();
}
