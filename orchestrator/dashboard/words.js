// How are numbers, times and states told to a person? The same everywhere, and never by colour alone.

import { h, say, svg } from "./dom.js";

const NONE = "–";

/** Numbers come as numbers, or as "nan", "inf", "-inf", which JSON has no number for. */
export function number(value, digits = 3) {
  if (value === null || value === undefined) return NONE;
  if (typeof value === "string") return { nan: "NaN", inf: "∞", "-inf": "−∞" }[value] ?? value;
  if (Number.isInteger(value)) return grouped(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(2);
  return size >= 1000 ? grouped(Math.round(value)) : value.toPrecision(digits).replace(/\.?0+$/, "");
}

/** In a narrow margin: 1.27 M. */
export function brief(value) {
  const size = Math.abs(value);
  const [unit, power] = size >= 1e9 ? ["G", 1e9] : size >= 1e6 ? ["M", 1e6] : size >= 1e4 ? ["k", 1e3] : ["", 1];
  return `${number(value / power, 4)}${unit}`;
}

/** As many digits always, so that a value that changes does not jump. */
export function steady(value, digits = 4) {
  return typeof value === "number" && value !== 0 && Math.abs(value) < 10 ** digits && Math.abs(value) >= 1e-3 ? value.toPrecision(digits) : number(value, digits);
}

/** 48210 as 48 210, with thin spaces. */
export function grouped(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A ratio from 0 to 1 as a percentage. */
export function share(value) {
  if (value === null || value === undefined) return NONE;
  return `${(100 * value).toFixed(1)} %`;
}

/** A length of time: two units at most, of one width for one magnitude. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const s = Math.abs(seconds);
  if (s < 1) return `${s.toFixed(2)} s`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`.replace(/ 60 s$/, " 59 s");
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** How long ago, in one unit. */
export function ago(at, now) {
  const s = now - at;
  if (s < -1) return `in ${unit(-s)}`;
  return s < 1.5 ? "now" : `${unit(s)} ago`;
}

function unit(s) {
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 129600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const power = value < 1 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
  return `${number(value / 2 ** (10 * power))} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const whole = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });

/** The wall clock of the reader's zone; with the day where it is not today, and the year where it is not this one. */
export function at(time, now) {
  if (time === null || time === undefined) return NONE;
  const moment = new Date(time * 1000);
  const today = new Date(now * 1000).toDateString() === moment.toDateString();
  const year = moment.getFullYear() === new Date(now * 1000).getFullYear() ? "" : `${moment.getFullYear()} `;
  return today ? clock.format(moment) : `${day.format(moment)} ${year}${clock.format(moment)}`;
}

export function zoned(time) {
  return whole.format(new Date(time * 1000));
}

/** What the clock of the server says: lengths since its times are right even where the reader's clock is not. */
export const time = {
  offset: 0,
  now() {
    return Date.now() / 1000 + this.offset;
  },
  learn(now) {
    if (now) this.offset = now - Date.now() / 1000;
  },
};

/** Absolute and relative; the relative part grows older by itself. */
export function moment(when, { brief = false } = {}) {
  if (when === null || when === undefined) return h("span.quiet", null, NONE);
  const now = time.now();
  const relative = h("span.ago", { data: { at: when } }, ago(when, now));
  const absolute = h("span.at", null, at(when, now));
  const stamp = { datetime: new Date(when * 1000).toISOString(), title: zoned(when) };
  return h(`time${brief ? ".brief" : ""}`, stamp, absolute, " ", relative);
}

setInterval(() => {
  const now = time.now();
  for (const node of document.querySelectorAll(".ago")) say(node, ago(Number(node.dataset.at), now));
}, 1000);

/** Icon paths on a grid of 16: a shape for each state, so that colour only repeats what the shape and word say. */
const SHAPES = {
  wait: "M8 2a6 6 0 100 12A6 6 0 008 2zm0 2.5V8l2.5 2",
  start: "M3 8h8M8 4.5L11.5 8 8 11.5M13.5 3v10",
  run: "M4.5 2.8v10.4L13 8z",
  recover: "M13 8a5 5 0 11-1.6-3.7M13 2v3h-3",
  pause: "M5.5 3v10M10.5 3v10",
  stop: "M3.5 3.5h9v9h-9z",
  held: "M8 2l6 11.5H2zM8 6.2v3.6M8 11.4v.4",
  done: "M2.8 8.4l3.4 3.4 7-7.6",
  cross: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  info: "M8 2a6 6 0 100 12A6 6 0 008 2zM8 7.2v3.8M8 4.6v.4",
  sun: "M8 5a3 3 0 100 6 3 3 0 000-6zM8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8L13 13M13 3l-1.2 1.2M4.2 11.8L3 13",
  pin: "M5 2h6l-1 5 2 2.5H4L6 7zM8 9.5V14",
};

export function icon(shape, cls = "") {
  return svg("svg", { viewBox: "0 0 16 16", class: `icon ${cls}`, "aria-hidden": "true" }, svg("path", { d: SHAPES[shape] }));
}

/** state → [shape, tone, what a person calls it] */
const STATES = {
  PENDING: ["wait", "idle"],
  STARTING: ["start", "busy"],
  RUNNING: ["run", "good"],
  RECOVERING: ["recover", "warn"],
  PAUSED: ["pause", "idle"],
  STOPPING: ["stop", "busy"],
  HELD: ["held", "bad"],
  SUCCEEDED: ["done", "good"],
  STOPPED: ["stop", "idle"],
};
const LEVELS = {
  critical: ["held", "bad"],
  error: ["held", "bad"],
  warning: ["held", "warn"],
  info: ["info", "idle"],
};
const TRUST = {
  good: ["done", "good"],
  verified: ["done", "idle"],
  committed: ["wait", "idle"],
  tainted: ["held", "warn"],
  corrupt: ["cross", "bad"],
};

function badge([shape, tone], word) {
  return h(`span.badge.${tone}`, null, icon(shape), h("span", null, word));
}

export const state = (word) => badge(STATES[word] ?? ["info", "idle"], word);
export const severity = (word) => badge(LEVELS[word] ?? ["info", "idle"], word ?? "unknown");
export const trust = (word) => badge(TRUST[word] ?? ["info", "idle"], word);
export const verdict = (good, word) => badge(good === null ? ["info", "idle"] : good ? ["done", "good"] : ["cross", "bad"], word);
export const attention = (word) => badge(["held", "bad"], word);

/** loss_spike as "loss spike" */
export const kind = (word) => String(word ?? NONE).replaceAll("_", " ");

/** node 0 rank 1, as the command line says it. */
export function where(subject) {
  const known = Object.entries(subject ?? {}).filter(([name, value]) => ["node", "rank", "device"].includes(name) && value !== null);
  return known.map(([name, value]) => `${name} ${value}`).join(" ") || NONE;
}

export const plural = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
