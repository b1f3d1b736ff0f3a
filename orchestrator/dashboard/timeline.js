// What became of each attempt, and what came between? A lane for each, its worlds in the colours of the ledger.

import { label, ticks } from "./axis.js";
import { BUCKETS, block, colour, hint, pen, repaint } from "./canvas.js";
import { h, put, say, when } from "./dom.js";
import { at, icon, kind, number, span, time } from "./words.js";

const LANE = 30;
const BAR = 20;
const NEAR = 24; // markers nearer than their own width, in pixels, become one that counts
const GONE = { 1: "held", info: "info", warning: "held", error: "held", critical: "held" };
const TONES = { critical: "bad", error: "bad", warning: "warn", info: "idle" };
const SHAPES = { incident: "held", restart: "recover", stop: "stop", resume: "run", pause: "pause", note: "info", drill: "info", checkpoint: "done", policy: "info", supervisor: "wait" };
const RANGES = [["All", null], ["24 h", 86400], ["1 h", 3600], ["15 min", 900]];

/** The element, with `show(timeline, incidentPath)`. */
export function timeline(axis, scope, incidentPath) {
  const marks = h("div.marks", { role: "list", "aria-label": "Incidents and what people did" });
  const scale = h("canvas.axis", { "aria-hidden": "true" });
  const lanes = h("canvas", { role: "img" });
  const frame = h("div.lanes", null, lanes);
  const body = h("div.body", { tabindex: "0", role: "group", "data-keys": "", "aria-label": "Timeline: arrows move, plus and minus zoom, 0 shows all" }, marks, frame, scale);
  const buttons = RANGES.map(([text, last_s]) => h("button.plain", { onclick: () => axis.follow(last_s), "aria-pressed": "false" }, text));
  const legend = h("ul.legend");
  const summary = h("span.quiet");
  const node = h("section.hero", { "aria-label": "Attempt timeline" },
    h("div.head.row.wide", null, h("h2", null, "Attempts"), summary,
      h("div.row", null, buttons, h("button.plain", { onclick: () => axis.scale(0.5), "aria-label": "Zoom in" }, "+"), h("button.plain", { onclick: () => axis.scale(2), "aria-label": "Zoom out" }, "−"))),
    body, legend);
  const view = { data: null, rows: [], width: 0 };
  const gutter = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--gutter"));
  const x = (moment) => { const [from, to] = axis.range; return view.gutter + ((moment - from) / (to - from)) * (view.width - view.gutter); };
  const moment = (px) => { const [from, to] = axis.range; return from + ((px - view.gutter) / (view.width - view.gutter)) * (to - from); };

  function paint() {
    if (!view.data) return;
    for (const row of view.rows) row.lanes.forEach((one) => one.open && grown(one, axis.whole[1]));
    view.width = frame.clientWidth;
    view.gutter = gutter();
    const tall = Math.max(1, view.rows.length) * LANE + 2;
    const context = pen(lanes, view.width, tall);
    grid(context, axis, view, tall, x);
    view.rows.forEach((row, n) => lane(context, row, n * LANE + 5, view, x));
    shade(context, view, tall, x);
    labels(pen(scale, view.width, 22), axis, view, x);
    buttons.forEach((button, n) => button.setAttribute("aria-pressed", String(!axis.fixed && axis.last_s === RANGES[n][1])));
    place(marks, view.data.markers, view, x, incidentPath, axis);
  }

  node.show = (data) => {
    const grew = view.rows.length;
    const atEnd = frame.scrollTop + frame.clientHeight >= frame.scrollHeight - LANE;
    view.data = data;
    view.rows = attempts(data.lanes);
    say(summary, described(view.rows, data.markers));
    lanes.setAttribute("aria-label", spoken(view.rows));
    const buckets = Object.keys(BUCKETS).filter((bucket) => data.lanes.some((one) => one.spans.some((part) => part[2] === bucket)));
    when(legend, buckets, () => explain(legend, buckets));
    paint();
    if (view.rows.length !== grew && atEnd) frame.scrollTop = frame.scrollHeight;
  };
  axis.listeners.add(paint);
  scope.leave(() => axis.listeners.delete(paint));
  const watch = new ResizeObserver(paint);
  watch.observe(frame);
  scope.leave(() => watch.disconnect());
  repaint(lanes, paint);
  drag(lanes, view, moment, axis, paint);
  lanes.addEventListener("pointermove", (event) => hint(under(event, lanes, view, moment), event));
  lanes.addEventListener("pointerleave", (event) => hint(null, event));
  body.addEventListener("keydown", (event) => keys(event, axis));
  return node;
}

