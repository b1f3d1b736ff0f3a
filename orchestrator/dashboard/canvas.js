// How is something drawn that has too many parts for elements? On a canvas, in the colours of the style sheet.

import { h } from "./dom.js";

let colours = new Map();
for (const name of ["lastgood:theme"]) addEventListener(name, () => { colours = new Map(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("lastgood:theme")));

/** The value of a custom property of the style sheet, in the theme that is shown. */
export function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || "#888");
  return colours.get(name);
}

/** A context whose unit is the CSS pixel, cleared; `width` and `height` in CSS pixels. */
export function pen(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const wide = Math.max(1, Math.round(width * ratio));
  const high = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== high) canvas.height = high;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** bucket → [colour, texture, what it is]; textures make the kinds of lost time differ without colour. */
export const BUCKETS = {
  productive: ["productive", "", "productive"],
  checkpoint_stall: ["stall", "dots", "waiting for saves"],
  data_stall: ["stall", "level", "waiting for data"],
  degraded: ["degraded", "dots", "with fewer ranks"],
  recomputed: ["recomputed", "back", "trained again later"],
  hung: ["hung", "cross", "hung"],
  detecting: ["detecting", "rise", "failed, not noticed yet"],
  recovering: ["recovering", "rise", "recovering"],
  startup: ["startup", "", "starting"],
  restore: ["restore", "", "restoring"],
  preflight: ["startup", "level", "checking nodes"],
  queued: ["queued", "", "queued"],
  paused: ["paused", "level", "paused"],
  held: ["held", "cross", "held"],
};

/** A rectangle in the colour and texture of a ledger bucket. */
export function block(context, bucket, x, y, width, height) {
  const [name, texture] = BUCKETS[bucket] ?? ["queued", ""];
  context.fillStyle = colour(name);
  context.fillRect(x, y, width, height);
  if (!texture || width < 4) return;
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = context.fillStyle = "rgba(255, 255, 255, .38)";
  context.lineWidth = 1;
  context.beginPath();
  TEXTURES[texture](context, x, y, width, height);
  context.stroke();
  context.restore();
}

const TEXTURES = {
  rise: (c, x, y, w, t) => lines(c, x, y, w, t, -1),
  back: (c, x, y, w, t) => lines(c, x, y, w, t, 1),
  cross: (c, x, y, w, t) => { lines(c, x, y, w, t, 1); lines(c, x, y, w, t, -1); },
  level: (c, x, y, w, t) => { for (let at = y + 3; at < y + t; at += 5) { c.moveTo(x, at + .5); c.lineTo(x + w, at + .5); } },
  dots: (c, x, y, w, t) => { for (let a = x + 3; a < x + w; a += 6) for (let b = y + 3; b < y + t; b += 6) c.rect(a, b, 1, 1); },
};

function lines(c, x, y, width, tall, way) {
  const gap = 6;
  for (let at = Math.floor((x - tall) / gap) * gap; at < x + width + tall; at += gap) {
    c.moveTo(at, way < 0 ? y + tall : y);
    c.lineTo(at + tall, way < 0 ? y : y + tall);
  }
}

/** A small curve of the newest values; what is not finite is a mark at the top. */
export function spark(values, width = 96, height = 24) {
  const finite = values.filter((value) => typeof value === "number");
  const canvas = h("canvas.spark", { role: "img", "aria-label": finite.length ? `loss from ${finite[0].toPrecision(3)} to ${finite.at(-1).toPrecision(3)}` : "no loss yet" });
  const paint = () => {
    const context = pen(canvas, width, height);
    const [low, high] = [Math.min(...finite), Math.max(...finite)];
    const x = (n) => 2 + (n * (width - 6)) / Math.max(1, values.length - 1);
    const y = (value) => height - 4 - ((value - low) / (high - low || 1)) * (height - 8);
    context.strokeStyle = colour("curve");
    context.lineWidth = 1.4;
    context.beginPath();
    let down = false;
    values.forEach((value, n) => {
      if (typeof value !== "number") { down = false; return; }
      if (down) context.lineTo(x(n), y(value)); else context.moveTo(x(n), y(value));
      down = true;
    });
    context.stroke();
    context.fillStyle = colour("bad");
    values.forEach((value, n) => { if (typeof value === "string") context.fillRect(x(n) - 1, 0, 2, 6); });
    context.fillStyle = colour("curve");
    const last = values.length - 1;
    if (typeof values[last] === "number") { context.beginPath(); context.arc(x(last), y(values[last]), 2, 0, 7); context.fill(); }
  };
  paint();
  repaint(canvas, paint);
  return canvas;
}

/** Paints anew when the theme turns, as long as the canvas is on the page. */
export function repaint(canvas, paint) {
  const turned = () => {
    if (canvas.isConnected) paint();
    else removeEventListener("lastgood:theme", turned);
  };
  addEventListener("lastgood:theme", turned);
}

const tip = h("div.tip", { hidden: true, role: "tooltip" });

/** What lies under the pointer, in words; null: nothing. */
export function hint(text, event) {
  if (!tip.isConnected) document.body.append(tip);
  tip.hidden = !text;
  if (!text) return;
  if (tip.textContent !== text) tip.textContent = text;
  const { offsetWidth: wide, offsetHeight: tall } = tip;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - wide - 8))}px`;
  tip.style.top = `${event.clientY + tall + 24 > innerHeight ? event.clientY - tall - 10 : event.clientY + 16}px`;
}