/** What goes on has no end yet: it reaches to now. */
function grown(lane, now) {
  if (now <= lane.to) return;
  lane.to = now;
  const last = lane.spans.at(-1);
  if (last) last[1] = now;
}

/** Lanes of the server, one for each world, gathered into one row for each attempt. */
function attempts(lanes) {
  const rows = new Map();
  for (const one of lanes) {
    if (!rows.has(one.attempt)) rows.set(one.attempt, { attempt: one.attempt, lanes: [] });
    rows.get(one.attempt).lanes.push(one);
  }
  const waiting = rows.get(0);
  if (waiting && rows.size > 1) { // what came before the first attempt stands in its lane
    rows.delete(0);
    [...rows.values()][0].lanes.unshift(...waiting.lanes);
  }
  return [...rows.values()];
}

function lane(context, row, y, view, x) {
  context.font = "12px " + getComputedStyle(document.body).fontFamily;
  context.fillStyle = colour("soft");
  context.textBaseline = "middle";
  context.fillText(view.gutter < 50 ? `${row.attempt}` : `attempt ${row.attempt}`, 0, y + BAR / 2 + .5);
  context.save();
  context.beginPath();
  context.rect(view.gutter, 0, view.width - view.gutter, y + LANE);
  context.clip();
  for (const one of row.lanes) {
    for (const [from, to, bucket] of one.spans) {
      const left = x(from);
      const right = x(to);
      if (right < view.gutter || left > view.width) continue;
      block(context, bucket, left, y, Math.max(0.75, right - left), BAR);
    }
    if (one.world) name(context, one, x(one.from), x(one.to), y);
  }
  context.restore();
}

/** Where a world begins, and which one it is where there is room. */
function name(context, one, left, right, y) {
  context.fillStyle = colour("sheet");
  context.fillRect(left, y - 1, 1.5, BAR + 2);
  if (right - left < 34) return;
  const text = `w${one.world}`;
  context.font = "600 11px " + getComputedStyle(document.body).fontFamily;
  const wide = context.measureText(text).width;
  context.fillStyle = colour("sheet");
  context.globalAlpha = .82;
  context.fillRect(Math.max(left, 0) + 4, y + 3, wide + 6, BAR - 6);
  context.globalAlpha = 1;
  context.fillStyle = colour("ink");
  context.fillText(text, left + 7, y + BAR / 2 + .5);
}

function grid(context, axis, view, tall, x) {
  const [from, to] = axis.range;
  context.fillStyle = colour("grid");
  for (const moment of ticks(from, to, view.width - view.gutter).found) context.fillRect(Math.round(x(moment)), 0, 1, tall);
}

function labels(context, axis, view, x) {
  const [from, to] = axis.range;
  const { step, found } = ticks(from, to, view.width - view.gutter);
  context.font = "11px " + getComputedStyle(document.body).fontFamily;
  context.fillStyle = colour("soft");
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const moment of found) if (x(moment) > view.gutter + 16 && x(moment) < view.width - 20) context.fillText(label(moment, step), x(moment), 12);
}

/** What is being selected with the pointer. */
function shade(context, view, tall, x) {
  if (!view.picked) return;
  context.fillStyle = colour("band");
  const [left, right] = view.picked.map(x);
  context.fillRect(left, 0, right - left, tall);
}

function place(marks, markers, view, x, incidentPath, axis) {
  const shown = markers.filter((one) => one.kind !== "restart").map((one) => ({ ...one, x: x(one.at) - view.gutter }));
  const inside = shown.filter((one) => one.x >= -2 && one.x <= view.width - view.gutter + 2).sort((a, b) => a.x - b.x);
  const groups = [];
  for (const one of inside) {
    const group = groups.at(-1);
    if (group && one.x - group[0].x < NEAR) group.push(one);
    else groups.push([one]);
  }
  const sign = groups.map((group) => [Math.round(group[0].x), group.map((one) => [one.at, one.id, one.text])]);
  when(marks, sign, () => put(marks, groups.map((group) => mark(group, incidentPath, axis))));
}

function mark(group, incidentPath, axis) {
  const [one] = group;
  const worst = ["critical", "error", "warning", "info"].find((level) => group.some((each) => each.severity === level)) ?? "info";
  const words = group.map((each) => `${at(each.at, time.now())}  ${each.id ? `${each.id}: ` : ""}${each.text}`).slice(0, 6).join("\n");
  const props = { class: TONES[worst], title: words, role: "listitem" };
  const inner = group.length > 1 ? String(group.length) : icon(SHAPES[one.kind] ?? GONE[worst]);
  const node = group.length === 1 && one.kind === "incident"
    ? h("a", { ...props, href: incidentPath(one.id), "aria-label": words }, inner)
    : h("button", { ...props, "aria-label": words, onclick: () => near(group, axis) }, inner);
  node.style.left = `${Math.max(11, Math.min(group.length > 1 ? (group[0].x + group.at(-1).x) / 2 : one.x, node.ownerDocument.documentElement.clientWidth))}px`;
  return node;
}

/** Zooms until those that stand too close stand apart. */
function near(group, axis) {
  const [first, last] = [group[0].at, group.at(-1).at];
  const pad = Math.max(3, (last - first) * 0.6);
  axis.zoom(first - pad, last + pad);
}

function under(event, canvas, view, moment) {
  if (!view.data || event.buttons) return null;
  const box = canvas.getBoundingClientRect();
  const row = view.rows[Math.floor((event.clientY - box.top) / LANE)];
  const when = moment(event.clientX - box.left);
  const one = row?.lanes.find((each) => each.from <= when && when <= each.to);
  const part = one?.spans.find(([from, to]) => from <= when && when <= to);
  if (!part) return null;
  const [from, to, bucket, mixed] = part;
  const steps = one.to_step === null || one.to_step === undefined ? "" : `\nsteps ${number(one.from_step ?? 0)} to ${number(one.to_step)}`;
  const world = one.world ? `attempt ${one.attempt}, world ${one.world}` : `attempt ${one.attempt}, between worlds`;
  return `${world}${steps}\n${mixed ? "mostly " : ""}${BUCKETS[bucket]?.[2] ?? kind(bucket)}: ${span(to - from)}\n${at(from, time.now())} to ${at(to, time.now())}`;
}

function drag(canvas, view, moment, axis, paint) {
  let begun = null;
  const time = (event) => moment(event.clientX - canvas.getBoundingClientRect().left);
  canvas.addEventListener("pointerdown", (event) => { if (event.button === 0 && event.pointerType === "mouse") { begun = time(event); canvas.setPointerCapture(event.pointerId); } });
  canvas.addEventListener("pointermove", (event) => {
    if (begun === null) return;
    view.picked = [begun, time(event)].sort((a, b) => a - b);
    paint();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (begun === null) return;
    const [from, to] = [begun, time(event)].sort((a, b) => a - b);
    const wide = ((to - from) / (axis.range[1] - axis.range[0])) * view.width;
    begun = view.picked = null;
    if (wide > 6) axis.zoom(from, to);
    else paint();
  });
  canvas.addEventListener("dblclick", () => axis.follow(null));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    axis.scale(event.deltaY > 0 ? 1.25 : 0.8, time(event));
  }, { passive: false });
}

function keys(event, axis) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("a, button")) return;
  const does = {
    ArrowLeft: () => axis.move(-0.2), ArrowRight: () => axis.move(0.2), "+": () => axis.scale(0.5), "=": () => axis.scale(0.5),
    "-": () => axis.scale(2), 0: () => axis.follow(null),
  }[event.key];
  if (!does) return;
  event.preventDefault();
  does();
}

function explain(legend, buckets) {
  put(legend, buckets.map((bucket) => {
    const swatch = h("canvas", { "aria-hidden": "true" });
    const paint = () => block(pen(swatch, 14, 12), bucket, 0, 0, 14, 12);
    paint();
    repaint(swatch, paint);
    return h("li", null, swatch, BUCKETS[bucket][2]);
  }));
}

function described(rows, markers) {
  const worlds = rows.reduce((sum, row) => sum + row.lanes.filter((one) => one.world).length, 0);
  const incidents = markers.filter((one) => one.kind === "incident").length;
  return `${rows.length} attempt${rows.length === 1 ? "" : "s"}, ${worlds} world${worlds === 1 ? "" : "s"}, ${incidents} incident${incidents === 1 ? "" : "s"}`;
}

function spoken(rows) {
  return rows.slice(-5).map((row) => `Attempt ${row.attempt}: ${row.lanes.filter((one) => one.world).map((one) => `world ${one.world} to step ${one.to_step ?? 0}`).join(", ") || "no world"}`).join(". ");
}
